"""The first promise: over TLS, a remote environment is bit for bit the local one. The oracle is Gymnasium itself.

``pytest --full`` compares 2,000 steps of 64 environments each; by default it is fewer of both.
"""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import toys as toy_module
from conftest import Certificates, ServerFactory, ToyServer
from gymnasium.vector import SyncVectorEnv
from sameness import assert_same

from remote_gym import RemoteEnvironment, RemoteVectorEnv

MODES = ["NextStep", "SameStep", "Disabled"]


def latest_ids(package: str) -> list[str]:
    """Ids of Gymnasium's own environments in `package`, each in its newest version."""
    newest: dict[str, Any] = {}
    for spec in gym.registry.values():
        if str(spec.entry_point).startswith(f"gymnasium.envs.{package}."):
            newest[spec.name] = max(newest.get(spec.name, spec), spec, key=lambda one: one.version)
    return sorted(spec.id for spec in newest.values())


BUILT_IN = [*latest_ids("classic_control"), *latest_ids("toy_text")]


def test_the_list_of_environments() -> None:
    names = {id.split("-")[0] for id in BUILT_IN}
    assert names >= {"Acrobot", "CartPole", "MountainCar", "MountainCarContinuous", "Pendulum"}
    assert names >= {"Blackjack", "CliffWalking", "FrozenLake", "Taxi"}


@pytest.fixture
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    """Environments and steps."""
    return (64, 2_000) if request.config.getoption("--full") else (8, 250)


