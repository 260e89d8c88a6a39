"""`RemoteVectorEnv(array="torch")`: the arrays of `SyncVectorEnv`, bit for bit, as tensors that copy nothing more."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys as toy_module
from conftest import ServerFactory, ToyServer
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import NumpyToTorch
from sameness import assert_same, difference
from torch.utils._python_dispatch import TorchDispatchMode
from trainers.arrays.plain import given, plain

from remote_gym import MisuseError, RemoteVectorEnv
from remote_gym.client.stepping import Stepping

MODES = [mode.value for mode in AutoresetMode]


def local_of(toy: str, num_envs: int = 3, mode: str = "NextStep", **kwargs: Any) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: toy_module.create(toy, **kwargs)] * num_envs, autoreset_mode=mode)


# The same values


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("space", toy_module.SPACES)
def test_every_space(toys: ToyServer, space: str, copy: bool) -> None:
    local = local_of("echo", space=space, mode="SameStep")
    envs = toys.vector("echo", 3, {"space": space}, array="torch", copy=copy, autoreset_mode="SameStep")
    with envs, closing(local):
        local.action_space.seed(2)
        assert_same(plain(envs.reset(seed=1)), local.reset(seed=1))
        ends = 0
        for _ in range(12):
            actions = local.action_space.sample()
            theirs = local.step(actions)
            assert_same(plain(envs.step(given(actions))), theirs)
            ends += "final_obs" in theirs[4]
        assert ends


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("toy", ["counter", "picture"])
def test_every_mode_with_talkative_infos(toys: ToyServer, toy: str, mode: str) -> None:
    with toys.vector(toy, 4, array="torch", autoreset_mode=mode) as envs, closing(local_of(toy, 4, mode)) as local:
        assert_same(plain(envs.reset(seed=[1, 2, 3, 4])), local.reset(seed=[1, 2, 3, 4]))
        rng = np.random.default_rng(3)
        for _ in range(20):
            actions = rng.integers(0, 3, 4)
            ours, theirs = envs.step(torch.from_numpy(actions)), local.step(actions)
            assert_same(plain(ours), theirs)
            over = ours[2] | ours[3]
            if mode == "Disabled" and over.any():  # a mask made of the flags, where they are
                ours = envs.reset(options={"reset_mask": over, "more": 1})
                assert_same(plain(ours), local.reset(options={"reset_mask": plain(over), "more": 1}))


def steps_of(envs: Any, count: int = 40) -> Iterator[Any]:
    yield envs.reset(seed=5)
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield envs.step(torch.from_numpy(rng.integers(0, 2, 3)))


def test_it_is_what_gymnasiums_own_wrapper_makes(toys: ToyServer) -> None:
    """Types and devices as well. `NumpyToTorch` fails on what an array of objects holds, so there are none here."""
    kwargs = {"id": "CartPole-v1", "max_episode_steps": 7}
    theirs = NumpyToTorch(local_of("gymnasium_env", **kwargs))
    wrapped = NumpyToTorch(toys.vector("gymnasium_env", 3, kwargs))
    with toys.vector("gymnasium_env", 3, kwargs, array="torch") as envs:
        for ours, again, those in zip(*map(steps_of, (envs, wrapped, theirs)), strict=True):
            assert [type(one) for one in ours] == [type(one) for one in those]
            assert [getattr(one, "device", None) for one in ours] == [getattr(one, "device", None) for one in those]
            assert_same(plain(ours), plain(those))
            assert_same(plain(again), plain(those))
    wrapped.close()
    theirs.close()


def test_that_wrapper_around_tensors_takes_them_as_they_are(toys: ToyServer) -> None:
    with toys.vector("gymnasium_env", 3, {"id": "CartPole-v1"}, array="torch") as envs:
        wrapped = NumpyToTorch(envs)
        wrapped.reset(seed=1)
        assert isinstance(wrapped.step(torch.zeros(3, dtype=torch.int64))[0], torch.Tensor)


def test_the_default_is_numpy_and_takes_another_way(toys: ToyServer) -> None:
    with toys.vector("counter", 2) as envs, toys.vector("counter", 2, array="torch") as tensors:
        assert type(envs._stepping) is Stepping
        assert isinstance(tensors._stepping, Stepping) and type(tensors._stepping) is not Stepping
        assert isinstance(envs.reset(seed=1)[0], np.ndarray)


def test_several_servers_make_one_batch(toys: ToyServer, serve: ServerFactory) -> None:
    servers = [serve("CartPole-v1"), serve("CartPole-v1")]
    local = SyncVectorEnv([lambda: toy_module.gymnasium_env("CartPole-v1")] * 5)
    with RemoteVectorEnv([one.address for one in servers], num_envs=5, array="torch") as envs:
        assert_same(plain(envs.reset(seed=1)), local.reset(seed=1))
        for _ in range(30):
            ours, theirs = (envs.step(one) for envs, one in ((envs, torch.ones(5).long()), (local, np.ones(5, int))))
            assert_same(plain(ours), theirs)


# Copies


class Copies(TorchDispatchMode):
    """Counts the operators that PyTorch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.ran.append(str(function))
        return function(*args, **(kwargs or {}))


