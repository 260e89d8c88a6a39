"""Actions arrive as given: an environment gets the type, dtype and shape that it would get locally.

The toy `echo` says in its info what it was given. In a batch `SyncVectorEnv` is the oracle, alone the toy itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import toys as toy_module
from conftest import ServerFactory, ToyServer
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from sameness import assert_same
from toys import SPACES

from remote_gym import RemoteEnvironment, RemoteVectorEnv
from remote_gym.errors import MisuseError

MODES = ["NextStep", "SameStep", "Disabled"]

FORMS: dict[str, Callable[[Any], Any]] = {
    **{
        dtype: lambda array, dtype=dtype: np.asarray(array).astype(dtype)[()]
        for dtype in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">f4", ">i8", "g")
    },
    "list": lambda array: array.tolist(),
    "array": np.array,
    "list of rows": lambda array: list(array) if np.ndim(array) else array,
    "tuple": lambda array: tuple(array) if np.ndim(array) else array,
    "floats": lambda array: np.asarray(array, np.float64).tolist(),
    "bools": lambda array: np.asarray(array, np.bool_).tolist(),
    "another order in memory": lambda array: np.asfortranarray(array) if np.ndim(array) else array,
    "a huge number": lambda array: np.full(np.shape(array), 2**70).tolist(),
}
"""What a caller may pass for the numbers of a sample."""


def formed(space: spaces.Space[Any], sample: Any, form: Callable[[Any], Any]) -> Any:
    """Return a sample, or a batch of them, with its numbers in another form."""
    if isinstance(space, spaces.Dict):
        return {key: formed(child, sample[key], form) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(formed(child, part, form) for child, part in zip(space.spaces, sample, strict=True))
    if isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)) and np.size(sample):
        with np.errstate(all="ignore"):
            return form(sample)
    return sample


def each_form(space: spaces.Space[Any]) -> Iterator[tuple[str, Any]]:
    space.seed(5)
    for name, form in FORMS.items():
        yield name, formed(space, space.sample(), form)
    yield "as sampled", space.sample()


@pytest.mark.parametrize("name", list(SPACES))
def test_a_single_environment(toys: ToyServer, name: str) -> None:
    local = toy_module.create("echo", space=name)
    with toys.single("echo", {"space": name}) as remote:
        remote.reset(seed=1)
        local.reset(seed=1)
        for form, action in each_form(local.action_space):
            assert_same(remote.step(action), local.step(action), form)


@pytest.mark.parametrize("name", list(SPACES))
@pytest.mark.parametrize("mode", MODES)
def test_a_batch(toys: ToyServer, name: str, mode: str) -> None:
    local = SyncVectorEnv([lambda: toy_module.create("echo", space=name)] * 3, autoreset_mode=mode)
    with toys.vector("echo", 3, {"space": name}, autoreset_mode=mode) as remote:
        for form, actions in each_form(local.action_space):
            if mode == "Disabled" or form == "?":
                for env in (remote, local):
                    env.reset(seed=1)
            assert_same(remote.step(actions), local.step(actions), form)


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("discrete", 2),
        ("discrete", True),
        ("discrete", np.bool_(True)),
        ("discrete", 1.5),
        ("discrete", np.array(2)),
        ("discrete", np.array([2])),
        ("discrete", [2]),
        ("discrete", -1),
        ("discrete dtype", 300),
        ("box scalar", 0.5),
        ("box scalar", np.float32(0.5)),
        ("box scalar", np.array(0.5)),
        ("box f4", 3),
        ("box f4", np.zeros((1, 2, 3))),
        ("box f4", np.zeros(6, np.float32)),
        ("box f4", [[1, 2.0, True], (1, 2, 3)]),
        ("box empty", []),
        ("dict", OrderedDict(b=1, a=[0, 1])),
        ("dict", {"a": np.zeros(2, np.float32), "b": np.int64(1)}),
        ("dict", {"b": np.int64(1), "a": np.zeros(2, np.float32), "more": "x"}),
        ("tuple", [np.zeros(2, np.int8), np.int64(1)]),
        ("tuple", (np.zeros(2, np.int8), 1)),
        ("mixed", {"said": "a", "seen": [np.zeros(2), (0, "b")]}),
    ],
)
def test_what_a_single_environment_may_be_given(toys: ToyServer, name: str, action: Any) -> None:
    local = toy_module.create("echo", space=name)
    with toys.single("echo", {"space": name}) as remote:
        remote.reset(seed=1)
        local.reset(seed=1)
        assert_same(remote.step(action), local.step(action))


@pytest.mark.parametrize(
    ("name", "actions"),
    [
        ("discrete", [0, 1, 2]),
        ("discrete", (0, np.int32(1), True)),
        ("discrete", range(3)),
        ("discrete", [0.5, 0.5, 0.5]),
        ("discrete", [np.array(1), 1, 2.0]),
        ("discrete dtype", [0, 300, 0]),
        ("box scalar", [0.5, 1, np.float32(0)]),
        ("multi binary", np.ones((3, 4), np.bool_)),
        ("multi discrete", [[0, 1, 2], (0, 1, 2), np.zeros(3, np.int8)]),
        ("dict", OrderedDict(a=np.zeros((3, 2)), b=[0, 1, 2])),
        ("tuple", [np.zeros((3, 2), np.int32), [1, 2, 3]]),
        ("mixed", {"said": ["a", "b", "c"], "seen": (np.zeros((3, 2)), ((0, "b"),) * 3)}),
    ],
)
@pytest.mark.parametrize("some", [False, True])
def test_what_a_batch_may_be(toys: ToyServer, name: str, actions: Any, some: bool) -> None:
    local = SyncVectorEnv([lambda: toy_module.create("echo", space=name)] * 3)
    local.reset(seed=1)
    theirs = local.step(actions)[4]
    with toys.vector("echo", 3, {"space": name}, batch_size=3) as remote:
        if not some:
            remote.reset(seed=1)
            assert_same(remote.step(actions)[4], theirs)
            return
        remote.async_reset(seed=1)
        remote.recv()
        remote.send(actions, [2, 0, 1])
        infos = remote.recv()[4]
        order = {index: row for row, index in enumerate(infos["env_id"].tolist())}
        for at, index in enumerate([2, 0, 1]):
            assert_same(infos["action"][order[index]], theirs["action"][at])


def test_several_servers(serve: ServerFactory) -> None:
    servers = [serve("toys:create", {"toy": "echo", "space": "dict"}) for _ in range(2)]
    local = SyncVectorEnv([lambda: toy_module.create("echo", space="dict")] * 5)
    with RemoteVectorEnv([server.address for server in servers], num_envs=5) as remote:
        remote.reset(seed=1)
        local.reset(seed=1)
        for form, actions in each_form(local.action_space):
            assert_same(remote.step(actions), local.step(actions), form)


HOSTED = """
import gymnasium as gym
import numpy as np

