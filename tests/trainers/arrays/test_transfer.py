"""Tensors on a device that is not this process's memory: one buffer, one transfer, and views of it there."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
import toys as toy_module
from conftest import ToyServer
from gymnasium.vector import SyncVectorEnv
from sameness import assert_same
from torch.utils._pytree import tree_map_only
from trainers.arrays.plain import given, plain

from remote_gym.client.tensors import ALIGNMENT_BYTES, Torch, Transfer

ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(3, 2),
    np.array([True, False, True]),
    np.array(7, np.int64),
    np.zeros((2, 0, 3), np.float64),
    np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    np.arange(5, dtype=np.uint8)[::2],
    np.array([1.5, np.nan, np.inf], np.float16),
]


@pytest.fixture
def transfer() -> Transfer:
    """To a device that stands for one: the transfer is a copy all the same."""
    here = Torch("cpu")
    return Transfer(torch, torch.device("cpu"), here._kinds)


def test_arrays_arrive_as_they_are(transfer: Transfer) -> None:
    tensors = transfer(ARRAYS)
    for tensor, array in zip(tensors, ARRAYS, strict=True):
        assert_same(tensor.numpy(), np.array(array, order="C").reshape(array.shape))
        assert tensor.data_ptr() % ALIGNMENT_BYTES == tensors[0].data_ptr() % ALIGNMENT_BYTES or not array.size


def test_a_batch_is_one_transfer(transfer: Transfer) -> None:
    with torch.profiler.profile() as profile:
        transfer(ARRAYS)
    counts = {event.key: event.count for event in profile.key_averages()}
    assert counts["aten::copy_"] == 1


def test_nothing_comes_of_nothing(transfer: Transfer) -> None:
    assert transfer([]) == []
    assert transfer([np.zeros((0, 3), np.float32)])[0].shape == (0, 3)


def test_the_next_batch_leaves_the_last_alone(transfer: Transfer) -> None:
    first = transfer(ARRAYS)
    for size in (1, 1000, 2):
        last = transfer([np.full(size, size, np.float64)])
    for tensor, array in zip(first, ARRAYS, strict=True):
        assert_same(tensor.numpy(), np.array(array, order="C").reshape(array.shape))
    assert last[0].tolist() == [2.0, 2.0]


class Elsewhere(str):
    """A device that says it is CUDA's, and is this process's memory."""

    type = "cuda"


class Driver:
    """PyTorch with a driver that writes down what it is asked, in order; nothing else of CUDA is needed."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.cuda = self
        self.uint8 = torch.uint8

    def Event(self) -> Driver:
        return self

    def synchronize(self) -> None:
        self.log.append("wait")

    def record(self, stream: str) -> None:
        self.log.append(f"record {stream}")

    def current_stream(self, device: str) -> str:
        return f"stream of {device}"

    def empty(self, size: int, dtype: torch.dtype, pin_memory: bool) -> torch.Tensor:
        self.log.append(f"{'pinned' if pin_memory else 'plain'} {size}")
        return torch.empty(size, dtype=dtype)


def test_the_order_of_things_with_cuda() -> None:
    """One pinned buffer, which is written only after the last transfer has read it."""
    driver = Driver()
    transfer = Transfer(driver, Elsewhere("cpu"), Torch("cpu")._kinds)
    assert_same(transfer([np.arange(3.0)])[0].numpy(), np.arange(3.0))
    assert driver.log == ["wait", "pinned 32", "record stream of cpu"]
    assert transfer([np.arange(2.0)])[0].tolist() == [0, 1]
    assert driver.log[3:] == ["wait", "record stream of cpu"]
    transfer([np.zeros(100)])
    assert driver.log[5:] == ["wait", "pinned 800", "record stream of cpu"]


def test_a_device_without_memory_shows_all_but_values(toys: ToyServer) -> None:
    """PyTorch's ``meta``: dtypes, shapes and structure of every space, through the way to another device."""
    for space in ("nested", "graph", "box f2", "mixed"):
        here = toys.vector("echo", 3, {"space": space}, array="torch")
        there = toys.vector("echo", 3, {"space": space}, array="torch", device="meta")
        with here, there:
            for ours, theirs in ((there.reset(seed=1), here.reset(seed=1)), (step(there), step(here))):
                assert shape_of(ours) == shape_of(theirs)


def step(envs: Any) -> Any:
    envs.action_space.seed(1)
    return envs.step(envs.action_space.sample())


def shape_of(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape
    if isinstance(value, np.ndarray):
        return [shape_of(one) for one in value.ravel()]
    if isinstance(value, dict):
        return {key: shape_of(one) for key, one in value.items()}
    return [shape_of(one) for one in value] if isinstance(value, list | tuple) else value


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_on_a_gpu(toys: ToyServer) -> None:
    def back(value: Any) -> Any:
        return plain(tree_map_only(torch.Tensor, torch.Tensor.cpu, value))

    for space in toy_module.SPACES:
        local = SyncVectorEnv([lambda space=space: toy_module.create("echo", space=space)] * 3)
        with toys.vector("echo", 3, {"space": space}, array="torch", device="cuda") as envs, closing(local):
            local.action_space.seed(2)
            assert_same(back(envs.reset(seed=1)[0]), local.reset(seed=1)[0])
            for _ in range(50):
                actions = local.action_space.sample()
                on_gpu = tree_map_only(torch.Tensor, torch.Tensor.cuda, given(actions))
                assert_same(back(envs.step(on_gpu)[:4]), local.step(actions)[:4])
