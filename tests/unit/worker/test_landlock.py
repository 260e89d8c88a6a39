"""What a process takes from itself; each in a process of its own, as it is for good."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remote_gym.hardening import landlock_version
from remote_gym.worker.landlock import beside

SCRIPT = """
import json, os, sys
from remote_gym.hardening import forbid_privileges
from remote_gym.worker.landlock import restrict
paths, hidden, version = json.loads(sys.argv[1])
forbid_privileges()
restrict(hidden, version)
def read(path):
    try:
        return open(path).read()
    except OSError as error:
        return type(error).__name__
print(json.dumps([read(path) for path in paths]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("code/one.py", "tls/key.pem", "tls/deep/er", "data"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "way").symlink_to("tls")
    return tmp_path


def test_rules_name_what_is_beside_the_hidden(folder: Path) -> None:
    hidden = [str(folder / "tls"), str(folder / "code" / "one.py")]
    assert sorted(beside(str(folder), hidden)) == [str(folder / "data")]
    assert sorted(beside(str(folder), [str(folder / "tls" / "key.pem")])) == [
        str(folder / name) for name in ("code", "data", "tls/deep")
    ]
    assert list(beside(str(folder), ["/elsewhere"])) == [str(folder)]


@pytest.mark.skipif(landlock_version() == 0, reason="the kernel has no Landlock")
@pytest.mark.parametrize("version", sorted({1, min(4, landlock_version()), landlock_version()}))
def test_the_hidden_cannot_be_read_and_all_else_can(folder: Path, version: int) -> None:
    names = ["code/one.py", "tls/key.pem", "tls/deep/er", "way/key.pem", "data"]
    paths = [str(folder / name) for name in names]
    arguments: Any = [paths, [str(folder / "way")], version]
    words = [sys.executable, "-c", SCRIPT, json.dumps(arguments)]
    read = json.loads(subprocess.run(words, capture_output=True, check=True, timeout=60).stdout)
    assert read == ["code/one.py", *["PermissionError"] * 3, "data"]
