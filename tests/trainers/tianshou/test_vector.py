"""`remote_gym.tianshou.VectorEnv` beside `DummyVectorEnv`: what one gives, the other gives."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import mortal
import numpy as np
import pytest
import torch
import toys as local_toys
from conftest import ServerFactory, ToyServer
from gymnasium.vector import AutoresetMode
from tianshou.data import Batch
from tianshou.env import BaseVectorEnv, DummyVectorEnv, VectorEnvNormObs

from remote_gym import EnvironmentRaised, MisuseError
from remote_gym.tianshou import VectorEnv

TOY_SPACES = ["box f4", "discrete", "multi discrete", "multi binary", "dict", "nested", "text"]


@pytest.fixture
def both(toys: ToyServer) -> Iterator[Callable[..., tuple[VectorEnv, DummyVectorEnv]]]:
    """Make a toy as ours over TLS and as theirs, of this process."""
    made: list[BaseVectorEnv] = []

    def make(toy: str, num_envs: int = 4, kwargs: Any = None, **options: Any) -> tuple[VectorEnv, DummyVectorEnv]:
        ours = toys.client(VectorEnv, toy, kwargs, num_envs=num_envs, **options)
        theirs = DummyVectorEnv([lambda: local_toys.create(toy, **options, **(kwargs or {}))] * num_envs)
        made.extend([ours, theirs])
        return ours, theirs

    yield make
    for envs in made:
        if not envs.is_closed:
            envs.close()


def check_same(ours: Any, theirs: Any, where: str = "") -> None:
    """Equal values, and of the same types but for the numbers that a batch holds as NumPy's."""
    if isinstance(theirs, np.ndarray):
        assert isinstance(ours, np.ndarray), where
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), where
        if theirs.dtype != object:
            np.testing.assert_array_equal(ours, theirs, err_msg=where)
            return
        ours, theirs = ours.tolist(), theirs.tolist()
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in theirs.items():
            check_same(ours[key], value, f"{where}[{key!r}]")
    elif isinstance(theirs, (list, tuple)):
        assert type(ours) is type(theirs), where
        assert len(ours) == len(theirs), where
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            check_same(one, other, f"{where}[{index}]")
    else:
        assert ours == theirs, where


def stepped(envs: BaseVectorEnv, actions: Any, ids: Any = None) -> tuple[Any, ...]:
    """Step; theirs has rewards of the type that the environment returns, ours float64, as any batch of Gymnasium."""
    observations, rewards, *rest = envs.step(actions, ids)
    return observations, rewards.astype(np.float64), *rest


def roll(ours: VectorEnv, theirs: DummyVectorEnv, steps: int, sample: Callable[[np.random.Generator, int], Any]) -> int:
    """Step some of the environments in any order, reset those that are done, and compare all that comes."""
    generator, ended = np.random.default_rng(3), 0
    check_same(ours.reset(seed=5), theirs.reset(seed=5), "reset")
    for step in range(steps):
        count = int(generator.integers(1, len(ours) + 1))
        ids = generator.permutation(len(ours))[:count] if step % 3 else None
        actions = sample(generator, len(ours) if ids is None else count)
        results = [stepped(envs, copy.deepcopy(actions), ids) for envs in (ours, theirs)]
        check_same(*results, f"step {step} of {ids}")
        done = results[1][2] | results[1][3]
        over = (np.arange(len(ours)) if ids is None else ids)[done]
        if len(over):
            ended += len(over)
            check_same(*(envs.reset(over) for envs in (ours, theirs)), f"reset after step {step}")
    return ended


def test_steps_of_any_in_any_order(both: Callable[..., Any]) -> None:
    ours, theirs = both("counter", 5)
    assert roll(ours, theirs, 60, lambda generator, count: generator.integers(0, 2, count)) > 20


@pytest.mark.parametrize("space", TOY_SPACES)
def test_spaces(both: Callable[..., Any], space: str) -> None:
    ours, theirs = both("echo", 3, {"space": space})
    single = local_toys.SPACES[space]()
    single.seed(1)

    def sample(_generator: np.random.Generator, count: int) -> Any:
        rows = [single.sample() for _ in range(count)]
        return np.array(rows) if isinstance(single, gym.spaces.Box) else rows

    for envs in (ours, theirs):
        envs.seed(1)
    observations = [envs.reset(seed=9)[0] for envs in (ours, theirs)]
    check_same(*observations)
    for step in range(20):
        actions = sample(np.random.default_rng(), 3)
        results = [stepped(envs, actions) for envs in (ours, theirs)]
        for one, other in zip(results[0][:4], results[1][:4], strict=True):
            check_same(one, other, f"step {step}")
        said = [[Batch(action=info["action"][0]) for info in result[4]] for result in results]
        check_same(*([plain(one.action) for one in each] for each in said), f"what the environments got in step {step}")
        done = np.flatnonzero(results[1][2] | results[1][3])
        if len(done):
            check_same(*(envs.reset(done)[0] for envs in (ours, theirs)))


