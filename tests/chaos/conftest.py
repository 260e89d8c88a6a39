"""Options of the long tests, and where their figures go. `tox run -e chaos`, `tox run -e soak`."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import gymnasium
import pytest
from conftest import Certificates
from faults.scenarios import Stage

import remote_gym

ROOT = Path(__file__).parents[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--seed", type=int, default=None, help="of all choices; printed; default: a new one")
    group.addoption("--scale", type=float, default=1.0, help="fraction of the promised counts")
    group.addoption("--minutes", type=float, default=30.0, help="how long to soak")
    group.addoption("--results", type=Path, default=None, help="JSON file to write figures to, beside those it has")


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    given = request.config.getoption("--seed")
    chosen: int = random.SystemRandom().randrange(2**32) if given is None else given
    print(f"\n--seed {chosen}")
    return chosen


@pytest.fixture
def scaled(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """Turn a promised count into the one of this run."""
    return lambda count: max(1, round(count * request.config.getoption("--scale")))


@pytest.fixture
def record(request: pytest.FixtureRequest, seed: int) -> Iterator[dict[str, Any]]:
    """Figures of one test; printed, and written to ``--results``, also when the test fails."""
    figures: dict[str, Any] = {}
    began = time.monotonic()
    yield figures
    report = getattr(request.node, "outcome", "unknown")
    figures = {**figures, "outcome": report, "seed": seed, "seconds": round(time.monotonic() - began, 1)}
    print(json.dumps({request.node.name: figures}))
    path = request.config.getoption("--results")
    if path is not None:
        known = json.loads(path.read_text()) if path.exists() else {"machine": machine()}
        path.write_text(json.dumps({**known, request.node.name: figures}, indent=1) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if call.when == "call":
        item.outcome = report.outcome  # type: ignore[attr-defined]
    return report


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(), "system": platform.platform(terse=True), "python": platform.python_version(),
        "grpcio": grpc.__version__, "gymnasium": gymnasium.__version__, "remote_gym": remote_gym.__version__,
        "date": time.strftime("%Y-%m-%d"), "load_when_begun": os.getloadavg()[0],
    }  # fmt: skip


@pytest.fixture
def stage(tmp_path: Path, certificates: Certificates, seed: int) -> Iterator[Stage]:
    stage = Stage(tmp_path, certificates, random.Random(seed))
    with contextlib.closing(stage):
        yield stage


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that at least `share` of `values` do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
