"""24 failure points x {Reset, Step, Call, Close} x 25; cuts at every byte of an opening, a reset and three steps."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from faults.scenarios import OPERATIONS, SCENARIOS, Stage

TIMES = 25


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_point(
    stage: Stage, name: str, operation: str, seed: int, scaled: Callable[[int], int], record: dict[str, Any]
) -> None:
    for turn in range(scaled(TIMES)):
        own = zlib.crc32(f"{seed} {name} {operation} {turn}".encode())
        stage.random = random.Random(own)
        SCENARIOS[name](stage, operation)
        record["runs"] = turn + 1


@pytest.mark.parametrize("secure", [False, True], ids=["plaintext", "tls"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_every_byte_offset(stage: Stage, direction: str, secure: bool, record: dict[str, Any], scaled: Any) -> None:
    if not secure:
        stage.certificates = None
    _, proxy = stage.server()

    def exchange(cut_at: int | None) -> int:
        before = getattr(proxy, direction).passed
        with stage.trial(proxy, prepare=False) as trial:
            if cut_at is not None:
                proxy.cut_after(cut_at, direction)
            trial.reset(1)
            for _ in range(3):
                trial.step()
            passed = getattr(proxy, direction).passed - before
            trial.check_journals()
            return int(passed)

    total = max(exchange(None) for _ in range(3))
    record["bytes"] = total
    every = max(1, total // scaled(total))
    for offset in range(1, total + 1, every):
        exchange(offset)
        record["cuts"] = record.get("cuts", 0) + 1
