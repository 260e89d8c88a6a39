"""Remote environments as TorchRL's: plain ones in its own wrapper, and `remote_gym.torchrl.VectorEnv`."""

from __future__ import annotations

import copy
import functools
import importlib
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import ServerFactory
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from tensordict import TensorDict, TensorDictBase
from torch.utils._python_dispatch import TorchDispatchMode
from torchrl.data import Unbounded
from torchrl.envs import (
    Compose,
    EnvBase,
    GymEnv,
    GymWrapper,
    ParallelEnv,
    RewardSum,
    SerialEnv,
    StepCounter,
    TransformedEnv,
    check_env_specs,
    default_info_dict_reader,
)
from trainers.torchrl.hosted_for_torchrl import create_environment

from remote_gym import (
    ConnectError,
    MisuseError,
    RemoteEnvironment,
    RemoteEnvironmentServer,
    RemoteVectorEnv,
    create_remote_environment_server,
)
from remote_gym.torchrl import VectorEnv, moved

HOSTED = Path(__file__).with_name("hosted_for_torchrl.py")
NUM_ENVS = 3
DISABLED, SAME_STEP = AutoresetMode.DISABLED, AutoresetMode.SAME_STEP


@pytest.fixture(scope="module")
def server() -> Iterator[RemoteEnvironmentServer]:
    args: dict[str, Any] = {"entrypoint": str(HOSTED)}
    with create_remote_environment_server(args, port=0, num_workers=2, allow_client_kwargs="*") as server:
        yield server


@pytest.fixture
def remote(server: RemoteEnvironmentServer) -> Iterator[Callable[..., Any]]:
    """Make remote environments of this folder's: ``remote({"observations": "dict"}, device="cpu")``."""
    made: list[Any] = []

    def make(kwargs: Any = None, kind: Any = VectorEnv, num_envs: int = NUM_ENVS, **options: Any) -> Any:
        made.append(kind(server.address, num_envs=num_envs, remote_args={"entrypoint_kwargs": kwargs or {}}, **options))
        return made[-1]

    yield make
    for envs in made:
        envs.close()


def local(kwargs: Any = None, num_envs: int = NUM_ENVS, mode: AutoresetMode = DISABLED, **options: Any) -> EnvBase:
    """Make the same in this process, as TorchRL's user would."""
    make = [functools.partial(create_environment, **(kwargs or {}))] * num_envs
    return GymWrapper(SyncVectorEnv(make, autoreset_mode=mode), **options)


def cartpoles(num_envs: int = NUM_ENVS) -> EnvBase:
    return GymWrapper(SyncVectorEnv([lambda: gym.make("CartPole-v1")] * num_envs, autoreset_mode=DISABLED))


def check_equal(ours: TensorDictBase, theirs: TensorDictBase) -> None:
    assert (ours.batch_size, ours.device) == (theirs.batch_size, theirs.device)
    assert {*ours.keys(True, True)} == {*theirs.keys(True, True)}
    for key, expected in theirs.items(True, True):
        value = ours.get(key)
        assert (value.dtype, value.shape) == (expected.dtype, expected.shape), key
        assert torch.equal(value, expected), key


def rolled(env: EnvBase, steps: int = 40, policy: Any = None, **kwargs: Any) -> TensorDictBase:
    """Return a rollout with given seeds, and close."""
    torch.manual_seed(0)
    env.set_seed(3)
    rollout = env.rollout(steps, policy, **{"break_when_any_done": False, **kwargs})
    env.close()
    return rollout


# What is not ours: GymWrapper


def test_one_environment_in_its_own_wrapper(serve: ServerFactory) -> None:
    address = serve("CartPole-v1").address
    check_env_specs(GymWrapper(RemoteEnvironment(address)))
    check_equal(rolled(GymWrapper(RemoteEnvironment(address))), rolled(GymEnv("CartPole-v1")))


