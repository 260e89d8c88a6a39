"""``remote-gym tokens``: what it prints, what it leaves in the file, and that a server takes both."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest
from conftest import Certificates, ServerFactory

from remote_gym import RefusedError, RemoteEnvironment
from remote_gym.cli import main
from remote_gym.server.tokens import digest_of, read_tokens

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REMOTE_GYM_TOKEN", raising=False)
    return tmp_path


def add(capsys: Capture, *arguments: str) -> str:
    assert main(["tokens", "add", *arguments]) == 0
    return capsys.readouterr().out.removesuffix("\n")


def test_add_prints_the_token_and_writes_a_hash(folder: Path, capsys: Capture) -> None:
    token = add(capsys, "alice")
    file = folder / "remote-gym.tokens"
    assert "\n" not in token and token not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    ((line,), wrong) = read_tokens(file.read_text())
    assert (line.name, line.digest, wrong) == ("alice", digest_of(token), [])
    assert line.expires == pytest.approx(time.time() + 90 * 86_400, abs=60)


@pytest.mark.parametrize(
    ("period", "seconds"), [("12h", 43_200), ("90d", 7_776_000), ("2w", 1_209_600), ("1y", 31_536_000), ("never", None)]
)
def test_when_it_expires(folder: Path, capsys: Capture, period: str, seconds: float | None) -> None:
    add(capsys, "alice", "--expires", period, "--file", "x")
    ((line,), _) = read_tokens((folder / "x").read_text())
    assert line.expires is None if seconds is None else line.expires == pytest.approx(time.time() + seconds, abs=60)


@pytest.mark.parametrize("period", ["0d", "1", "-1d", "1.5d", "d", "101y", "soon"])
def test_when_it_cannot(capsys: Capture, period: str) -> None:
    with pytest.raises(SystemExit):
        main(["tokens", "add", "alice", f"--expires={period}"])
    assert "must be a time such as 12h, 90d, 8w or 1y, or never" in capsys.readouterr().err


def test_the_file_is_the_servers(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "remote-gym.toml").write_text('[serve]\ntoken_file = "of-the-settings"\n')
    add(capsys, "alice")
    assert (folder / "of-the-settings").exists()
    monkeypatch.setenv("REMOTE_GYM_SERVE_TOKEN_FILE", "of-the-variable")
    add(capsys, "alice")
    assert (folder / "of-the-variable").exists()


def test_list_and_revoke(folder: Path, capsys: Capture) -> None:
    tokens = [add(capsys, name) for name in ("alice", "bob", "alice")]
    file = folder / "remote-gym.tokens"
    file.write_text(f"# the lab's\n{file.read_text()}old sha256:{'0' * 64} 2020-01-01T00:00:00Z\n")
    assert main(["tokens", "list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == ["alice", "bob", "alice", "old"]
    assert listed[-1] == "old    00000000  2020-01-01T00:00:00Z  expired"
    assert main(["tokens", "revoke", "alice"]) == 0
    assert "2 of alice are no more" in capsys.readouterr().err
    left, wrong = read_tokens(file.read_text())
    assert ([line.name for line in left], wrong) == (["bob", "old"], [])
    assert left[0].digest == digest_of(tokens[1])
    assert file.read_text().startswith("# the lab's\n")
    assert main(["tokens", "revoke", "alice"]) == 1
    assert "has no token of 'alice'; it has those of bob, old" in capsys.readouterr().err


def test_list_tells_what_is_wrong(folder: Path, capsys: Capture) -> None:
    (folder / "remote-gym.tokens").write_text("alice\n")
    assert main(["tokens", "list"]) == 1
    assert "line 1: 1 fields" in capsys.readouterr().err


def test_a_server_takes_it_as_long_as_it_is_there(
    serve: ServerFactory, certificates: Certificates, capsys: Capture, folder: Path
) -> None:
    token = add(capsys, "alice")
    file = folder / "remote-gym.tokens"
    server = serve(num_workers=1, server_credentials_paths=certificates.server, token_file=file)
    another = add(capsys, "bob")
    for one in (token, another):
        with RemoteEnvironment(server.address, client_credentials_paths=certificates.client, token=one) as env:
            env.reset(seed=0)
    main(["tokens", "revoke", "bob"])
    with (
        RemoteEnvironment(server.address, client_credentials_paths=certificates.client, token=another) as env,
        pytest.raises(RefusedError, match="does not know your token"),
    ):
        env.reset(seed=0)
