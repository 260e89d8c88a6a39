"""What is said of agents is read only if it fits together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from gymnasium import spaces

from remote_gym import values
from remote_gym.agents import About, build_space, describe_space, read_about, said_of
from remote_gym.errors import ProtocolError

KNOWN = About([("a", 1), ("b", 2)], ["('a', 1)", "('b', 2)"], None, [0, 0], [1, 2], None)


@pytest.mark.parametrize("about", [KNOWN, About(None, [], [3], [], [], {"box": {}})])
def test_it_arrives_as_it_was_said(about: About) -> None:
    assert read_about(values.unpack(values.pack(said_of(about)))) == about


@pytest.mark.parametrize(
    "said",
    [
        None,
        {},
        {**said_of(KNOWN), "more": 1},
        said_of(replace(KNOWN, keys=["a"])),
        said_of(replace(KNOWN, possible=["a", "a"])),
        said_of(replace(KNOWN, possible=[[], {}])),
        said_of(replace(KNOWN, possible=("a", "b"))),  # type: ignore[arg-type]
        said_of(replace(KNOWN, agents=1)),  # type: ignore[arg-type]
        said_of(replace(KNOWN, action=["x", "y"])),  # type: ignore[list-item]
        said_of(replace(KNOWN, observation=[True, 1])),
    ],
)
def test_what_does_not_fit_together_is_refused(said: Any) -> None:
    with pytest.raises(ProtocolError, match="agents"):
        read_about(said)


def test_spaces_arrive_equal_and_sample_the_same() -> None:
    space = spaces.Dict({"x": spaces.Box(-1, 1, (2,)), "mask": spaces.MultiBinary(3)})
    space.seed(4)
    again = build_space(values.unpack(values.pack(describe_space(space))))
    assert again == space
    assert again.sample()["x"].tolist() == space.sample()["x"].tolist()


def test_a_malformed_space_is_the_peers_fault() -> None:
    with pytest.raises(ProtocolError, match="space"):
        build_space({"cube": {}})
