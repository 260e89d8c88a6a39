"""The snippets of the page run, against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest
from repository.test_docs import DOCS, follow


def test_snippets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(DOCS / "trainers" / "sb3.md", tmp_path, monkeypatch)
