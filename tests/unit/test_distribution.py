"""The name to install by, and a word about whoever shares the folder."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from remote_gym import distribution


def install_the_original(folder: Path, version: str) -> None:
    """Make what `pip` leaves of a distribution called remote-gym."""
    metadata = folder / f"remote_gym-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: remote-gym\nVersion: {version}\n")


def test_the_line_to_install_an_extra_names_this_distribution_and_an_extra_it_has() -> None:
    assert distribution.install("server") == 'pip install "remote-gym-pool[server]"'
    assert {"server", "demo", "compression"} <= set(
        importlib.metadata.metadata(distribution.NAME).get_all("Provides-Extra")
    )


def test_an_import_says_that_the_original_is_there_too(tmp_path: Path) -> None:
    install_the_original(tmp_path, "0.7.0")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import remote_gym"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60.0)
    assert "UserWarning: remote-gym 0.7.0 is installed beside remote-gym-pool" in done.stderr
    assert "pip uninstall remote-gym remote-gym-pool" in done.stderr


def test_an_import_alone_says_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", "import remote_gym"], capture_output=True, check=True, timeout=60.0)
    assert done.stderr == b""


@pytest.mark.parametrize("version", ["1.0.0.dev0", "2.3.4"])
def test_an_older_name_of_this_project_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    install_the_original(tmp_path, version)
    monkeypatch.syspath_prepend(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distribution.warn_of_the_original()
