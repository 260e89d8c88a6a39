"""The W3C's `traceparent`, as written and as read from whoever; and that nothing is imported to find out."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_gym.traces import Clock, Parent, read, written

EXAMPLE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # of the W3C's page
PARENT = Parent(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, 1)


def test_the_example_of_the_specification() -> None:
    assert read(EXAMPLE) == PARENT
    assert written(PARENT) == EXAMPLE


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_what_is_written_is_read(trace_id: int, span_id: int, flags: int) -> None:
    assert read(written(Parent(trace_id, span_id, flags))) == Parent(trace_id, span_id, flags)


@pytest.mark.parametrize("later", [b"cc" + EXAMPLE[2:], b"01" + EXAMPLE[2:] + b"-what-comes-then"])
def test_a_later_version_is_read_as_far_as_it_is_known(later: bytes) -> None:
    assert read(later) == PARENT


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"00",
        b"\xff" * 55,
        b"ff" + EXAMPLE[2:],  # no version
        EXAMPLE[:-1],
        EXAMPLE + b"-more",  # version 00 is not longer
        b"01" + EXAMPLE[2:] + b"more",
        EXAMPLE.upper(),
        EXAMPLE.replace(b"-", b"_"),
        b"00-" + b"0" * 32 + EXAMPLE[35:],
        EXAMPLE[:36] + b"0" * 16 + b"-01",
        EXAMPLE * 100_000,
        b" " + EXAMPLE,
        "00-０af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".encode(),
    ],
)
def test_what_is_no_traceparent_is_nothing(hostile: bytes) -> None:
    assert read(hostile) is None


@given(st.binary(max_size=70))
def test_whatever_comes_is_read_or_nothing(data: bytes) -> None:
    found = read(data)
    assert found is None or written(found)[2:] == data[2:55]


def test_a_clock_tells_the_time_and_does_not_go_back() -> None:
    clock = Clock()
    times = [clock.now() for _ in range(1_000)]
    assert times == sorted(times)
    assert abs(clock.now() - time.time_ns()) < 1e9
    assert clock.at(time.monotonic_ns()) >= times[-1]


def test_a_process_without_an_sdk_finds_none_and_imports_nothing() -> None:
    code = """
import sys
from remote_gym.client.remote import Remote
from remote_gym.client.stepping import Stepping
from remote_gym import RemoteEnvironment, RemoteVectorEnv
from remote_gym.traces import find_tracer
envs = RemoteVectorEnv("127.0.0.1:9", num_envs=2)
assert envs._remote.trace is None and type(envs._stepping) is Stepping
assert RemoteEnvironment("127.0.0.1:9")._remote.trace is None
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
try:
    import opentelemetry.trace
except ImportError:
    sys.exit()
assert find_tracer() is None  # of the API alone
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
