"""Remove what builds, tests and tools leave behind: ``tox run -e clean``, with ``-- --all`` also `.venv` and `.tox`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

LEFT_BEHIND = (
    "build",
    "dist",
    "site",
    "docs/_build",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".coverage",
    "learning_curve.png",
)
ENVIRONMENTS = (".tox", ".venv")


def clean(root: Path, everything: bool = False) -> list[Path]:
    """Remove it and return what was removed.

    Args:
        root: The checkout.
        everything: Also remove virtual environments.
    """
    targets = [root / name for name in LEFT_BEHIND]
    for path in root.rglob("__pycache__"):
        if not any(part in ENVIRONMENTS for part in path.relative_to(root).parts):
            targets.append(path)
    if everything:
        targets += [root / name for name in ENVIRONMENTS]
    present = [path for path in targets if path.exists()]
    for path in present:
        if path.is_dir() and not path.is_symlink():
            # Ignored: tox may run from within .tox, and Windows keeps open files.
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    return present


if __name__ == "__main__":
    root = Path(__file__).resolve().parents[1]
    for removed in clean(root, "--all" in sys.argv[1:]):
        print(removed.relative_to(root))
