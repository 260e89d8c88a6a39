"""`remote_gym.tianshou.VectorEnv` with `wait_num` or `timeout`: whoever is ready; resets and attributes meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import ToyServer

from remote_gym import EnvironmentRaised
from remote_gym.tianshou import VectorEnv

NUM_ENVS = 4  # two in each of the server's workers


class Gate:
    """Holds steps with action 1 of the toy `gated`, and all in the same worker, until it is opened."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "gate")
        os.mkfifo(self.path)

    def open(self) -> None:
        """Returns once one step goes on."""
        with open(self.path, "wb"):
            pass


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.fixture
def gated(toys: ToyServer, gate: Gate) -> Iterator[Callable[..., VectorEnv]]:
    """Make environments of which the last two, or the first two, can be held back."""
    made: list[VectorEnv] = []

    def make(**options: Any) -> VectorEnv:
        made.append(toys.client(VectorEnv, "gated", {"gate": gate.path}, num_envs=NUM_ENVS, **options))
        return made[-1]

    yield make
    for envs in made:
        envs.close()


def ids(result: tuple[Any, ...]) -> list[int]:
    return [info["env_id"] for info in result[-1]]


def test_a_step_returns_when_wait_num_are_ready(gated: Callable[..., VectorEnv], gate: Gate) -> None:
    envs = gated(wait_num=2)
    assert envs.is_async
    envs.reset()
    result = envs.step([0, 0, 1], [0, 1, 3])
    assert sorted(ids(result)) == [0, 1]
    assert envs.ready_id == [0, 1, 2]
    assert envs.waiting_id == [3]
    assert result[0].tolist() == [[1, 1], [1, 1]]
    gate.open()
    result = envs.step([0], [1])  # two are under way, two are waited for
    assert dict(zip(ids(result), result[0].tolist(), strict=True)) == {1: [2, 2], 3: [1, 1]}
    assert envs.waiting_id == []
    with pytest.raises(gym.error.NoAsyncCallError):
        envs.step(None)


def test_after_the_timeout_it_returns_those_that_are_ready(gated: Callable[..., VectorEnv], gate: Gate) -> None:
    envs = gated(timeout=0.3)
    envs.reset()
    assert sorted(ids(envs.step([0, 0, 0, 1]))) in ([0, 1, 2], [0, 1])
    gate.open()
    while envs.waiting_id:
        envs.step(None)
    assert envs.step([0, 0, 0, 0])[1].tolist() == [2.0] * 4


def test_what_steps_is_not_to_be_touched(gated: Callable[..., VectorEnv], gate: Gate) -> None:
    envs = gated(wait_num=1, timeout=5.0)
    envs.reset()
    envs.step([0, 1], [0, 3])
    assert envs.waiting_id == [3]
    for call in (
        lambda: envs.step([0], [3]),
        lambda: envs.reset(3),
        lambda: envs.reset(),
        lambda: envs.get_env_attr("steps", 3),
        lambda: envs.set_env_attr("steps", 0),
        lambda: envs.seed(1),
    ):
        with pytest.raises(AssertionError, match="environment 3 which is stepping now"):
            call()
    with pytest.raises(RuntimeError, match=r"\[3\] are still stepping"):
        envs.render()
    gate.open()
    assert ids(envs.step(None)) == [3]
    assert envs.get_env_attr("steps") == [1, 0, 0, 1]


def test_resets_and_attributes_of_some_while_others_step(gated: Callable[..., VectorEnv], gate: Gate) -> None:
    envs = gated(wait_num=1)
    envs.reset()
    assert ids(envs.step([0, 1], [0, 2])) == [0]
    observations, infos = envs.reset([1, 0])
    assert observations.tolist() == [[0, 0], [0, 0]]
    assert infos.tolist() == [{}, {}]
    gate.open()
    assert envs.get_env_attr("steps", [1, 0]) == [0, 0]  # has waited for the other one, and kept its result
    assert envs.waiting_id == [2]
    result = envs.step(None)
    assert (ids(result), result[1].tolist()) == ([2], [1.0])


def test_whoever_steps_gets_its_own_transitions(toys: ToyServer) -> None:
    """Five hundred steps of whoever is ready: every environment goes through its own episodes, one step at a time."""
    envs = toys.client(VectorEnv, "counter", num_envs=5, wait_num=2)
    observations, _ = envs.reset(seed=3)
    last = dict(enumerate(observations[:, 1].tolist()))
    ready = np.arange(5)
    for _ in range(500):
        result = envs.step(np.zeros(len(ready), np.int64), ready)
        ready = np.array(ids(result))
        assert len(ready) >= 2 or not envs.waiting_id
        for one, (_, steps) in zip(ready.tolist(), result[0].tolist(), strict=True):
            assert steps == last[one] + 1
            last[one] = steps
        over = ready[result[2] | result[3]]
        if len(over):
            again, infos = envs.reset(over)
            assert again[:, 1].tolist() == [0] * len(over)
            assert all("episodes" in info for info in infos)
            last |= dict.fromkeys(over.tolist(), 0)
    envs.close()


def test_dict_observations(toys: ToyServer) -> None:
    envs = toys.client(VectorEnv, "echo", {"space": "dict"}, num_envs=3, wait_num=2)
    observations, _ = envs.reset(seed=1)
    assert [sorted(one) for one in observations] == [["a", "b"]] * 3
    result = envs.step([{"a": np.zeros(2, np.float32), "b": 1}] * 3)
    assert all(sorted(one) == ["a", "b"] for one in result[0])
    envs.close()


def test_one_that_raises_and_the_others(toys: ToyServer) -> None:
    envs = toys.client(VectorEnv, "failing", num_envs=3, wait_num=2)
    envs.reset()
    envs.set_env_attr("failure", "KeyError", 1)
    raised = []
    for actions in ([0, 1, 0], None):
        try:
            envs.step(actions) if actions or envs.waiting_id else None
        except EnvironmentRaised as error:
            raised.append(error.env_index)
    assert raised == [1]
    while envs.waiting_id:
        assert 1 not in ids(envs.step(None))
    with pytest.raises(EnvironmentRaised, match="environment 2 raised"):
        envs.reset(2, options={"failure": "OSError"})
    assert len(envs.reset()[0]) == 3
    envs.close()


def test_an_interrupt_in_a_reset_loses_nothing(gated: Callable[..., VectorEnv], gate: Gate) -> None:
    """What was begun is waited for, and then begun anew."""
    envs = gated(wait_num=1)
    envs.reset()
    real, interrupted = envs.envs.recv, []

    def recv(timeout: float | None = None) -> Any:
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return real(timeout)

    envs.envs.recv = recv  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        envs.reset([0, 1])
    assert envs.reset([1, 2])[0].shape == (2, 2)
    assert sorted(ids(envs.step([0, 0], [0, 1]))) in ([0], [1], [0, 1])


def test_closing_while_others_step(gated: Callable[..., VectorEnv], gate: Gate) -> None:
    envs = gated(wait_num=1)
    envs.reset()
    envs.step([0, 1], [0, 3])
    envs.close()
    gate.open()
    assert envs.is_closed
