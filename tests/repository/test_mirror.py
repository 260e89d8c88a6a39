"""Every module has its unit tests, and every logger its name, where the folders say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("client", "server", "pool", "ipc", "worker", "dashboard")
INTERFACES = frozenset({"client/carriers/carrier.py"})
"""Modules without anything to run: protocols, and the words they use. Who implements them is tested."""


def modules() -> list[str]:
    paths = (path for folder in FOLDERS for path in (ROOT / "remote_gym" / folder).rglob("*.py"))
    names = {path.relative_to(ROOT / "remote_gym").as_posix() for path in paths if path.name != "__init__.py"}
    assert names > INTERFACES
    return sorted(names - INTERFACES)


@pytest.mark.parametrize("module", modules())
def test_a_module_has_unit_tests(module: str) -> None:
    file = ROOT / "tests" / "unit" / Path(module).with_name(f"test_{Path(module).name}")
    assert file.exists()
    assert "def test_" in file.read_text()


def test_every_logger_is_named_after_a_folder_and_documented() -> None:
    page = (ROOT / "docs" / "reference" / "logs-and-variables.md").read_text()
    for path in (ROOT / "remote_gym").rglob("*.py"):
        for name in re.findall(r'getLogger\("([^"]+)"\)', path.read_text()):
            assert (ROOT / name.replace(".", "/")).is_dir() or (ROOT / f"{name.replace('.', '/')}.py").exists(), name
            assert f"`{name}`" in page, f"{name} of {path} is in no table"
