"""The page on Ray, as a new user follows it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from farm.conftest import Nodes
from repository.test_docs import DOCS, follow


@pytest.mark.timeout(600)
@pytest.mark.skipif(find_spec("torch") is None, reason="RLlib needs PyTorch")
def test_the_page(three: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(DOCS / "how-to" / "ray.md", tmp_path, monkeypatch)