def addresses(value: Any) -> list[int]:
    """Where each array, or tensor, begins."""
    if isinstance(value, torch.Tensor):
        return [value.data_ptr()]
    if isinstance(value, np.ndarray):
        parts = value.ravel().tolist() if value.dtype == object else [value]
        return [value.__array_interface__["data"][0]] if parts == [] or value.dtype != object else addresses(parts)
    if isinstance(value, dict):
        return addresses(list(value.values()))
    return [at for one in value for at in addresses(one)] if isinstance(value, list | tuple) else []


@pytest.mark.parametrize("toy, kwargs", [("picture", {}), ("echo", {"space": "nested"}), ("counter", {})])
def test_tensors_are_the_very_memory_of_the_arrays(
    toys: ToyServer, monkeypatch: pytest.MonkeyPatch, toy: str, kwargs: Any
) -> None:
    handed: list[list[int]] = []  # what the way in NumPy, which comes first, would have returned
    step = Stepping.finish_step

    def seen(self: Any, timeout: Any) -> Any:
        result = step(self, timeout)
        handed.append(addresses(result))
        assert result[0] is not None
        return result

    monkeypatch.setattr(Stepping, "finish_step", seen)
    with toys.vector(toy, 3, kwargs, array="torch") as envs:
        envs.reset(seed=1)
        actions = given(envs.action_space.sample())
        with Copies() as copies:
            for number in range(4):
                assert addresses(envs.step(actions)) == handed[number]
        assert {name for name in copies.ran if "detach" not in name and "lift_fresh" not in name} == set()


def test_what_the_user_writes_is_the_users_alone(toys: ToyServer) -> None:
    """The environments' last observation is what `reset_mask` leaves: kept apart from what was returned."""
    for copy in (True, False):
        with toys.vector("counter", 2, array="torch", copy=copy, autoreset_mode="Disabled") as envs:
            first, _ = envs.reset(seed=1)
            second = envs.step(torch.zeros(2, dtype=torch.int64))[0]
            expected = second.clone()
            first.fill_(7)
            second.fill_(9)
            left, _ = envs.reset(options={"reset_mask": torch.tensor([False, True])})
            assert left[0].tolist() == expected[0].tolist()


def test_tensors_stay_as_they_are(toys: ToyServer) -> None:
    with toys.vector("picture", 2, array="torch") as envs:
        envs.reset(seed=1)
        kept = [envs.step(torch.zeros(2, dtype=torch.int64))[0] for _ in range(4)]
        clones = [one.clone() for one in kept]
        for _ in range(10):
            envs.step(torch.zeros(2, dtype=torch.int64))
        assert all(torch.equal(one, other) for one, other in zip(kept, clones, strict=True))


# Actions


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.float32, torch.float64, torch.bool]
)
def test_actions_arrive_in_the_dtype_of_the_tensor(toys: ToyServer, dtype: torch.dtype) -> None:
    actions = torch.ones((2, 2, 3), dtype=dtype)
    own = local_of("echo", 2, space="box f4")
    with toys.vector("echo", 2, {"space": "box f4"}, array="torch") as envs, closing(own):
        for one in (envs, own):
            one.reset(seed=1)
        ours, theirs = envs.step(actions)[4], own.step(actions.numpy())[4]
        assert_same(plain(ours), theirs)
        assert ours["action"][0][0].dtype == dtype