@pytest.mark.parametrize("mode", [SAME_STEP, DISABLED], ids=lambda mode: mode.value)
@pytest.mark.parametrize("observations", ["box", "image", "dict"])
def test_a_vector_environment_in_its_own_wrapper(
    remote: Callable[..., Any], mode: AutoresetMode, observations: str
) -> None:
    kwargs = {"observations": observations}
    if observations == "dict" and mode is SAME_STEP:  # whose final observations TorchRL does not read
        with pytest.raises(AssertionError) as theirs:
            local(kwargs, mode=mode)
        with pytest.raises(AssertionError) as ours:
            GymWrapper(remote(kwargs, RemoteVectorEnv, autoreset_mode=mode))
        assert str(ours.value) == str(theirs.value)
        return
    ours = GymWrapper(remote(kwargs, RemoteVectorEnv, autoreset_mode=mode))
    check_env_specs(ours)
    check_equal(rolled(ours), rolled(local(kwargs, mode=mode)))


def test_the_mode_it_refuses(remote: Callable[..., Any]) -> None:
    with pytest.raises(RuntimeError, match="SAME_STEP or DISABLED"):
        GymWrapper(remote(kind=RemoteVectorEnv))


# What is ours


PLAIN: dict[str, Any] = {}
OPTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("box", "box", PLAIN),
    ("box", "multi", PLAIN),
    ("image", "discrete", PLAIN),
    ("dict", "discrete", PLAIN),
    ("box", "discrete", {"device": "cpu"}),
    ("dict", "multi", {"device": "cpu"}),
    ("image", "discrete", {"categorical_action_encoding": True}),
    ("box", "multi", {"categorical_action_encoding": True}),
    ("dict", "box", {"frame_skip": 3}),
]


@pytest.mark.parametrize(("observations", "actions", "options"), OPTIONS)
def test_rollouts_equal_those_over_sync_vector_env(
    remote: Callable[..., Any], observations: str, actions: str, options: dict[str, Any]
) -> None:
    kwargs = {"observations": observations, "actions": actions}
    rollout = rolled(remote(kwargs, **options))
    check_equal(rollout, rolled(local(kwargs, **options)))
    assert rollout["next", "done"].any(1).all()


@pytest.mark.parametrize("observations", ["box", "image", "dict"])
@pytest.mark.parametrize("device", [None, "cpu"])
def test_its_specs_hold(remote: Callable[..., Any], observations: str, device: Any) -> None:
    ours = remote({"observations": observations}, device=device)
    assert isinstance(ours, GymWrapper)
    assert ours.batch_size == (NUM_ENVS,)
    check_env_specs(ours)
    assert ours.specs == local({"observations": observations}, device=device).specs


def reader() -> default_info_dict_reader:
    specs = [Unbounded((NUM_ENVS,), dtype=torch.int64), Unbounded((NUM_ENVS, 3), dtype=torch.float64)]
    return default_info_dict_reader(["steps", "contacts"], specs)


@pytest.mark.parametrize("make", ["register", "keys"])
def test_infos_that_are_read(remote: Callable[..., Any], make: str) -> None:
    def reading(env: EnvBase) -> EnvBase:
        if make == "register":
            return env.auto_register_info_dict()
        return env.set_info_dict_reader(reader())

    rollout = rolled(reading(remote()))
    check_equal(rollout, rolled(reading(local())))
    assert rollout["next", "contacts"].shape == (NUM_ENVS, 40, 3)
    assert (rollout["next", "steps"] > 1).any()


def transformed(env: EnvBase) -> EnvBase:
    return TransformedEnv(env, Compose(StepCounter(), RewardSum()))


def test_transforms(remote: Callable[..., Any]) -> None:
    check_env_specs(transformed(remote()))
    check_equal(rolled(transformed(remote())), rolled(transformed(local())))


SEEDS = (3, 2346560485, 3717267052)
"""What `SerialEnv.set_seed(3)` gives three environments."""