class Told(gym.vector.SyncVectorEnv):
    def step(self, actions):
        result = super().step(np.zeros(self.num_envs, np.int64))
        return (*result[:4], {"given": [actions]})

def create_vector_environment(num_envs):
    return Told([lambda: gym.make("CartPole-v1")] * num_envs)
"""


def test_a_hosted_vector_environment_gets_the_batch(serve: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "told_entrypoint.py"
    path.write_text(HOSTED)
    with RemoteVectorEnv(serve(str(path)).address, num_envs=3) as remote:
        remote.reset(seed=1)
        batches = [np.zeros(3, dtype) for dtype in ("i8", "i4", "?", "f8", ">i4")]
        for actions in (*batches, [0, 1, 0], (0, 1, True), [np.int8(0), 1.0, 2**70]):
            assert_same(remote.step(actions)[4]["given"], [actions])
        with pytest.raises(MisuseError, match="for 2 environments, expected 3"):
            remote.step([0, 1])


@pytest.mark.parametrize("dtype", ["f8", "f2", "i4", "list"])
def test_the_values_that_follow_from_it(serve: ServerFactory, dtype: str) -> None:
    """Pendulum computes in the dtype of its action."""
    server = serve("Pendulum-v1")
    one, batch = gym.make("Pendulum-v1"), SyncVectorEnv([lambda: gym.make("Pendulum-v1")] * 3)
    noise = np.random.default_rng(0)
    with RemoteEnvironment(server.address) as remote, RemoteVectorEnv(server.address, num_envs=3) as remotes:
        for env in (one, remote, batch, remotes):
            env.reset(seed=3)
        for _ in range(30):
            actions: Any = FORMS[dtype](noise.uniform(-2, 2, (3, 1)))
            assert_same(remote.step(actions[0]), one.step(actions[0]))
            assert_same(remotes.step(actions), batch.step(actions))


def test_an_action_may_be_kept_and_changed(toys: ToyServer) -> None:
    with toys.vector("keeper", 2) as remote:
        remote.reset()
        for dtype in (np.float32, np.float64):
            assert remote.step(np.full((2, 2), 1, dtype))[1].tolist() == [2, 2]
            assert remote.step(np.full((2, 2), 5, dtype))[1].tolist() == [2, 2]  # of the step before


class Tensor:
    """Of a library that NumPy understands: it has an array, and can not travel."""

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Any]:
        return map(Tensor, self.array)


def test_what_cannot_travel_arrives_as_its_array(toys: ToyServer) -> None:
    with toys.single("echo", {"space": "box f4"}) as single, toys.vector("echo", 3, {"space": "box f4"}) as batch:
        single.reset()
        batch.reset()
        assert_same(single.step(Tensor(np.ones((2, 3))))[4]["action"], (np.ones((2, 3)),))
        assert_same(batch.step(Tensor(np.ones((3, 2, 3))))[4]["action"][0], (np.ones((2, 3)),))
