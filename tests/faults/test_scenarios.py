"""Every failure point once with every operation; `tox run -e chaos` runs them many times."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from conftest import Certificates
from faults.scenarios import OPERATIONS, SCENARIOS, Stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("faults"), certificates)
    yield stage
    stage.close()


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_what_must_hold_holds(stage: Stage, name: str, operation: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    stage.random = random.Random(seed)
    SCENARIOS[name](stage, operation)