def test_actions_of_a_policy(toys: ToyServer) -> None:
    """That require a gradient, are not contiguous, in an OrderedDict; and NumPy's, which go on working."""
    base = torch.arange(12, dtype=torch.float32, requires_grad=True)
    turned = base.reshape(2, 3, 2).transpose(1, 2).transpose(0, 1).transpose(0, 1)
    with toys.vector("echo", 2, {"space": "box f4"}, array="torch") as envs:
        assert not turned.is_contiguous()
        for actions in (turned, turned.detach().numpy(), [turned[0], turned[1]]):
            envs.reset(seed=1)
            seen = envs.step(actions)[4]["action"]
            assert all(torch.equal(seen[index][0], turned[index].detach()) for index in range(2))
    with toys.vector("echo", 2, {"space": "dict"}, array="torch") as envs:
        envs.reset(seed=1)
        actions = OrderedDict(b=torch.tensor([1, 2]), a=torch.zeros(2, 2))
        assert envs.step(actions)[4]["action"][1][0]["b"] == 2


@pytest.mark.parametrize("actions", [torch.zeros(2), torch.zeros(3, 1), torch.zeros(3, 2, 2), torch.tensor(0.0)])
def test_actions_of_a_wrong_shape_are_refused_as_arrays_are(toys: ToyServer, actions: torch.Tensor) -> None:
    with toys.vector("echo", 3, {"space": "box scalar"}, array="torch") as envs, toys.vector("keeper", 3) as arrays:
        envs.reset(seed=1)
        arrays.reset(seed=1)
        with pytest.raises(MisuseError):
            envs.step(actions)
        with pytest.raises(MisuseError):
            arrays.step(actions.numpy())
        envs.step(torch.zeros(3))  # nothing was sent


def test_what_numpy_has_no_dtype_for_is_named(toys: ToyServer) -> None:
    with toys.vector("keeper", 2, array="torch") as envs:
        envs.reset(seed=1)
        for bad in (torch.zeros(2, 2, dtype=torch.bfloat16), torch.zeros(2, 2).to_sparse()):
            with pytest.raises(MisuseError, match=r"bfloat16|sparse"):
                envs.step(bad)
        envs.step(torch.zeros(2, 2))


def test_seeds_and_options_may_be_tensors(toys: ToyServer) -> None:
    with toys.vector("counter", 2, array="torch") as envs:
        ours, infos = envs.reset(seed=torch.tensor([5, 6]), options={"level": torch.tensor([1, 2])})
        assert ours[:, 0].tolist() == [5, 6]
        assert infos["options"][0] == str({"level": np.array([1, 2])})
        assert envs.reset(seed=torch.tensor(8))[0][:, 0].tolist() == [8, 9]


# Batches of whoever is ready first


def test_send_and_recv(toys: ToyServer) -> None:
    with toys.vector("counter", 4, array="torch", batch_size=2) as envs:
        envs.async_reset(seed=1)
        for _ in range(6):
            observations, rewards, terminations, truncations, infos = envs.recv()
            for one in (observations, rewards, terminations, truncations, infos["env_id"]):
                assert isinstance(one, torch.Tensor) and len(one) == 2
            envs.send(torch.zeros(2, dtype=torch.int64), infos["env_id"])
        assert sorted(envs.recv(everything=True)[4]["env_id"].tolist()) == [0, 1, 2, 3]


def test_recv_of_everything_and_steps_of_some(toys: ToyServer) -> None:
    with toys.vector("counter", 4, array="torch") as envs:
        envs.async_reset(seed=1)
        observations, *_, infos = envs.recv(everything=True)
        assert sorted(infos["env_id"].tolist()) == [0, 1, 2, 3] and observations.shape == (4, 2)
        observations, rewards, *_ = envs.step(torch.zeros(2, dtype=torch.int64), env_id=torch.tensor([3, 1]))
        assert observations.tolist() == [[4, 1], [2, 1]] and rewards.tolist() == [1, 1]
        each = [{"level": torch.tensor(index)} for index in range(4)]
        assert list(envs.reset(options=each)[1]["options"]) == [str({"level": np.int64(index)}) for index in range(4)]