@contextlib.contextmanager
def closing(*envs: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for env in envs:
            env.close()


def local(make: Any, num_envs: int, **options: Any) -> SyncVectorEnv:
    return SyncVectorEnv([make] * num_envs, **options)


def local_toy(toy: str, num_envs: int, mode: str = "NextStep", **kwargs: Any) -> SyncVectorEnv:
    return SyncVectorEnv(
        [lambda env_id=env_id: toy_module.create(toy, env_id=env_id, **kwargs) for env_id in range(num_envs)],
        autoreset_mode=mode,
    )


def compare_steps(remote: Any, oracle: Any, steps: int, seed: Any = 42) -> dict[str, int]:
    """Step both with the same actions; return how often episodes ended, by kind."""
    assert remote.single_observation_space == oracle.single_observation_space
    assert remote.single_action_space == oracle.single_action_space
    assert remote.observation_space == oracle.observation_space
    assert remote.action_space == oracle.action_space
    assert_same(remote.reset(seed=seed), oracle.reset(seed=seed), "reset")
    oracle.action_space.seed(7)
    ends = {"terminated": 0, "truncated": 0}
    for number in range(steps):
        actions = oracle.action_space.sample()
        ours, theirs = remote.step(actions), oracle.step(actions)
        assert_same(ours, theirs, f"step {number}")
        ends["terminated"] += int(ours[2].sum())
        ends["truncated"] += int(ours[3].sum())
        if remote.metadata["autoreset_mode"].value == "Disabled" and (over := ours[2] | ours[3]).any():
            result = [env.reset(options={"reset_mask": over.copy()}) for env in (remote, oracle)]
            assert_same(*result, f"reset after step {number}")
    return ends


@pytest.mark.timeout(600)
@pytest.mark.parametrize("id", BUILT_IN)
def test_built_in_environments(toys: ToyServer, id: str, size: tuple[int, int]) -> None:
    num_envs, steps = size
    remote = toys.vector("gymnasium_env", num_envs, {"id": id})
    oracle = local(lambda: gym.make(id), num_envs)
    with closing(remote, oracle):
        compare_steps(remote, oracle, steps)
        assert remote.spec == gym.make(id).spec


@pytest.mark.peer
@pytest.mark.timeout(600)
@pytest.mark.parametrize("id", ["HalfCheetah-v5", "Hopper-v5"])
def test_mujoco(toys: ToyServer, id: str, size: tuple[int, int]) -> None:
    pytest.importorskip("mujoco")
    num_envs, steps = size
    remote = toys.vector("gymnasium_env", num_envs, {"id": id})
    oracle = local(lambda: gym.make(id), num_envs)
    with closing(remote, oracle):
        compare_steps(remote, oracle, steps if num_envs > 8 else 100)
        assert_same(remote.reset(), oracle.reset(), "reset without seed goes on with the same generators")


@pytest.mark.peer
@pytest.mark.timeout(1800)
def test_ale(serve: ServerFactory, certificates: Certificates, size: tuple[int, int]) -> None:
    pytest.importorskip("ale_py")
    entrypoint = "ale_py:ALE/Breakout-v5"
    server = serve(entrypoint, {"frameskip": 4}, server_credentials_paths=certificates.server)
    num_envs, steps = size if size[0] > 8 else (4, 60)
    remote = RemoteVectorEnv(server.address, num_envs=num_envs, client_credentials_paths=certificates.client)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = local(lambda: gym.make(entrypoint, frameskip=4), num_envs)
    with closing(remote, oracle):
        compare_steps(remote, oracle, steps)


def test_time_limit_truncates(toys: ToyServer) -> None:
    remote = toys.vector("gymnasium_env", 2, {"id": "Pendulum-v1", "max_episode_steps": 5})
    with closing(remote):
        remote.reset(seed=0)
        results = [remote.step(np.zeros((2, 1), np.float32)) for _ in range(6)]
        assert [result[3].tolist() for result in results] == [[False, False]] * 4 + [[True, True]] + [[False, False]]
        assert not any(result[2].any() for result in results)


# A single environment: also the types.


@pytest.mark.parametrize("id", BUILT_IN)
def test_single_environment_has_the_local_types(toys: ToyServer, id: str) -> None:
    remote, oracle = toys.single("gymnasium_env", {"id": id}), gym.make(id)
    with closing(remote, oracle):
        for seed in (3, None):
            assert_same(remote.reset(seed=seed), oracle.reset(seed=seed), "reset")
            oracle.action_space.seed(1)
            for number in range(60):
                action = oracle.action_space.sample()
                ours, theirs = remote.step(action), oracle.step(action)
                assert_same(ours, theirs, f"step {number}")
                if theirs[2] or theirs[3]:
                    assert_same(remote.reset(), oracle.reset(), f"reset after step {number}")


def test_examples_of_local_types(toys: ToyServer) -> None:
    lake, pendulum = (toys.single("gymnasium_env", {"id": id}) for id in ("FrozenLake-v1", "Pendulum-v1"))
    with closing(lake, pendulum):
        assert type(lake.reset(seed=1)[0]) is int
        pendulum.reset(seed=1)
        assert type(pendulum.step(np.zeros(1, np.float32))[1]) is np.float64


@pytest.mark.parametrize("space", toy_module.SPACES)
def test_single_environment_of_every_space(toys: ToyServer, space: str) -> None:
    remote, oracle = toys.single("echo", {"space": space}), toy_module.create("echo", space=space)
    with closing(remote, oracle):
        assert_same(remote.reset(seed=5), oracle.reset(seed=5), "reset")
        oracle.action_space.seed(1)
        for number in range(4):
            action = oracle.action_space.sample()
            assert_same(remote.step(action), oracle.step(action), f"step {number}")


# Every kind of space, as observations and as actions.


@pytest.mark.parametrize("space", list(toy_module.SPACES))
def test_every_space(toys: ToyServer, space: str) -> None:
    remote, oracle = toys.vector("echo", 3, {"space": space}), local_toy("echo", 3, space=space)
    with closing(remote, oracle):
        ends = compare_steps(remote, oracle, 15)
        assert min(ends.values()) > 0, "the test means to see both ends"


# Seeds, options, masks and modes.


@pytest.mark.parametrize(
    "seed", [0, 2**31 - 2, np.int64(12), [1, 2, 3], [None, 5, None], (4, 4, 4), np.array([7, 8, 9])]
)
def test_seeds(toys: ToyServer, seed: Any) -> None:
    remote, oracle = toys.vector("echo", 3, {"space": "box f8"}), local_toy("echo", 3, space="box f8")
    theirs = [None if one is None else int(one) for one in seed] if hasattr(seed, "__len__") else int(seed)
    with closing(remote, oracle):
        for env in (remote, oracle):
            env.reset(seed=[11, 12, 13])
        assert_same(remote.reset(seed=seed), oracle.reset(seed=theirs), "seeded reset")
        assert_same(remote.reset(seed=None), oracle.reset(seed=None), "reset that goes on")


def test_options_reach_every_environment(toys: ToyServer) -> None:
    options = {"goal": (1, 2.5), "name": "x", "weights": np.arange(3), "nested": {"a": [None, True]}}
    remote, oracle = toys.vector("echo", 3, {"space": "discrete"}), local_toy("echo", 3, space="discrete")
    with closing(remote, oracle):
        assert_same(remote.reset(seed=1, options=options), oracle.reset(seed=1, options=dict(options)), "reset")
        assert list(options) == ["goal", "name", "weights", "nested"]
        assert_same(remote.reset(seed=1, options={}), oracle.reset(seed=1, options={}), "empty options are no None")


@pytest.mark.parametrize("mode", MODES)
def test_autoreset_modes(toys: ToyServer, mode: str) -> None:
    remote = toys.vector("counter", 5, autoreset_mode=mode)
    oracle = local_toy("counter", 5, mode)
    with closing(remote, oracle):
        ends = compare_steps(remote, oracle, 40)
        assert min(ends.values()) > 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("space", ["discrete", "nested", "tuple", "box f2"])
def test_autoreset_modes_with_spaces(toys: ToyServer, mode: str, space: str) -> None:
    remote = toys.vector("echo", 3, {"space": space}, autoreset_mode=mode)
    oracle = local_toy("echo", 3, mode, space=space)
    with closing(remote, oracle):
        compare_steps(remote, oracle, 15)


@pytest.mark.parametrize("mode", MODES)
def test_reset_mask_in_the_middle_of_episodes(toys: ToyServer, mode: str) -> None:
    remote, oracle = (
        toys.vector("counter", 4, {"length": 6}, autoreset_mode=mode),
        local_toy("counter", 4, mode, length=6),
    )
    random = np.random.default_rng(3)
    with closing(remote, oracle):
        assert_same(remote.reset(seed=1), oracle.reset(seed=1))
        for number in range(60):
            actions = (random.random(4) < 0.2).astype(np.int64) * 2
            ours, theirs = remote.step(actions), oracle.step(actions)
            assert_same(ours, theirs, f"step {number}")
            mask = random.random(4) < 0.3
            if mode == "Disabled":
                mask |= theirs[2] | theirs[3]
            if mask.any():
                seed = [None, int(random.integers(100)), None, 3] if random.random() < 0.5 else None
                results = [
                    env.reset(seed=seed, options={"reset_mask": mask.copy(), "x": number}) for env in (remote, oracle)
                ]
                assert_same(*results, f"masked reset after step {number}")


def test_reset_mask_leaves_the_options_as_they_are(toys: ToyServer) -> None:
    options = {"reset_mask": np.array([True, False, False])}
    with closing(remote := toys.vector("counter")):
        remote.reset()
        remote.reset(options=options)
        assert list(options) == ["reset_mask"]


@pytest.mark.parametrize(
    "mask",
    [
        [True, False, False],
        np.ones(2, np.bool_),
        np.ones(3, np.int64),
        np.zeros(3, np.bool_),
        np.ones((3, 1), np.bool_),
    ],
)
def test_wrong_reset_masks_raise_what_they_raise_locally(toys: ToyServer, mask: Any) -> None:
    remote, oracle = toys.vector("counter"), local_toy("counter", 3)
    with closing(remote, oracle):
        with pytest.raises((TypeError, ValueError)) as theirs:
            oracle.reset(options={"reset_mask": mask})
        with pytest.raises(theirs.type, match="reset_mask"):
            remote.reset(options={"reset_mask": mask})
        remote.reset()


def test_same_step_final_observation_of_an_environment_that_reuses_its_buffer(toys: ToyServer) -> None:
    with closing(remote := toys.vector("same_buffer", 2, autoreset_mode="SameStep")):
        remote.reset()
        results = [remote.step(np.zeros(2, np.int64)) for _ in range(3)]
        assert results[2][0].tolist() == [[-1] * 3] * 2
        assert [final.tolist() for final in results[2][4]["final_obs"]] == [[3] * 3] * 2


# Who owns the arrays.


def arrays_in(value: Any) -> list[np.ndarray[Any, Any]]:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple):
        return [array for item in value for array in arrays_in(item)]
    return [value] if isinstance(value, np.ndarray) else []


