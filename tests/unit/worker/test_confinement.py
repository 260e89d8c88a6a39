"""Limits of a worker, each in a process of its own: they are for good."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
import json, mmap, os, resource, sys
from remote_gym.ipc.memory import SharedBlock
from remote_gym.worker.confinement import confine

block = SharedBlock.create(256 << 20)  # as rows, by the server
limits, in_a_sandbox, low = json.loads(sys.argv[1])
if low:
    resource.setrlimit(resource.RLIMIT_FSIZE, (low, low))
before = resource.getrlimit(resource.RLIMIT_NPROC)
confine(limits, in_a_sandbox)
found = {"same processes": before == resource.getrlimit(resource.RLIMIT_NPROC)}
for name in ("DATA", "FSIZE", "CORE"):
    found[name] = resource.getrlimit(getattr(resource, "RLIMIT_" + name))
with open("/proc/self/status") as file:
    found.update(line.split() for line in file if line.startswith("NoNewPrivs"))
block = SharedBlock(block.descriptor, 256 << 20)
block.buffer[-1] = 1
try:
    bytearray(256 << 20)
    found["private"] = True
except MemoryError:
    found["private"] = False
print(json.dumps(found))
"""
FREE = [resource.RLIM_INFINITY] * 2


def confined(limits: dict[str, int], in_a_sandbox: bool, low: int = 0) -> Any:
    words = [sys.executable, "-c", SCRIPT, json.dumps([limits, in_a_sandbox, low])]
    return json.loads(subprocess.run(words, capture_output=True, check=True, timeout=60).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory is counted elsewhere")
def test_memory_of_its_own_is_limited_and_shared_rows_are_not() -> None:
    found = confined({"memory": 200 << 20}, False)
    assert found["DATA"] == [200 << 20] * 2 and not found["private"]
    assert found["NoNewPrivs:"] == "0"


def test_nothing_asked_nothing_limited() -> None:
    found = confined({}, False)
    assert found["private"] and [found["DATA"], found["FSIZE"]] == [
        list(resource.getrlimit(kind)) for kind in (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE)
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
def test_in_a_sandbox() -> None:
    found = confined({"file": 1 << 29}, True)
    assert found["FSIZE"] == [1 << 29] * 2 and found["CORE"] == [0, 0] and found["NoNewPrivs:"] == "1"
    assert found["same processes"]


def test_a_lower_limit_stays() -> None:
    assert confined({"file": 1 << 40}, False, low=1 << 20)["FSIZE"] == [1 << 20] * 2
