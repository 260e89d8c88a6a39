"""`remote-gym check-connection`: every step that can fail, and what is said about it."""

from __future__ import annotations

import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from conftest import Certificates, ServerFactory

import remote_gym
from remote_gym.cli import main
from remote_gym.cli.certificates import write_certificates
from remote_gym.client.diagnosis.steps import STEP_NAMES
from remote_gym.wire import codec

MARKS = {"ok": True, "FAILED": False, "-": None}


class Checked:
    """What one run printed and returned."""

    def __init__(self, capsys: pytest.CaptureFixture[str], address: str, *flags: str | Path) -> None:
        self.code = main(["check-connection", address, "--timeout", "5", *map(str, flags)])
        captured = capsys.readouterr()
        self.text = captured.out + captured.err
        found = re.findall(r"^  ([a-z ]+?) \.+ (ok|FAILED|-) +(.*)$", captured.out, re.MULTILINE)
        self.steps = {name: MARKS[mark] for name, mark, _ in found}
        self.details = {name: detail for name, _, detail in found}

    @property
    def failed(self) -> list[str]:
        return [name for name, ok in self.steps.items() if ok is False]


def flags(certificates: Certificates, mutual: bool = False) -> list[str | Path]:
    names = ("--root_certificate", "--client_certificate", "--client_private_key")
    paths = certificates.client_mutual if mutual else certificates.client
    return [part for pair in zip(names, paths, strict=False) for part in pair]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_all_steps_good(serve: ServerFactory, certificates: Certificates, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve(server_credentials_paths=certificates.server_mutual)
    checked = Checked(capsys, server.address, *flags(certificates, mutual=True))
    assert checked.code == 0
    assert checked.steps == dict.fromkeys([*STEP_NAMES, "server version", "direct carrier"], True)
    assert f"remote-gym {remote_gym.__version__}, protocol 1; 2 workers" in checked.details["server version"]
    assert checked.details["client certificate"] == "accepted"


def test_grpc_only_is_no_failure(serve: ServerFactory, capsys: pytest.CaptureFixture[str]) -> None:
    checked = Checked(capsys, serve(grpc_only=True).address)
    assert checked.code == 0
    assert checked.steps["direct carrier"] is None
    assert "gRPC only" in checked.details["direct carrier"]


def test_plaintext(serve: ServerFactory, capsys: pytest.CaptureFixture[str]) -> None:
    checked = Checked(capsys, serve().address)
    assert checked.code == 0
    assert checked.steps["server version"] is True
    assert checked.steps["certificate name"] is None


def test_address_fails(capsys: pytest.CaptureFixture[str]) -> None:
    checked = Checked(capsys, "no-such-host.invalid:1")
    assert (checked.code, checked.failed) == (1, ["address"])
    assert checked.steps["server version"] is None
    assert "'no-such-host.invalid' does not resolve" in checked.text


def test_tcp_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    checked = Checked(capsys, f"127.0.0.1:{port}")
    assert (checked.code, checked.failed) == (1, ["tcp"])
    assert "no server is running there" in checked.text


def test_tls_fails_on_a_foreign_ca(
    serve: ServerFactory, certificates: Certificates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(server_credentials_paths=certificates.server)
    write_certificates(tmp_path)
    checked = Checked(capsys, server.address, "--root_certificate", tmp_path / "ca.pem")
    assert (checked.code, checked.failed) == (1, ["tls"])
    assert "is not signed by the given CA" in checked.text


def test_tls_fails_on_plaintext_against_tls(
    serve: ServerFactory, certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(server_credentials_paths=certificates.server)
    checked = Checked(capsys, server.address)
    assert (checked.code, checked.failed) == (1, ["tls"])
    assert "wants TLS" in checked.text


def test_certificate_name_fails_and_says_which_ip_is_missing(
    serve: ServerFactory, certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(url="127.0.0.2", server_credentials_paths=certificates.server)
    checked = Checked(capsys, server.address, *flags(certificates))
    assert (checked.code, checked.failed) == (1, ["certificate name"])
    assert checked.steps["tls"] is True
    assert "lacks the IP 127.0.0.2; it is for " in checked.details["certificate name"]
    assert "remote-gym certs DIR --host 127.0.0.2" in checked.text


def test_client_certificate_fails(
    serve: ServerFactory, certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(server_credentials_paths=certificates.server_mutual)
    checked = Checked(capsys, server.address, *flags(certificates))
    assert (checked.code, checked.failed) == (1, ["client certificate"])
    assert "requires a client certificate" in checked.text


def test_server_version_fails_on_another_grpc_service(capsys: pytest.CaptureFixture[str]) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        checked = Checked(capsys, f"127.0.0.1:{port}")
    finally:
        server.stop(None).wait()
    assert (checked.code, checked.failed) == (1, ["server version"])
    assert "it is not remote-gym" in checked.text
    assert "0.x: upgrade it" in checked.text


def test_server_version_fails_without_a_common_protocol(
    serve: ServerFactory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    too_new = lambda theirs, peer: codec.common_protocol(theirs, peer, ours=(7, 9))  # noqa: E731
    monkeypatch.setattr("remote_gym.cli.check_connection.common_protocol", too_new)
    checked = Checked(capsys, server.address)
    assert (checked.code, checked.failed) == (1, ["server version"])
    assert "upgrade remote_gym on the server" in checked.details["server version"]


def test_a_server_that_keeps_silent_costs_the_timeout_only(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        checked: list[Checked] = []
        thread = threading.Thread(target=lambda: checked.append(Checked(capsys, f"127.0.0.1:{port}", "--timeout", "1")))
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    assert (checked[0].code, checked[0].failed) == (1, ["tls"])


@pytest.mark.parametrize(
    "given", [["--client_certificate", "a"], ["--root_certificate", "a", "--client_private_key", "b"]]
)
def test_flags_that_belong_together(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        Checked(capsys, "127.0.0.1:1", *given)
    assert caught.value.code == 2
    assert "belong together" in capsys.readouterr().err


def test_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checked = Checked(capsys, "127.0.0.1:1", "--root_certificate", tmp_path / "nowhere.pem")
    assert checked.code == 1
    assert "nowhere.pem" in checked.text


VARIABLES = (
    "REMOTE_GYM_URL",
    "REMOTE_GYM_ROOT_CERTIFICATE",
    "REMOTE_GYM_CLIENT_CERTIFICATE",
    "REMOTE_GYM_CLIENT_PRIVATE_KEY",
)


def test_without_flags_it_dials_as_a_trainer_does(
    serve: ServerFactory,
    certificates: Certificates,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve(server_credentials_paths=certificates.server_mutual)
    for name, value in zip(VARIABLES, (server.address, *certificates.client_mutual), strict=True):
        monkeypatch.setenv(name, str(value))
    assert main(["check-connection"]) == 0
    assert f"{server.address} over TLS" in capsys.readouterr().out
    monkeypatch.setenv("REMOTE_GYM_ROOT_CERTIFICATE", "no.pem")
    assert main(["check-connection"]) == 1
    assert "remote-gym check-connection: REMOTE_GYM_ROOT_CERTIFICATE='no.pem' does not" in capsys.readouterr().err
    monkeypatch.setenv("REMOTE_GYM_URL", "http://x")
    assert main(["check-connection"]) == 1
    assert "remote-gym check-connection: REMOTE_GYM_URL='http://x': give only" in capsys.readouterr().err


@pytest.mark.parametrize("is_socket", [False, True], ids=["flags", "a socket"])
def test_what_is_given_comes_before_variables(
    is_socket: bool,
    serve: ServerFactory,
    certificates: Certificates,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Certificates by flags, or a socket, which needs none."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "localhost:1" if name == "REMOTE_GYM_URL" else "no.pem")
    if is_socket:
        server = serve(url=f"unix:{tmp_path}/s.sock", port=None)
        given: list[str | Path] = []
    else:
        server = serve(server_credentials_paths=certificates.server)
        given = flags(certificates)
    assert Checked(capsys, server.address, *given).code == 0