@pytest.mark.parametrize("space", ["box f4", "nested"])
@pytest.mark.parametrize("copy", [True, False])
def test_arrays_never_change_later(toys: ToyServer, space: str, copy: bool) -> None:
    remote = toys.vector("echo", 3, {"space": space}, copy=copy)
    with closing(remote):
        given: list[np.ndarray[Any, Any]] = []
        remembered: list[bytes] = []
        for number in range(12):
            result: Any = remote.step(remote.action_space.sample()) if number % 5 else remote.reset(seed=number)
            if number == 7:
                result = remote.reset(options={"reset_mask": np.array([True, False, True])})
            arrays = arrays_in(result)
            for array in arrays_in(result[0]):
                assert array.flags.writeable is copy
            given += arrays
            remembered += [array.tobytes() for array in arrays]
        del result, arrays
    gc.collect()
    assert [array.tobytes() for array in given] == remembered


def test_copies_are_the_callers_own(toys: ToyServer) -> None:
    with closing(remote := toys.vector("counter")):
        observations, _ = remote.reset(seed=1)
        kept = observations.copy()
        observations[:] = 77
        masked, _ = remote.reset(options={"reset_mask": np.array([True, False, False])})
        assert masked[1:].tolist() == kept[1:].tolist()
    single = toys.single("counter")
    with closing(single):
        observation, _ = single.reset(seed=1)
        observation[:] = 3
        assert RemoteEnvironment.__mro__[1] is gym.Env
