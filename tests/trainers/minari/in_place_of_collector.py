"""A pytest plugin for Minari's own tests: `Recorder`, over one hosted environment, in the place of its `DataCollector`.

See `test_its_own_tests.py`. Entrypoint too: the hosted environments are those of Minari's tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector.utils import concatenate, create_empty_array, iterate

from remote_gym import RemoteEnvironmentServer, RemoteVectorEnv, create_remote_environment_server
from remote_gym.recording import Recorder


class Endless(gym.Wrapper[Any, Any, Any, Any]):
    """Does not say that its episode is over: DataCollector's test goes on stepping, which no batch may."""

    def step(self, action: Any) -> Any:
        observation, reward, _, _, info = self.env.step(action)
        return observation, reward, False, False, info


def create_environment(id: str, max_episode_steps: int, endless: bool) -> gym.Env[Any, Any]:
    """What is hosted: the environment that Minari's tests know by this id."""
    if id not in gym.registry:
        gym.register(id, entry_point=f"tests.common:{id.partition('-v')[0]}", max_episode_steps=5)
    env = gym.make(id, max_episode_steps=max_episode_steps)
    return Endless(env) if endless else env


class Collector(gym.Env[Any, Any]):
    """What Minari's tests call of `DataCollector`."""

    server: RemoteEnvironmentServer

    def __init__(self, env: gym.Env[Any, Any], step_data_callback: Any = None, **options: Any) -> None:
        assert env.spec is not None
        self.action_space = env.action_space
        kwargs = {"id": env.spec.id, "max_episode_steps": env.spec.max_episode_steps}
        kwargs["endless"] = step_data_callback is not None
        args = {"entrypoint_kwargs": kwargs}
        self.envs = RemoteVectorEnv(self.server.address, num_envs=1, remote_args=args, autoreset_mode="Disabled")
        self.recorder = Recorder(self.envs, step_data_callback, spec=env.spec, **options)
        self.create_dataset = self.recorder.create_dataset
        self.close = self.recorder.close  # type: ignore[method-assign]

    def _only(self, observations: Any) -> Any:
        return next(iter(iterate(self.envs.observation_space, observations)))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observations, infos = self.recorder.reset(seed=seed, options=options)
        return self._only(observations), infos

    def step(self, action: Any) -> Any:
        space = self.envs.single_action_space
        actions = concatenate(space, (action,), create_empty_array(space, 1))
        observations, rewards, terminations, truncations, infos = self.recorder.step(actions)
        return self._only(observations), rewards[0], bool(terminations[0]), bool(truncations[0]), infos


@pytest.fixture(scope="session", autouse=True)
def hosting() -> Iterator[None]:
    args = {"entrypoint": __file__}
    with create_remote_environment_server(args, port=0, num_workers=1, allow_client_kwargs="*") as Collector.server:
        yield


@pytest.fixture(autouse=True)
def in_its_place(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(request.module, "DataCollector", Collector)
