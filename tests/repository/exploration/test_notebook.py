"""`exploration/quickstart.ipynb` runs from top to bottom without a screen, and is committed without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

NOTEBOOK = Path(__file__).parents[3] / "exploration" / "quickstart.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_committed_without_outputs() -> None:
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(read()))


# Jupyter's own deprecations are none of ours.
@pytest.mark.filterwarnings("ignore")
def test_runs_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    notebook = read()
    nbclient.NotebookClient(notebook, timeout=100, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    texts = [output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs]
    assert len(pictures) == 2
    assert any("frames of shape (400, 600, 3)" in text for text in texts)
    assert any("episodes, mean return" in text for text in texts)
    assert "stopped" in texts[-1]
