"""Whether what a server tells when it opens a session may be true."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from faking import asked, opened
from gymnasium import spaces

from remote_gym import ProtocolError, RemoteGymError
from remote_gym.client import opened as module
from remote_gym.client.opened import check_lease, check_opened, footprint, read_space, shown_space
from remote_gym.spaces import describe

ASKED = replace(asked(3), protocol_min=2, protocol_max=3)
HONEST = replace(opened(3), protocol=2)


@pytest.mark.parametrize("fields", [{}, {"protocol": 3}, {"lease_seconds": 0.0}, {"server_epoch": b""},
                                    {"render_mode": "rgb_array"}, {"env_ids": [7, 7, 7]}])  # fmt: skip
def test_what_is_honest(fields: dict[str, Any]) -> None:
    check_opened(replace(HONEST, **fields), ASKED)


@pytest.mark.parametrize(
    "fields, match",
    [
        ({"protocol": 1}, "protocol version 1, which was not offered"),
        ({"protocol": 4}, "protocol version 4"),
        ({"session_id": b"s" * 15}, "session id has 15 bytes, not 16"),
        ({"token": b""}, "token has 0 bytes, not 32"),
        ({"token": b"t" * 33}, "token has 33 bytes"),
        ({"server_epoch": b"e" * 65}, "server epoch has 65 bytes"),
        ({"env_ids": [0, 1]}, "2 environments, 3 were asked for"),
        ({"env_ids": range(4)}, "4 environments"),
        ({"render_mode": "x" * 10_000}, "render mode has 10,000 characters"),
        ({"lease_seconds": -1.0}, "a lease of -1.0 seconds"),
    ],
)
def test_what_cannot_be(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(ProtocolError, match=match):
        check_opened(replace(HONEST, **fields), ASKED)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, -0.1])
def test_a_lease_is_a_number_of_seconds(seconds: float) -> None:
    with pytest.raises(ProtocolError, match="a lease of"):
        check_lease(seconds)
    check_lease(300.0)


BOX = spaces.Box(-1, 1, (100,), np.float64)
NESTED: dict[str, tuple[spaces.Space[Any], int]] = {
    "Box": (BOX, 2 * 800 + 2 * 100),
    "MultiDiscrete": (spaces.MultiDiscrete([2] * 100), 2 * 800),
    "MultiBinary": (spaces.MultiBinary((10, 10)), 400),
    "Text": (spaces.Text(5, charset="abc"), 1_200),
    "Discrete": (spaces.Discrete(5), 0),
    "Sequence": (spaces.Sequence(BOX), 1_800),
    "Graph": (spaces.Graph(BOX, BOX), 2 * 2 * 1_800),  # a Graph holds each of its spaces twice
    "Graph without edges": (spaces.Graph(BOX, None), 2 * 1_800),
    "Tuple": (spaces.Tuple([BOX, spaces.Tuple([BOX])]), 2 * 1_800),
    "OneOf": (spaces.OneOf([BOX, spaces.Discrete(2)]), 1_800),
    "Dict": (spaces.Dict({"a": BOX, "b": spaces.Dict({"c": BOX})}), 2 * 1_800),
}


@pytest.mark.parametrize("name", NESTED)
def test_what_a_space_takes_with_all_that_is_in_it(name: str) -> None:
    """Besides 1,000 bytes for each of its spaces."""
    space, arrays = NESTED[name]
    assert arrays < footprint(space) <= arrays + 5_000


@pytest.mark.parametrize("name", NESTED)
def test_a_space_comes_as_it_was(name: str) -> None:
    space, _ = NESTED[name]
    data = describe(space)
    read = read_space(data, 10)
    assert read == space and shown_space(data, read) is read


def test_a_space_fits_as_often_as_there_are_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    data = describe(BOX)
    monkeypatch.setattr(module, "MAX_BATCH_BYTES", 10 * footprint(BOX))
    read_space(data, 10)
    with pytest.raises(ProtocolError, match=r"a space that takes \d\d,\d{3} bytes for 11 environments"):
        read_space(data, 11)


@pytest.mark.parametrize(
    "data",
    [
        {"box": {"dtype": "<f4", "shape": [2**40], "low": bytes(4), "high": bytes(4)}},
        {"box": {"dtype": "|O", "shape": [1], "low": bytes(8), "high": bytes(8)}},
        {"discrete": {"dtype": "<i8", "n": bytes(8), "start": bytes(8)}},
        {},
    ],
)
def test_what_is_no_space(data: Any) -> None:
    with pytest.raises(RemoteGymError):
        read_space(data, 1)
