"""Contender's process: the environments of one worker without a worker, to know what they take by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium.vector  # noqa: F401 - a worker has it too; what is measured is the environments
from environments import create_environment


def resident_bytes() -> int:
    """Return what this process holds in memory; Linux only."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) * 1_024


@contextmanager
def memory(config: dict[str, Any]) -> Iterator[Any]:
    """Build and reset `few`, then up to `many` environments; tell by how much the process grew between."""
    envs: list[Any] = []

    def grow(count: int) -> int:
        while len(envs) < count:
            envs.append(create_environment(config["env"]))
            envs[-1].reset(seed=len(envs))
            envs[-1].step(envs[-1].action_space.sample())
        return resident_bytes()

    few = grow(config["few"])
    many = grow(config["many"])
    yield lambda seconds: {"steps": 0, "seconds": 1.0, "grown_bytes": many - few}
