"""The snippets of the page run, against a real server."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from repository.test_docs import DOCS, follow


# The page shows both.
@pytest.mark.skipif(find_spec("supersuit") is None or find_spec("stable_baselines3") is None, reason="not installed")
def test_snippets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(DOCS / "trainers" / "pettingzoo.md", tmp_path, monkeypatch)
