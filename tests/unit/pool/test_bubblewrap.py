"""What a worker sees inside bubblewrap: the arguments, and what they do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remote_gym.pool import bubblewrap
from remote_gym.pool.sandbox import Sandbox, find_bubblewrap

BWRAP = shutil.which("bwrap") or ""
INTERPRETER = [sys.prefix, sys.base_prefix]


def usable() -> bool:
    return bool(find_bubblewrap(Sandbox(), sys.executable, [], os.environ)[0])


needs_bubblewrap = pytest.mark.skipif(not usable(), reason="bubblewrap is not usable here")

LOOK = """
import json, os, sys
def read(path):
    try:
        return open(path).read()
    except OSError as error:
        return type(error).__name__
print(json.dumps([os.getcwd(), [read(path) for path in sys.argv[1:]]]))
"""


def seen(paths: list[Path], needed: list[Path], hidden: list[Path], folder: str = "/") -> Any:
    """Return the working directory inside and what is read of `paths`: their content, or the name of an error."""
    words = bubblewrap.arguments([*INTERPRETER, *map(str, needed)], list(map(str, hidden)), folder)
    command = [BWRAP, *words, sys.executable, "-I", "-S", "-c", LOOK, *map(str, paths)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("code.py", "notes", "tls/key.pem", "tls/ca.pem", "pack/__init__.py", "pack/key.pem", "data/set"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "other-key.pem").write_text("-----BEGIN PRIVATE KEY-----")
    (tmp_path / "link").symlink_to("data")
    return tmp_path


@needs_bubblewrap
def test_what_is_needed_is_there_and_the_rest_of_tmp_is_not(project: Path) -> None:
    code, stranger = project / "pack", project / "notes"
    folder, read = seen([code / "__init__.py", stranger], [code], [], str(code))
    assert read == ["pack/__init__.py", "FileNotFoundError"]
    assert folder == str(code)


@needs_bubblewrap
def test_a_folder_of_secrets_in_that_of_the_code_is_empty(project: Path) -> None:
    _, read = seen(
        [project / "code.py", project / "tls" / "key.pem", project / "tls" / "ca.pem", project / "link" / "set"],
        [project],
        [project / "tls" / "key.pem"],
    )
    assert read == ["code.py", "FileNotFoundError", "FileNotFoundError", "data/set"]


@needs_bubblewrap
def test_a_secret_beside_the_code_is_missing_there_and_so_is_every_key(project: Path) -> None:
    names = ["code.py", "notes", "other-key.pem", "data/set", "link/set", "tls/ca.pem"]
    _, read = seen([project / name for name in names], [project], [project / "notes"])
    assert read == ["code.py", "FileNotFoundError", "FileNotFoundError", "data/set", "data/set", "tls/ca.pem"]


@needs_bubblewrap
def test_a_package_that_holds_a_secret_stays_a_package(project: Path) -> None:
    _, read = seen(
        [project / "pack" / "__init__.py", project / "pack" / "key.pem"], [project], [project / "pack/key.pem"]
    )
    assert read == ["pack/__init__.py", "FileNotFoundError"]


@needs_bubblewrap
def test_links_lead_to_what_is_needed_and_to_no_secret(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """As Kubernetes mounts keys, and as people name folders."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "way").symlink_to(project)
    (elsewhere / "key.pem").symlink_to(project / "tls" / "key.pem")
    _, read = seen(
        [elsewhere / "way" / "code.py", elsewhere / "key.pem", project / "tls" / "key.pem"],
        [elsewhere / "way"],
        [elsewhere / "key.pem"],
    )
    assert read == ["code.py", "FileNotFoundError", "FileNotFoundError"]


@needs_bubblewrap
def test_a_key_that_is_renewed_stays_hidden(project: Path) -> None:
    """A file that is put over another one would come back to sight with its successor."""
    words = bubblewrap.arguments([*INTERPRETER, str(project)], [str(project / "notes")], "/")
    look = "import os, sys; print(flush=True); sys.stdin.readline(); print(os.path.exists(sys.argv[1]))"
    command = [BWRAP, *words, sys.executable, "-I", "-S", "-c", look, str(project / "notes")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as inside:
        assert inside.stdout is not None and inside.stdout.readline() == "\n"
        (project / "new").write_text("renewed")
        os.replace(project / "new", project / "notes")
        assert inside.communicate("\n", timeout=30)[0] == "False\n"


@needs_bubblewrap
def test_why_it_is_unusable_is_found_out_by_using_it(project: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": bubblewrap.HOME}

    def why(*needed: str, **changes: str) -> str | None:
        hidden = [str(project / "tls" / "key.pem")]
        return bubblewrap.unusable(BWRAP, sys.executable, [*INTERPRETER, *needed], hidden, environment | changes)

    assert why(str(project)) is None
    assert "it can read" in str(why(str(project / "tls" / "key.pem")))  # what is needed is shown
    assert "Read-only" in str(why(HOME="/etc"))
    assert "No such file" in str(bubblewrap.unusable(str(tmp_path / "none"), sys.executable, [], [], environment))


def test_what_is_hidden_is_the_folder_or_where_that_is_needed_its_keys(project: Path) -> None:
    key, beside = str(project / "tls" / "key.pem"), str(project / "notes")
    assert bubblewrap.hiding([str(project)], [key]) == [str(project / "tls")]
    assert bubblewrap.hiding([str(project)], [beside]) == [beside, str(project / "other-key.pem")]
    assert bubblewrap.hiding([str(project / "pack")], [beside]) == [beside, str(project / "other-key.pem")]
    assert bubblewrap.hiding([str(project)], [str(project / "pack" / "key.pem")]) == [str(project / "pack" / "key.pem")]
    assert bubblewrap.hiding([], [str(project / "none" / "key.pem")]) == []


def test_a_command_that_does_not_work_is_not_usable(tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    found, why = find_bubblewrap(Sandbox(), sys.executable, [], {"PATH": str(tmp_path)})
    assert found == "" and "No permissions to create new namespace" in why


@needs_bubblewrap
@pytest.mark.skipif(not (BWRAP and bubblewrap.takes_sizes(BWRAP)), reason="this bubblewrap is too old")
def test_what_is_written_has_a_limit() -> None:
    words = bubblewrap.arguments(INTERPRETER, [], "/", 2**20)
    write = "import sys; open(sys.argv[1], 'wb', 0).write(bytes(int(sys.argv[2])))"

    def written(path: str, size: int) -> bytes:
        command = [
            BWRAP,
            *words,
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"{write}; print(open(sys.argv[1], 'rb').seek(0, 2))",
        ]
        return subprocess.run([*command, path, str(size)], capture_output=True, timeout=60, check=False).stdout

    for folder in ("/tmp", "/run", "/dev/shm"):
        assert written(f"{folder}/x", 2**19) == b"%d\n" % 2**19
        assert written(f"{folder}/x", 2**21) in (b"", b"%d\n" % 2**20)
    assert written("/dev/x", 1) == b""


def test_a_command_that_is_none_takes_no_sizes() -> None:
    assert not bubblewrap.takes_sizes("/nowhere/bwrap")


def test_a_secret_in_the_root_is_covered_by_nothing() -> None:
    words = bubblewrap.arguments([], ["/key.pem"], "/")
    at = words.index("/key.pem")
    assert words[at - 2 : at] == ["--ro-bind", "/dev/null"]
