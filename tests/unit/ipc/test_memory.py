"""Shared memory without a name: refused memory is an error, and nothing is left behind."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
from conftest import ServerFactory
from helpers import HOSTILE, shared_memory_files

from remote_gym import RefusedError, RemoteEnvironment
from remote_gym.ipc.memory import SharedBlock


@contextmanager
def limit(which: int, soft: int) -> Iterator[None]:
    before = resource.getrlimit(which)
    resource.setrlimit(which, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(which, before)


def test_both_sides_see_the_same_bytes() -> None:
    with SharedBlock.create(10_000) as block:
        assert block.buffer is not None
        other = SharedBlock(os.dup(block.descriptor), block.size)
        block.buffer[7] = 42
        assert other.buffer is not None
        assert other.buffer[7] == 42
        assert block.buffer[9_999] == 0
        other.close()


def test_a_block_is_allocated_and_cannot_be_resized() -> None:
    with SharedBlock.create(1_000_000) as block:
        assert os.fstat(block.descriptor).st_blocks * 512 >= 1_000_000
        with pytest.raises(PermissionError):
            os.ftruncate(block.descriptor, 0)
        with pytest.raises(PermissionError):
            os.ftruncate(block.descriptor, 2_000_000)


def test_refused_memory_is_a_memory_error_and_holds_no_descriptor() -> None:
    before = psutil.Process().num_fds()
    with limit(resource.RLIMIT_FSIZE, 100_000):
        with pytest.raises(MemoryError, match="200000 bytes of shared memory were refused"):
            SharedBlock.create(200_000)
        SharedBlock.create(50_000).close()
    with pytest.raises(MemoryError, match="the machine has only"):
        SharedBlock.create(1 << 50)
    assert psutil.Process().num_fds() == before


def test_a_refused_mapping_is_a_memory_error_and_holds_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    before = psutil.Process().num_fds()
    monkeypatch.setattr("remote_gym.ipc.memory.mmap.mmap", refuse)
    with pytest.raises(MemoryError, match="Cannot allocate memory"):
        SharedBlock.create(1)
    assert psutil.Process().num_fds() == before


def test_arrays_outlive_the_block_they_look_into() -> None:
    block = SharedBlock.create(100)
    array = np.ndarray(100, np.uint8, block.buffer)
    block.close()
    block.close()
    gc.collect()
    array[:] = 1
    assert array.sum() == 100


def test_nothing_appears_in_the_file_system() -> None:
    before = shared_memory_files()
    with SharedBlock.create(1_000_000):
        assert shared_memory_files() <= before


def test_refused_rows_refuse_the_opening_and_the_server_goes_on(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), num_workers=1, allow_client_kwargs=["pixels"])
    kwargs = {"entrypoint_kwargs": {"pixels": 3_000_000}}
    with RemoteEnvironment(server.address) as other:
        other.reset()
        with limit(resource.RLIMIT_FSIZE, 1_000_000):  # of the server, which runs in this process
            with (
                RemoteEnvironment(server.address, remote_args=kwargs) as env,
                pytest.raises(RefusedError, match=r"shared rows for 1 environments could not be allocated") as caught,
            ):
                env.reset()
            assert caught.value.limit == "row_memory"
            assert other.step(0)[1] == 1.0
            assert server.statistics()["envs"] == 1
        with RemoteEnvironment(server.address, remote_args=kwargs) as env:
            assert env.reset()[0].shape == (3_000_000,)
