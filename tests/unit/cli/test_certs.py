"""``remote-gym certs``: the command around `write_certificates`, and that a server and clients take its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ServerFactory

from remote_gym import RemoteEnvironment
from remote_gym.cli import main


def test_it_writes_under_the_names_of_the_seed_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["certs", str(tmp_path), "--host", "gpu-box.local", "--host", "10.0.0.7"]) == 0
    out = capsys.readouterr().out
    for name in ("ca.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem"):
        assert (tmp_path / name).is_file()
        assert str(tmp_path / name) in out


def test_its_files_serve_and_connect(serve: ServerFactory, tmp_path: Path) -> None:
    main(["certs", str(tmp_path)])
    server = serve(
        num_workers=1,
        server_credentials_paths=[tmp_path / name for name in ("server.pem", "server-key.pem", "ca.pem")],
    )
    credentials = [tmp_path / name for name in ("ca.pem", "client.pem", "client-key.pem")]
    for host in ("127.0.0.1", "localhost"):
        with RemoteEnvironment(host, server.port, client_credentials_paths=credentials) as env:
            env.reset()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["--host", "0.0.0.0"], "where a server listens"), (["--host", "a b"], "'a b'")],
)
def test_a_wrong_argument_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert main(["certs", str(tmp_path), *arguments]) == 1
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_existing_files_are_not_overwritten_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certs", str(tmp_path)]) == 0
    before = (tmp_path / "ca.pem").read_bytes()
    assert main(["certs", str(tmp_path)]) == 1
    assert "exists" in capsys.readouterr().err
    assert (tmp_path / "ca.pem").read_bytes() == before
    assert main(["certs", str(tmp_path), "--overwrite"]) == 0
    assert (tmp_path / "ca.pem").read_bytes() != before