def sways(tensordict: TensorDictBase) -> TensorDictBase:
    right = (tensordict["observation"][..., 2] > 0).long()
    return tensordict.set("action", torch.nn.functional.one_hot(right, 2))


@pytest.mark.parametrize(
    "stop", [{}, {"break_when_any_done": True}, {"break_when_all_done": True}], ids=["never", "any", "all"]
)
@pytest.mark.parametrize("transform", [lambda env: env, transformed], ids=["plain", "transformed"])
def test_rollouts_equal_those_of_serial_env(
    serve: ServerFactory, stop: dict[str, bool], transform: Callable[[EnvBase], EnvBase]
) -> None:
    """With `break_when_all_done` those that are not done yet are stepped alone."""
    ours = VectorEnv(serve("CartPole-v1").address, num_envs=NUM_ENVS)
    theirs = SerialEnv(NUM_ENVS, lambda: GymEnv("CartPole-v1"))
    theirs.set_seed(3)
    expected = transform(theirs).rollout(60, sways, **{"break_when_any_done": False, **stop})
    theirs.close()
    ours.reset(seed=SEEDS)
    rollout = transform(ours).rollout(60, sways, **{"break_when_any_done": False, **stop})
    ours.close()
    check_equal(rollout, expected)
    assert rollout["next", "done"].any()


def test_a_mask_resets_its_rows_only(remote: Callable[..., Any]) -> None:
    ours, theirs = remote(), local()
    for env in (ours, theirs):
        env.set_seed(1)
    first, expected = (env.rand_step(env.reset()) for env in (ours, theirs))
    del expected
    mask = torch.tensor([[False], [True], [False]])
    before = first["next"].select("observation", "done", "terminated", "truncated")
    after = ours.reset(before.clone().set("_reset", mask))
    for row, was_reset in enumerate(mask.flatten().tolist()):
        assert torch.equal(after["observation"][row], before["observation"][row]) != was_reset
    assert not after["done"].any()
    unmasked = ours.reset(before.clone())  # a tensordict, but no mask: all
    assert not any(torch.equal(unmasked["observation"][row], before["observation"][row]) for row in range(NUM_ENVS))
    none = ours.reset(before.clone().set("_reset", torch.zeros(NUM_ENVS, 1, dtype=torch.bool)))
    assert torch.equal(none["observation"], before["observation"])


def test_options_travel_with_a_mask_and_are_left_alone(remote: Callable[..., Any]) -> None:
    told = default_info_dict_reader(["told"], [Unbounded((NUM_ENVS,), dtype=torch.float64)])
    env = remote().set_info_dict_reader(told)
    options = {"told": 7}
    assert env.reset(options=options)["told"].tolist() == [7, 7, 7]
    mask = TensorDict({"_reset": torch.tensor([True, False, True]), "done": torch.zeros(3, 1, dtype=torch.bool)}, [3])
    assert env.reset(mask, options=options)["told"].tolist()[::2] == [7, 7]
    assert options == {"told": 7}


def test_seeds_are_those_of_a_vector_environment(remote: Callable[..., Any]) -> None:
    ours, theirs = remote(), local()
    assert ours.set_seed(5) == theirs.set_seed(5)
    check_equal(ours.reset(), theirs.reset())
    check_equal(ours.reset(seed=9), theirs.reset(seed=9))
    check_equal(ours.reset(seed=[4, None, 2]), theirs.reset(seed=[4, None, 2]))
    assert ours.set_seed(5, static_seed=True) == 5


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"])
def test_a_copy_dials_anew(remote: Callable[..., Any], copied: Callable[[Any], Any]) -> None:
    first = remote(device="cpu").set_info_dict_reader(reader())
    second = copied(first)
    check_equal(rolled(second), rolled(local(device="cpu").set_info_dict_reader(reader())))
    assert second.is_closed
    first.rollout(3)


