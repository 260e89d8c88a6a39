"""Servers of the commands themselves: the user's settings are not for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from remote_gym import RemoteGymError, RemoteVectorEnv
from remote_gym.cli.own_server import own_server


def test_it_is_told_nothing_but_its_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("remote-gym.toml").write_text('[serve]\nserver_certificate = "no.pem"\nmax_envs = 1\n')
    monkeypatch.setenv("REMOTE_GYM_SERVE_MAX_ENVS", "1")
    monkeypatch.setenv("REMOTE_GYM_SERVE_CONFIG", "no.toml")
    with own_server("CartPole-v1", "--num-workers", "1") as address, RemoteVectorEnv(address, num_envs=2) as envs:
        assert envs.reset()[0].shape == (2, 4)


def test_one_that_does_not_start_says_why() -> None:
    with pytest.raises(RemoteGymError, match=r"the server did not start:\n(.|\n)*NoSuch"), own_server("NoSuch-v0"):
        pass
