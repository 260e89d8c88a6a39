"""The page on tracing, followed from top to bottom; it sets this process's SDK, so it comes last."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.sdk")

from repository.test_docs import DOCS, follow

from remote_gym.cli.waterfall import read_spans, roots


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(DOCS / "how-to" / "tracing.md", tmp_path, monkeypatch)
    recorded = roots(read_spans((tmp_path / "trainer.jsonl").read_text().splitlines()))
    steps = [top for top in recorded if top.name.endswith("step")]
    assert len(steps) == 100
    assert (tmp_path / "step.svg").read_text().startswith("<svg")