def plain(value: Any) -> Any:
    """Return actions as plain Python: a list of ints arrives as NumPy's."""
    if isinstance(value, (dict, Batch)):
        return {key: plain(value[key]) for key in sorted(value.keys())}
    if isinstance(value, (tuple, list)):
        return [plain(element) for element in value]
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def test_actions_of_a_dict_space_as_a_batch(both: Callable[..., Any]) -> None:
    ours, theirs = both("echo", 3, {"space": "dict"})
    for envs in (ours, theirs):
        envs.reset(seed=1)
    actions = Batch(b=np.array([0, 2, 1]), a=np.ones((3, 2), np.float32))
    results = [stepped(envs, actions) for envs in (ours, theirs)]
    for one, other in zip(results[0][:4], results[1][:4], strict=True):
        check_same(one, other)
    assert [plain(info["action"][0]) for info in results[0][4]] == [
        {"a": [1.0, 1.0], "b": value} for value in (0, 2, 1)
    ]


def test_tuples_are_refused_as_locally(both: Callable[..., Any]) -> None:
    ours, theirs = both("echo", 2, {"space": "tuple"})
    for envs in (ours, theirs):
        with pytest.raises(TypeError, match="Tuple observation space is not supported"):
            envs.reset()


def test_one_seed_and_the_very_options_for_each(both: Callable[..., Any]) -> None:
    ours, theirs = both("counter", 3)
    for kwargs in ({"seed": 7}, {}, {"options": {"a": 1}}, {"seed": 2, "options": {}}, {"options": None}):
        check_same(*(envs.reset(**kwargs) for envs in (ours, theirs)), str(kwargs))
        check_same(*(envs.reset([2, 0], **kwargs) for envs in (ours, theirs)), str(kwargs))
        check_same(*(envs.reset(1, **kwargs) for envs in (ours, theirs)), str(kwargs))
        check_same(*(envs.reset(np.array([1]), **kwargs) for envs in (ours, theirs)), str(kwargs))


@pytest.mark.parametrize("seed", [None, 4, [9, 7, 5]])
def test_seeds_of_environments_and_action_spaces(both: Callable[..., Any], seed: Any) -> None:
    ours, theirs = both("gymnasium_env", 3, {"id": "CartPole-v1"})
    assert ours.seed(seed) == theirs.seed(seed)
    if seed is not None:
        drawn = [[space.sample() for space in envs.action_space] for envs in (ours, theirs) for _ in range(9)]
        assert drawn[:9] == drawn[9:]
        check_same(*(envs.step(np.ones(3, np.int64))[:4] for envs in (ours, theirs)))
    check_same(*(envs.reset(seed=1) for envs in (ours, theirs)))


def test_an_environment_that_seeds_itself(serve: ServerFactory, tmp_path: Path) -> None:
    """Tianshou calls a method `seed`, if there is one, and does not reset then."""
    path = tmp_path / "seeding.py"
    path.write_text(SEEDING)
    namespace: dict[str, Any] = {}
    exec(SEEDING, namespace)
    for wrapped in (False, True):
        server = serve(str(path), {"wrapped": wrapped})
        with VectorEnv(server.address, num_envs=2) as ours:
            theirs = DummyVectorEnv([lambda: namespace["create_environment"](wrapped)] * 2)  # noqa: B023
            for envs in (ours, theirs):
                envs.reset()
            assert ours.seed(3) == theirs.seed(3) == ([[3], [4]] if wrapped else [["own", 3], ["own", 4]])
            check_same(*(envs.step(np.zeros(2, np.int64))[:4] for envs in (ours, theirs)))
            theirs.close()


SEEDING = """
import gymnasium as gym
import numpy as np

class Seeding(gym.Env):
    observation_space = gym.spaces.Box(-1, 999, (2,), np.int64)
    action_space = gym.spaces.Discrete(2)
    seeded = -1
    resets = 0

    def seed(self, seed=None):
        self.seeded = seed
        return ["own", seed]

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        return np.array([self.seeded, self.resets]), {}

    def step(self, action):
        return np.array([self.seeded, self.resets]), 0.0, False, False, {}

def create_environment(wrapped):
    return gym.wrappers.OrderEnforcing(Seeding()) if wrapped else Seeding()
"""


