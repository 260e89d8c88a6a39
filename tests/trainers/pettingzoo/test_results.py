"""What servers say of agents is checked: none of their words becomes more than a ProtocolError."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from remote_gym import ProtocolError
from remote_gym.agents import AGENTS, INFOS, LIVE, OBSERVED, REWARDS, About, said_of
from remote_gym.pettingzoo import RemoteParallelEnv
from remote_gym.pettingzoo.results import AgentResults

ALL = np.array([True, True])
GOOD: dict[str, Any] = {LIVE: np.ones((2, 3), np.bool_), f"_{LIVE}": ALL}


@pytest.mark.parametrize(
    "infos",
    [
        {**GOOD, LIVE: np.ones((2, 2), np.bool_)},
        {**GOOD, LIVE: [True]},
        {**GOOD, LIVE: np.full((2, 3), "x")},
        {**GOOD, f"_{LIVE}": None},
        {**GOOD, f"_{LIVE}": np.array([True] * 5)},
        {**GOOD, INFOS: np.array([{}, {}]), f"_{INFOS}": ALL},
        {**GOOD, INFOS: [[{}, {}, 3]] * 2, f"_{INFOS}": ALL},
        {**GOOD, INFOS: [[{}]] * 2, f"_{INFOS}": ALL},
        {**GOOD, "remote_gym": 3, "_remote_gym": ALL},
    ],
)
def test_begun_and_stepped(infos: Any) -> None:
    for read in (lambda results: results.begun(infos), lambda results: results.stepped(~ALL, infos)):
        with pytest.raises(ProtocolError):
            read(AgentResults(["a", "b", "c"], 2))


@pytest.mark.parametrize(
    "more",
    [
        {"final_info": 3},
        {"final_info": {REWARDS: np.ones((2, 4)), f"_{REWARDS}": ALL}},
        {"final_obs": None, "_final_obs": ALL},
        {"final_obs": [{}, {}], "_final_obs": ALL, "final_info": {OBSERVED: GOOD[LIVE], f"_{OBSERVED}": ALL}},
        {REWARDS: np.ones((2, 3)), f"_{REWARDS}": "x"},
    ],
)
def test_stepped(more: Any) -> None:
    results = AgentResults(["a", "b", "c"], 2)
    results.begun(GOOD)
    with pytest.raises(ProtocolError):
        results.stepped(~ALL, {**GOOD, **more})


def test_what_is_left_out_is_as_usual() -> None:
    results = AgentResults(["a", "b"], 2)
    assert results.begun({}) == [{}] * 4
    assert results.live.all()
    infos = {LIVE: np.array([[True, False], [False, False]]), f"_{LIVE}": np.array([True, False])}
    rewards, terminations, truncations, rows = results.stepped(~ALL, infos)
    assert not (rewards.any() or terminations.any() or truncations.any())
    assert results.live.tolist() == [[True, False], [True, True]]
    assert rows == [{}] * 4
    _, terminations, _, _ = results.stepped(~ALL, infos)
    assert terminations.tolist() == [[False, True], [False, False]]
    results.begun({}, np.array([False, True]))
    assert results.live.tolist() == [[True, False], [True, True]]
    results.begun({}, np.array([True, False]))
    assert results.live.all()


class Server:
    """What a `RemoteEnvironment` returns for a server that says what it likes."""

    render_mode = None
    observation_space = action_space = spaces.Dict([("a", spaces.Discrete(2))])

    def __init__(self, about: Any, reset: Any = None, step: Any = None, space: Any = None) -> None:
        self.metadata = {AGENTS: about}
        self._reset, self._step, self._space = reset, step, space

    def reset(self, **_: Any) -> Any:
        return self._reset

    def step(self, _: Any) -> Any:
        return self._step

    def get_wrapper_attr(self, _: str) -> Any:
        return lambda *_: self._space


ABOUT = said_of(About(["a"], ["a"], None, [0], [1], None))


def client(server: Server) -> RemoteParallelEnv:
    made = RemoteParallelEnv.__new__(RemoteParallelEnv)
    made._begin(server, False)  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize("about", [3, {}, {**ABOUT, "keys": ["b"]}, {**ABOUT, "state": {"cube": {}}}])
def test_descriptions(about: Any) -> None:
    with pytest.raises(ProtocolError):
        client(Server(about)).reset()


@pytest.mark.parametrize("answer", [(1, {}), ({}, 1), ({}, {}), ({}, {AGENTS: 3}), (None, {AGENTS: []})])
def test_resets(answer: Any) -> None:
    with pytest.raises(ProtocolError):
        client(Server(ABOUT, answer)).reset()


@pytest.mark.parametrize(
    "answer",
    [
        (1, {}, {}, {}, {}),
        ({}, 0.0, False, False, {"remote_gym": 1, AGENTS: []}),
        ({}, {}, {}, 1, {AGENTS: []}),
        ({}, {}, [], {}, {AGENTS: []}),
        (np.zeros(2), 0.0, False, True, {"remote_gym": {"lost": True}}),
    ],
)
def test_steps(answer: Any) -> None:
    env = client(Server(ABOUT, ({"a": 1}, {AGENTS: ["a"]}), answer))
    env.reset()
    with pytest.raises(ProtocolError):
        env.step({"a": 1})


@pytest.mark.parametrize("space", [None, [1], ["x", {}], [1, {}], [1, {"cube": {}}]])
def test_spaces(space: Any) -> None:
    with pytest.raises(ProtocolError):
        client(Server(ABOUT, space=space)).action_space("b")
