"""The benchmark of the borders runs, quickly; its parts follow one another and cover the step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

FOLDER = Path(__file__).parents[2] / "benchmarks"


def span(name: str, began: int, ended: int) -> dict[str, Any]:
    return {"name": name, "startTimeUnixNano": str(began), "endTimeUnixNano": str(ended)}


def test_the_parts_follow_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import borders

    trace = [
        span("RemoteVectorEnv.step", 0, 100), span("encode", 1, 12), span("request", 10, 85), span("admit", 10, 20),
        span("round", 21, 60), span("step", 25, 40), span("round", 21, 70), span("step", 30, 65),
        span("gather", 70, 80), span("write", 80, 85), span("wait", 12, 90), span("decode", 90, 100),
    ]  # fmt: skip
    assert borders.marks(trace) == [0, 10, 10, 20, 25, 65, 70, 80, 90, 100]
    assert borders.marks(trace[:-1]) is None
    assert len(borders.PARTS) == 9


def test_it_runs(tmp_path: Path) -> None:
    output = tmp_path / "borders.json"
    command = [sys.executable, str(FOLDER / "borders.py"), "--quick", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=True)
    (one,) = json.loads(output.read_text())["results"]
    assert one["steps"] > 0
    assert all(value >= 0 for value in one["microseconds"].values())
    assert "hop to the worker" in done.stdout