def test_attributes(both: Callable[..., Any]) -> None:
    ours, theirs = both("counter", 4)
    for envs in (ours, theirs):
        envs.reset(seed=1)
        envs.reset([1, 2])
        assert envs.get_env_attr("episodes") == [1, 2, 2, 1]
        assert envs.get_env_attr("episodes", 1) == [2]
        assert envs.get_env_attr("episodes", [3, 2]) == [1, 2]
        assert envs.get_env_attr("episodes", np.array([2, 2])) == [2, 2]
        envs.set_env_attr("episodes", 7)
        envs.set_env_attr("episodes", [8], 1)
        envs.set_env_attr("episodes", 9, np.array([3, 0]))
        assert envs.get_env_attr("episodes") == [9, [8], 7, 9]
        with pytest.raises(AttributeError):
            envs.get_env_attr("nothing")
        assert not hasattr(envs, "reward_range")
        assert envs.spec == [None] * 4
    assert ours.action_space == theirs.action_space
    assert ours.observation_space == theirs.observation_space
    assert ours.metadata == theirs.metadata
    assert ours.get_env_attr("action_space", [2, 1])[1] is ours.action_space[1]


def test_length_and_what_collectors_look_at(both: Callable[..., Any]) -> None:
    ours, theirs = both("counter", 3)
    for name in ("env_num", "wait_num", "timeout", "is_async", "is_closed", "waiting_id", "ready_id"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert len(ours) == len(theirs) == 3
    assert isinstance(ours, BaseVectorEnv)
    assert ours.envs.autoreset_mode is AutoresetMode.DISABLED


def test_frames(both: Callable[..., Any]) -> None:
    ours, theirs = both("picture", 3, render_mode="rgb_array")
    for envs in (ours, theirs):
        envs.reset()
        envs.step(np.zeros(2, np.int64), [0, 2])
    check_same(ours.render(), theirs.render())
    assert len(ours.render()) == 3


def test_wrappers_of_theirs(both: Callable[..., Any]) -> None:
    ours, theirs = (VectorEnvNormObs(envs) for envs in both("gymnasium_env", 4, {"id": "CartPole-v1"}))
    for envs in (ours, theirs):
        envs.seed(1)
    check_same(*(envs.reset() for envs in (ours, theirs)))
    for _ in range(8):
        check_same(*(envs.step(np.array([1, 0, 1]), [3, 0, 1]) for envs in (ours, theirs)))
    assert ours.get_obs_rms().mean.tolist() == theirs.get_obs_rms().mean.tolist()


def test_misuse_is_named_and_nothing_sent(both: Callable[..., Any]) -> None:
    ours, theirs = both("counter", 3)
    for envs in (ours, theirs):
        envs.reset(seed=1)
        with pytest.raises(ValueError, match="action must be not-None for non-async"):
            envs.step(None)
        for actions, ids in ((np.zeros(2, np.int64), None), ([0], [0, 1])):
            with pytest.raises(AssertionError):
                envs.step(actions, ids)
        with pytest.raises(IndexError):
            envs.step([0], [3])
    for wrong in ([], "0", 1.5, [True, False, True], [[0]], [0, 0], None):
        with pytest.raises(MisuseError):
            ours.step([0, 0], wrong)
    with pytest.raises(TypeError, match="not 'return_info'"):
        ours.reset(return_info=True)
    assert ours.step([0, 0, 0])[0][:, 1].tolist() == [1, 1, 1]
    ours.step([2, 0, 0])
    with pytest.raises(gym.error.ResetNeeded, match=r"\[0\]"):
        ours.step([0, 0, 0])
    assert ours.step([0, 0], [1, 2])[0][:, 1].tolist() == [3, 3]


@pytest.mark.parametrize(
    "options, error",
    [
        ({"wait_num": 4}, AssertionError),
        ({"wait_num": -1}, AssertionError),
        ({"wait_num": 1.5}, AssertionError),
        ({"timeout": 0}, AssertionError),
        ({"timeout": "1"}, AssertionError),
        ({"autoreset_mode": "NextStep"}, MisuseError),
        ({"batch_size": 2}, MisuseError),
        ({"info_format": "gymnasium-0.29"}, MisuseError),
        ({"array": "torch"}, MisuseError),
        ({"no_such": 1}, TypeError),
        ({"on_worker_failure": "x"}, MisuseError),
    ],
)
def test_wrong_arguments(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options)) if error is not AssertionError else None):
        VectorEnv("127.0.0.1:1", num_envs=3, **options)