@pytest.mark.parametrize("batched", [SerialEnv, ParallelEnv])
def test_batches_of_batches(serve: ServerFactory, batched: Any, request: pytest.FixtureRequest) -> None:
    """The second one gets the seed that the first returns."""
    if batched is ParallelEnv and not request.config.getoption("full"):
        pytest.skip("its processes take long to begin; those of a collector do the same")
    expected, seed = [], 3
    for _ in range(2):
        env = cartpoles()
        seed = env.set_seed(seed)
        expected.append(env.rollout(40, sways, break_when_any_done=False))
        env.close()
    address = serve("CartPole-v1").address
    ours = rolled(batched(2, functools.partial(VectorEnv, address, num_envs=NUM_ENVS)), policy=sways)
    check_equal(ours, torch.stack(expected))


def test_several_servers(serve: ServerFactory) -> None:
    addresses = [serve("CartPole-v1", num_workers=1).address for _ in range(2)]
    check_equal(rolled(VectorEnv(addresses, num_envs=5)), rolled(cartpoles(5)))


def test_a_server_of_its_own() -> None:
    with VectorEnv.local("CartPole-v1", NUM_ENVS, num_workers=1, categorical_action_encoding=True) as ours:
        assert ours.action_spec.shape == (NUM_ENVS,)
        check_env_specs(ours)
    assert ours.is_closed
    ours.close()


def test_what_the_environments_have_is_reached(serve: ServerFactory) -> None:
    with VectorEnv(serve("CartPole-v1").address, num_envs=2) as ours:
        assert ours.get_attr("gravity") == (9.8, 9.8)
        assert ours.num_envs == 2


def test_encodings_that_are_remembered(remote: Callable[..., Any]) -> None:
    ours = remote()
    with pytest.warns(UserWarning, match="memoized encoding is an experimental feature"):
        ours.fast_encoding()
    check_equal(rolled(ours), rolled(local()))


def test_a_lost_worker_ends_episodes_and_no_more(remote: Callable[..., Any], tmp_path: Path) -> None:
    ours = remote({"kill": str(tmp_path / "kill")})
    tensordict = ours.rand_step(ours.reset(seed=1))
    before = tensordict["next", "observation"].clone()
    (tmp_path / "kill").touch()
    tensordict = ours.rand_action(tensordict["next"].exclude("reward"))
    with pytest.warns(UserWarning, match="killed by SIGKILL"):
        tensordict, begun = ours.step_and_maybe_reset(tensordict)
    lost = tensordict["next", "truncated"].flatten()
    assert lost.any() and not lost.all()  # one of two workers
    assert torch.equal(tensordict["next", "observation"][lost], before[lost])
    assert not tensordict["next", "terminated"].any()
    assert not begun["done"].any()
    assert not torch.equal(begun["observation"][lost], before[lost])
    assert torch.equal(begun["observation"][~lost], tensordict["next", "observation"][~lost])
    assert ours.rollout(20, auto_reset=False, tensordict=begun, break_when_any_done=False).batch_size == (NUM_ENVS, 20)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchrl.envs", None)
    monkeypatch.delitem(sys.modules, "remote_gym.torchrl")
    with pytest.raises(ImportError, match=r'needs TorchRL: pip install "remote-gym-pool\[torchrl\]"'):
        importlib.import_module("remote_gym.torchrl")


def test_after_the_end(remote: Callable[..., Any]) -> None:
    ours = remote()
    ours.close()
    ours.close()
    with pytest.raises(gym.error.ClosedEnvironmentError):
        ours.reset()


@pytest.mark.parametrize("name", ["autoreset_mode", "batch_size", "copy"])
def test_what_is_settled_cannot_be_set(name: str) -> None:
    for make in (VectorEnv, VectorEnv.local):
        with pytest.raises(MisuseError, match=f"{name} is not for the user"):
            make("CartPole-v1", **{name: 1})


