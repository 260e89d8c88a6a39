"""`RemoteVectorEnv(array="jax")`: what `ArrayConversion` makes of `SyncVectorEnv`, in JAX as it is set up."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import toys as toy_module
from conftest import ToyServer
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from sameness import assert_same

from remote_gym import MisuseError, RemoteVectorEnv

jax = pytest.importorskip("jax")

NARROW = {"float64": np.float32, "int64": np.int32, "uint64": np.uint32, "complex128": np.complex64}
"""What JAX makes of 64 bits, unless it was told to keep them."""


@pytest.fixture(params=[False, True], ids=["32 bits", "64 bits"])
def wide(request: pytest.FixtureRequest) -> Iterator[bool]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.param)
    yield request.param
    jax.config.update("jax_enable_x64", before)


def plain(value: Any) -> Any:
    """Return `value` with arrays of NumPy in place of JAX's; fails where an array of numbers was left one."""
    if isinstance(value, jax.Array):
        return np.asarray(value).copy()
    if isinstance(value, np.ndarray):
        assert value.dtype.kind not in "biufc", f"{value!r} is none of JAX"
        elements = [plain(one) for one in value.ravel()]
        return np.fromiter(elements, object, len(elements)).reshape(value.shape) if value.dtype == object else value
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        elements = [plain(one) for one in value]
        return type(value)._make(elements) if hasattr(value, "_make") else type(value)(elements)
    return value


def narrow(value: Any, wide: bool) -> Any:
    """Return arrays as JAX takes them."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        elements = [narrow(one, wide) for one in value.ravel()]
        return np.fromiter(elements, object, len(elements)).reshape(value.shape)
    if isinstance(value, np.ndarray):
        return value if wide else value.astype(NARROW.get(value.dtype.name, value.dtype))
    if isinstance(value, dict):
        return {key: narrow(one, wide) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        elements = [narrow(one, wide) for one in value]
        return type(value)._make(elements) if hasattr(value, "_make") else type(value)(elements)
    return value


def given(actions: Any) -> Any:
    if isinstance(actions, np.ndarray):
        return jax.numpy.asarray(actions)
    if isinstance(actions, dict):
        return {key: given(one) for key, one in actions.items()}
    if isinstance(actions, tuple):
        elements = map(given, actions)
        return type(actions)._make(elements) if hasattr(actions, "_make") else tuple(elements)
    return actions


@pytest.mark.parametrize(
    "space", ["box f4", "box f8", "box i8", "box u1", "box bool", "nested", "graph", "mixed", "tuple"]
)
def test_spaces(toys: ToyServer, space: str, wide: bool) -> None:
    local = SyncVectorEnv([lambda: toy_module.create("echo", space=space)] * 3, autoreset_mode="SameStep")
    envs = toys.vector("echo", 3, {"space": space}, array="jax", autoreset_mode="SameStep")
    with envs, closing(local):
        local.action_space.seed(2)
        assert_same(plain(envs.reset(seed=1)), narrow(local.reset(seed=1), wide))
        for _ in range(12):
            actions = local.action_space.sample()
            ours, theirs = envs.step(given(actions)), local.step(narrow(actions, wide))
            assert_same(plain(ours), narrow(theirs, wide))


@pytest.mark.parametrize("mode", [mode.value for mode in AutoresetMode])
def test_modes_masks_and_infos(toys: ToyServer, mode: str, wide: bool) -> None:
    local = SyncVectorEnv([lambda: toy_module.create("counter")] * 3, autoreset_mode=mode)
    with toys.vector("counter", 3, array="jax", autoreset_mode=mode) as envs, closing(local):
        assert_same(plain(envs.reset(seed=1)), narrow(local.reset(seed=1), wide))
        for number in range(15):
            actions = np.arange(number, number + 3) % 3
            ours, theirs = envs.step(jax.numpy.asarray(actions)), local.step(actions)
            assert_same(plain(ours), narrow(theirs, wide))
            over = ours[2] | ours[3]
            if mode == "Disabled" and over.any():
                ours = envs.reset(options={"reset_mask": over})
                assert_same(plain(ours), narrow(local.reset(options={"reset_mask": np.array(over)}), wide))


def test_it_is_what_gymnasiums_own_wrapper_makes(toys: ToyServer, wide: bool) -> None:
    pytest.importorskip("array_api_compat")
    from gymnasium.wrappers.vector import ArrayConversion

    kwargs = {"id": "CartPole-v1", "max_episode_steps": 7}
    around = {"env_xp": np, "target_xp": jax.numpy}
    local = ArrayConversion(SyncVectorEnv([lambda: toy_module.gymnasium_env(**kwargs)] * 3), **around)
    remote = ArrayConversion(toys.vector("gymnasium_env", 3, kwargs), **around)
    with toys.vector("gymnasium_env", 3, kwargs, array="jax") as envs, closing(local), closing(remote):
        for env in (envs, remote, local):
            env.reset(seed=1)
        for number in range(30):
            actions = jax.numpy.asarray(np.arange(number, number + 3) % 2)
            ours, again, theirs = (env.step(actions) for env in (envs, remote, local))
            for one, other, those in zip(ours[:4], again[:4], theirs[:4], strict=True):
                assert one.dtype == other.dtype == those.dtype and one.devices() == those.devices()
                assert_same(plain(one), plain(those))
                assert_same(plain(other), plain(those))


def test_nobody_writes_what_is_kept(toys: ToyServer) -> None:
    """Arrays of JAX may look at the last observation, which they cannot change and which nobody changes."""
    with toys.vector("picture", 2, array="jax") as envs:
        envs.reset(seed=1)
        kept = [envs.step(np.zeros(2, np.int64))[0] for _ in range(4)]
        copies = [plain(one) for one in kept]
        for _ in range(10):
            envs.step(np.zeros(2, np.int64))
        for one, other in zip(kept, copies, strict=True):
            assert_same(plain(one), other)


def test_devices(toys: ToyServer) -> None:
    device = jax.devices("cpu")[0]
    for named in (device, "cpu", "cpu:0", "0", None):
        with toys.vector("counter", 2, array="jax", device=named) as envs, pickle.loads(pickle.dumps(envs)) as again:
            assert envs.device == again.device == device
            assert again.reset(seed=1)[0].devices() == {device}
    for named in ("abacus", "cpu:99"):
        with pytest.raises(MisuseError, match=f"device='{named}': JAX has"):
            RemoteVectorEnv("localhost:1", array="jax", device=named)


def test_send_and_recv(toys: ToyServer) -> None:
    with toys.vector("counter", 4, array="jax", batch_size=2) as envs:
        envs.async_reset(seed=1)
        for _ in range(5):
            observations, *_, infos = envs.recv()
            assert isinstance(observations, jax.Array) and isinstance(infos["env_id"], jax.Array)
            envs.send(jax.numpy.zeros(2, int), infos["env_id"])
