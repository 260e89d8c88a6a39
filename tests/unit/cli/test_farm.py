"""What ``remote-gym farm`` reads and writes itself; with Ray: `tests/farm/test_command.py`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from remote_gym.cli import farm
from remote_gym.cli.options import SETTINGS
from remote_gym.errors import MisuseError


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    farm.add_arguments(parser)
    return parser.parse_args(["--on", "ray", *words])


@pytest.mark.parametrize(("words", "servers"), [((), "per-node"), (("--servers", "3"), 3)])
def test_servers(words: tuple[str, ...], servers: Any) -> None:
    assert parsed(*words).servers == servers


def test_what_servers_are_told_is_a_setting_of_theirs() -> None:
    names = {setting.name for setting in farm.OURS}
    assert {"entrypoint", "num_workers", "step_timeout_seconds", "sandbox"} <= names
    assert not names & {"url", "port", "server_certificate", "token_file", "allow_insecure", "admin_socket"}
    assert names < {setting.name for setting in SETTINGS}
    assert parsed("--max-envs", "64").max_envs == 64


def test_a_folder_of_its_own_goes_with_all_that_is_in_it() -> None:
    with farm._directory(None) as folder:
        assert folder.stat().st_mode & 0o77 == 0
        (folder / farm.ADDRESSES).touch()
    assert not folder.exists()


def test_of_a_folder_of_the_users_it_takes_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with farm._directory(str(tmp_path)) as folder:
        assert folder == tmp_path
        (folder / farm.ADDRESSES).touch()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_nothing_of_the_users_is_overwritten(tmp_path: Path) -> None:
    farm._check_directory(None)
    farm._check_directory(str(tmp_path / "new"))
    (tmp_path / "ca.pem").write_text("of my own")
    with pytest.raises(MisuseError, match=r"ca\.pem .* would be overwritten"):
        farm._check_directory(str(tmp_path))


def test_addresses_are_written_whole(tmp_path: Path) -> None:
    file = tmp_path / farm.ADDRESSES
    for addresses in (["127.0.0.1:1", "127.0.0.1:2"], ["127.0.0.1:3"]):
        farm._write(file, addresses)
        assert file.read_text().split() == addresses
    assert list(tmp_path.iterdir()) == [file]