def test_no_server() -> None:
    with pytest.raises(ConnectError):
        VectorEnv("127.0.0.1:1", num_envs=2, connect_timeout_seconds=2)


# Transfers to a device


class Moves(TorchDispatchMode):
    """Counts transfers to another device."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default and kwargs and "device" in kwargs:
            self.count += torch.device(kwargs["device"]).type != args[0].device.type
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("infos", [False, True], ids=["plain", "infos"])
def test_a_batch_is_moved_at_once(remote: Callable[..., Any], infos: bool) -> None:
    """To a device that every PyTorch has, though it holds no values: so the inner step is called."""
    ours = remote({"observations": "dict"})
    if infos:
        ours.auto_register_info_dict()
    ours.__dict__["_device"] = torch.device("meta")  # `to` looks into the values of specs
    action = TensorDict({"action": torch.eye(3, dtype=torch.int64)}, [NUM_ENVS])
    for begin in (ours._reset, functools.partial(ours._step, action)):
        with Moves() as moves:
            there = begin()
        assert moves.count == 1
        assert there.device.type == "meta"
        assert {leaf.device.type for leaf in there.values(True, True)} == {"meta"}


def test_specs_of_infos_are_of_the_device(remote: Callable[..., Any]) -> None:
    """They are made of the first infos that are read, which are in host memory then."""
    ours = remote()
    ours.info_dict_reader.append(default_info_dict_reader())
    ours.__dict__["_device"] = torch.device("meta")
    ours._reset()
    action = TensorDict({"action": torch.eye(3, dtype=torch.int64)}, [NUM_ENVS])
    for _ in range(2):
        ours._step(action)
        (reader,) = ours.info_dict_reader
        assert {*reader.info_spec.keys()} == {"steps", "contacts", "told"}
        assert {spec.device.type for spec in reader.info_spec.values()} == {"meta"}


@pytest.mark.parametrize("device", [None, "cpu"])
def test_specs_of_infos_are_those_of_gym_wrapper(remote: Callable[..., Any], device: Any) -> None:
    ours, theirs = (make(device=device).auto_register_info_dict() for make in (remote, local))
    assert ours.specs == theirs.specs


def test_options_for_each_and_a_mask(remote: Callable[..., Any]) -> None:
    ours = remote()
    each = [{"told": 1}, None, {"told": 2}]
    ours.reset(options=each)
    mask = TensorDict({"_reset": torch.ones(3, 1, dtype=torch.bool), "done": torch.zeros(3, 1, dtype=torch.bool)}, [3])
    with pytest.raises(MisuseError, match="options of a reset with a mask are one dict"):
        ours.reset(mask, options=each)


def test_what_is_packed_is_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packing itself, with a device that is the host under another name."""
    torch.manual_seed(0)
    leaves = {
        "flags": torch.rand(5) < 0.5,
        "inner": {"image": torch.randint(255, (5, 3, 3), dtype=torch.uint8), "vector": torch.rand(5, 7)},
        "whole": torch.randint(9, (5, 1)),
        "turned": torch.rand(5, 2, 3, dtype=torch.float64).transpose(1, 2),  # not contiguous
    }
    expected = TensorDict(copy.deepcopy(leaves), [5])

    class Host:
        type = "host"

    tensor_to, dict_to = torch.Tensor.to, TensorDict.to
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, **kwargs: tensor_to(self, "cpu", **kwargs))
    monkeypatch.setattr(TensorDict, "to", lambda self, device: dict_to(self, "cpu").clear_device_())
    check_equal(moved(TensorDict(leaves, [5]), Host()), expected)  # type: ignore[arg-type]


def test_on_the_host_nothing_is_copied() -> None:
    array = np.zeros((5, 2))
    there = moved(TensorDict({"observation": torch.from_numpy(array)}, [5]), torch.device("cpu"))
    assert there["observation"].data_ptr() == array.ctypes.data
