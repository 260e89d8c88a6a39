"""Set the hooks' tools to their newest releases: ``tox run -e update-hooks``.

The hooks of `.pre-commit-config.yaml` are packages of the index, pinned like those of `tox.ini`; ruff is in both, and
has to be the same in both. `pre-commit autoupdate` knows only hooks that are git repositories.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

FILES = (".pre-commit-config.yaml", "tox.ini")
PIN = re.compile(r"\b(ruff|pre-commit-hooks)==([\w.]+)")


def newest(package: str) -> str:
    """Ask the index for the newest release of `package`."""
    command = [sys.executable, "-m", "pip", "index", "versions", package]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    match = re.match(rf"{re.escape(package)} \(([\w.]+)\)", listed)
    if match is None:
        raise SystemExit(f"cannot read the answer of pip: {listed[:200]!r}")
    return match[1]


def update(root: Path, newest_of: Callable[[str], str] = newest) -> list[str]:
    """Rewrite the pins and return what has changed, a line each."""
    texts = {name: (root / name).read_text(encoding="utf-8") for name in FILES}
    versions = {
        package: newest_of(package) for package in sorted({m[1] for t in texts.values() for m in PIN.finditer(t)})
    }
    changes = []
    for name, text in texts.items():
        for match in PIN.finditer(text):
            if match[2] != versions[match[1]]:
                changes.append(f"{name}: {match[1]} {match[2]} -> {versions[match[1]]}")
        (root / name).write_text(PIN.sub(lambda match: f"{match[1]}=={versions[match[1]]}", text), encoding="utf-8")
    return changes


if __name__ == "__main__":
    print("\n".join(update(Path(__file__).resolve().parents[1])) or "all hooks are the newest")