# What comes another way


def test_compressed_observations(toys: ToyServer) -> None:
    pytest.importorskip("lz4")
    with toys.vector("picture", 3, array="torch", compression="lz4") as envs, toys.vector("picture", 3) as plainly:
        for one in (envs, plainly):
            one.reset(seed=1)
        for _ in range(10):
            ours, theirs = envs.step(torch.zeros(3).long()), plainly.step(np.zeros(3, np.int64))
            assert_same(plain(ours), theirs)
            ours[0].zero_()


@pytest.mark.parametrize("copy", [True, False])
def test_the_end_of_a_lost_episode(serve: ServerFactory, copy: bool) -> None:
    """The last observation that was delivered, whatever the caller has written into it since."""
    server = serve(str(Path(__file__).parents[2] / "mortal.py"), num_workers=2)
    with RemoteVectorEnv(server.address, num_envs=2, array="torch", copy=copy) as envs:
        first, _ = envs.reset(seed=1)
        last = {key: copied(value) for key, value in first.items()}
        first["draw"].zero_()
        with pytest.warns(UserWarning, match="lost"):
            observations, rewards, terminations, truncations, infos = envs.step(torch.tensor([2, 0]))
        assert torch.equal(observations["draw"][0], last["draw"][0]) and observations["said"] == ("n0", "n1")
        assert truncations.tolist() == [True, False] and not terminations.any() and rewards.tolist() == [0, 1]
        assert infos["remote_gym"]["lost"].tolist() == [True, False]
        assert "SIGKILL" in infos["remote_gym"]["reason"][0]


def copied(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


# What is asked for


def test_the_copy_that_a_pickle_makes_has_tensors_too(toys: ToyServer) -> None:
    envs = toys.vector("counter", 2, array="torch", device=torch.device("cpu"))
    with envs, pickle.loads(pickle.dumps(envs)) as again:
        assert envs.device == again.device == torch.device("cpu")
        assert isinstance(again.reset(seed=1)[0], torch.Tensor)


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"array": "cupy"}, "array must be 'numpy', 'torch' or 'jax', got 'cupy'"),
        ({"array": torch}, "array must be"),
        ({"device": "cpu"}, "device='cpu' is for array='torch' or 'jax'"),
        ({"array": "torch", "device": "abacus"}, "device='abacus'"),
        ({"array": "torch", "device": "cuda:99"}, "device='cuda:99': PyTorch has no such device here"),
    ],
)
def test_what_cannot_be_is_named_before_anything_is_dialled(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(MisuseError, match=named):
        RemoteVectorEnv("localhost:1", num_envs=2, **wrong)


def test_a_leaf_without_tensors_is_named_and_nothing_is_sent(toys: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with an older PyTorch, which has no uint32."""
    convert = torch.from_numpy

    def older(array: Any) -> Any:
        if array.dtype == np.uint32:
            raise TypeError("can't convert np.ndarray of type numpy.uint32")
        return convert(array)

    monkeypatch.setattr(torch, "from_numpy", older)
    with toys.vector("echo", 2, {"space": "box u4"}, array="torch") as envs:
        for begin in (envs.reset, lambda: envs.step(0), envs.async_reset, lambda: envs.send(0)):
            with pytest.raises(MisuseError, match=r"observations are uint32, of which torch has no tensors on cpu"):
                begin()


def test_a_closed_one_says_so(toys: ToyServer) -> None:
    import gymnasium

    envs = toys.vector("counter", 2, array="torch")
    envs.close()
    with pytest.raises(gymnasium.error.ClosedEnvironmentError):
        envs.reset()


def test_differences_are_seen() -> None:
    """The comparison of these tests can fail."""
    assert difference(plain(torch.zeros(2)), np.zeros(2))
    with pytest.raises(AssertionError, match="is no tensor"):
        plain({"a": np.zeros(2)})
