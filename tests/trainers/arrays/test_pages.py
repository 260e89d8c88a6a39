"""The snippets of the pages on tensors run, as those of all other pages do."""

from __future__ import annotations

from pathlib import Path

import pytest
from repository.test_docs import DOCS, follow


@pytest.mark.parametrize("name", ["arrays", "batched-simulators"])
def test_snippets(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(DOCS / "trainers" / f"{name}.md", tmp_path, monkeypatch)