def test_after_close(both: Callable[..., Any]) -> None:
    ours, theirs = both("counter", 2)
    for envs in (ours, theirs):
        envs.reset()
        envs.close()
        assert envs.is_closed
        for call in (
            envs.reset,
            envs.seed,
            envs.render,
            lambda envs=envs: envs.step([0, 0]),
            lambda envs=envs: envs.get_env_attr("episodes"),
            lambda envs=envs: envs.set_env_attr("episodes", 1),
            lambda envs=envs: envs.action_space,
        ):
            with pytest.raises(AssertionError, match="cannot be called after close"):
                call()
    ours.close()
    with pytest.raises(gym.error.ClosedEnvironmentError):
        ours.reset()


def test_copies_dial_anew(both: Callable[..., Any]) -> None:
    ours, _ = both("counter", 2)
    ours.reset(seed=1)
    ours.step([0, 0])
    for again in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert isinstance(again, VectorEnv)
        assert again.reset(seed=4)[0].tolist() == [[4, 0], [4, 0]]
        again.close()
    assert ours.step([0, 0])[0][:, 1].tolist() == [2, 2]


def test_an_environment_that_raises(both: Callable[..., Any]) -> None:
    ours, _ = both("failing", 3)
    ours.reset(seed=1)
    ours.set_env_attr("failure", "KeyError", 1)
    with pytest.raises(EnvironmentRaised, match="environment 1 raised") as raised:
        ours.step([0, 1, 0])
    assert isinstance(raised.value, KeyError)
    ours.reset(1)
    assert len(ours.step([0, 0, 0])[0]) == 3


def test_of_this_machine() -> None:
    with VectorEnv.local("CartPole-v1", 2, num_workers=1) as ours:
        theirs = DummyVectorEnv([lambda: gym.make("CartPole-v1")] * 2)
        for envs in (ours, theirs):
            envs.seed(3)
        check_same(*(envs.reset() for envs in (ours, theirs)))
        assert "CartPole-v1" in repr(ours) or "unix:" in repr(ours)
        assert ours.spec[1].id == "CartPole-v1"
        theirs.close()


def test_several_servers(serve: ServerFactory) -> None:
    addresses = [serve("CartPole-v1", num_workers=1).address for _ in range(2)]
    theirs = DummyVectorEnv([lambda: gym.make("CartPole-v1")] * 5)
    with VectorEnv(addresses, num_envs=5) as ours:
        for envs in (ours, theirs):
            envs.seed(3)
        roll(ours, theirs, 90, lambda generator, count: generator.integers(0, 2, count))
    theirs.close()


@pytest.mark.parametrize("make", [torch.tensor, list, lambda actions: [torch.tensor(action) for action in actions]])
def test_actions_that_are_no_arrays(both: Callable[..., Any], make: Callable[[Any], Any]) -> None:
    ours, theirs = both("gymnasium_env", 3, {"id": "CartPole-v1"})
    for envs in (ours, theirs):
        envs.seed(3)
    results = ours.step(make([1, 0, 1])), theirs.step(np.array([1, 0, 1]))
    for one, other in zip(results[0][:4], results[1][:4], strict=True):
        check_same(one, other)


@pytest.mark.parametrize("wait_num", [None, 2])
def test_a_worker_that_dies(serve: ServerFactory, wait_num: int | None) -> None:
    """Its episodes end truncated, flagged, and a reset begins new ones."""
    server = serve(str(Path(mortal.__file__)), num_workers=2, restart_budget=None)
    with VectorEnv(server.address, num_envs=4, wait_num=wait_num) as envs:
        envs.reset(seed=1)
        infos: dict[int, Any] = {}
        with pytest.warns(UserWarning, match="were lost: killed by SIGKILL"):
            result = envs.step([0, 0, 0, mortal.DIE])
            while len(infos) < 4:
                for truncated, info in zip(result[3], result[4], strict=True):
                    infos[info["env_id"]] = truncated, info
                result = envs.step(None) if envs.waiting_id else result
        lost = [one for one, (truncated, info) in infos.items() if truncated and info["remote_gym"]["lost"]]
        assert sorted(lost) == [2, 3]  # those of the worker
        observations, _ = envs.reset(lost)
        assert [one["count"] for one in observations] == [0, 0]
        while len(envs.ready_id) < 4:
            envs.step(None)
        envs.step([0] * 4)


def test_without_tianshou() -> None:
    code = "import sys; sys.modules['tianshou'] = None; import remote_gym.tianshou"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode != 0
    assert "ImportError: remote_gym.tianshou needs Tianshou: pip install" in done.stderr
