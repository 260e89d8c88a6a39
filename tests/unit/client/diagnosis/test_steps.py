from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import trustme

from remote_gym.cli.certificates import write_certificates
from remote_gym.client.diagnosis import findings
from remote_gym.client.diagnosis.probe import Probe
from remote_gym.client.diagnosis.steps import STEP_NAMES, Diagnosis, diagnose
from remote_gym.credentials import ClientPem, ServerPem, load_server_pem, server_credentials

PATIENCE_SECONDS = 20.0  # of every case that ends by itself; reached only on a broken machine
CA = trustme.CA()
OTHER_CA = trustme.CA(organization_name="another CA")
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


def server_pem(*names: str, mutual: bool = False, days: tuple[int, int] = (-1, 1)) -> ServerPem:
    begin, end = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=day) for day in days)
    leaf = CA.issue_cert(*(names or ("localhost", "127.0.0.1")), not_before=begin, not_after=end)
    root = CA.cert_pem.bytes() if mutual else None
    return ServerPem(leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes(), root)


def client_pem(ca: trustme.CA = CA, signed_by: trustme.CA | None = None) -> ClientPem:
    if signed_by is None:
        return ClientPem(ca.cert_pem.bytes())
    leaf = signed_by.issue_cert("client@example.org")
    return ClientPem(ca.cert_pem.bytes(), leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes())


@contextlib.contextmanager
def grpc_server(pem: ServerPem | None) -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(1))
    if pem is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", server_credentials(pem))
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@contextlib.contextmanager
def tcp_server(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve every connection with `handle`, then close it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    if stopping.is_set():
                        return
                    with contextlib.suppress(OSError):
                        handle(connection)

        stopping = threading.Event()
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stopping.set()
            socket.create_connection(listener.getsockname()).close()
            thread.join()


def tls_server(
    pem: trustme.LeafCert, *, mutual: bool, version: ssl.TLSVersion, alpn: bool = True
) -> Callable[[socket.socket], None]:
    """Return a handler as a TLS server that is not gRPC's: it sends proper alerts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem.configure_cert(context)
    context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(["h2"])
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        CA.configure_trust(context)

    def handle(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    return handle


def failed_step(result: Diagnosis) -> str:
    failed = [step for step in result.steps if step.ok is False]
    assert len(failed) == 1
    assert failed[0].detail == result.summary
    assert result.causes
    assert not result.ok
    later = result.steps[STEP_NAMES.index(failed[0].name) + 1 :]
    assert all(step.ok is None for step in later)
    return failed[0].name


def run(
    port: int, pem: ClientPem | None, host: str = "127.0.0.1", timeout_seconds: float = PATIENCE_SECONDS
) -> Diagnosis:
    started = time.monotonic()
    result = diagnose(host, port, pem, timeout_seconds)
    assert time.monotonic() - started < timeout_seconds + 1
    assert tuple(step.name for step in result.steps) == STEP_NAMES
    assert f"{host}:{port}" in result.summary
    return result


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("mutual", [False, True])
def test_all_is_well_with_tls(host: str, mutual: bool) -> None:
    with grpc_server(server_pem(mutual=mutual)) as port:
        result = run(port, client_pem(signed_by=CA if mutual else None), host)
    assert [step.ok for step in result.steps] == [True] * 5
    assert result.ok and not result.permanent and not result.causes


def test_all_is_well_in_plaintext() -> None:
    with grpc_server(None) as port:
        result = run(port, None)
    assert [step.ok for step in result.steps] == [True, True, True, None, None]
    assert result.ok and not result.permanent


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_is_named_when_all_is_well(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://proxy:3128")
    with grpc_server(None) as port:
        assert name in run(port, None).causes[0]


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64])
def test_name_does_not_resolve(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    if host.endswith(".invalid"):
        monkeypatch.setattr(socket, "getaddrinfo", fail)  # no network in a unit test
    result = run(1, None, host)
    assert failed_step(result) == "address"
    assert "does not resolve" in result.summary
    assert not result.permanent


def test_name_lookup_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: release.wait(PATIENCE_SECONDS))
    result = run(1, None, "slow.invalid", timeout_seconds=0.1)
    release.set()
    assert failed_step(result) == "address"
    assert "within 0.1 s" in result.summary


@pytest.mark.parametrize("pem", [None, client_pem()], ids=["plaintext", "tls"])
def test_refused(pem: ClientPem | None) -> None:
    with socket.socket() as reserved:  # bound but not listening: nobody else gets the port, and it refuses
        reserved.bind(("127.0.0.1", 0))
        result = run(reserved.getsockname()[1], pem)
    assert failed_step(result) == "tcp"
    assert "refused" in result.summary
    assert not result.permanent


def test_connection_is_never_accepted() -> None:
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # once its queue is full, the system drops further attempts as a firewall does
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        result = run(listener.getsockname()[1], None, timeout_seconds=0.3)
    assert failed_step(result) == "tcp"
    assert "did not answer within 0.3 s" in result.summary
    assert "firewall" in result.causes[0]
    assert not result.permanent


def test_no_route(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_args: object, **_kwargs: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(Probe, "dial", unreachable)
    result = diagnose("127.0.0.1", 1, None, PATIENCE_SECONDS)
    assert failed_step(result) == "tcp"
    assert "Network is unreachable" in result.summary


@pytest.mark.parametrize("pem", [None, client_pem()], ids=["plaintext", "tls"])
def test_connected_but_silent(pem: ClientPem | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        result = run(listener.getsockname()[1], pem, timeout_seconds=0.3)
    assert failed_step(result) == "tls"
    assert "did not send within 0.3 s" in result.summary
    assert not result.permanent


@pytest.mark.parametrize("pem", [None, client_pem()], ids=["plaintext", "tls"])
def test_connected_and_closed(pem: ClientPem | None) -> None:
    with tcp_server(lambda connection: None) as port:
        result = run(port, pem)
    assert failed_step(result) == "tls"
    assert "closed the connection" in result.summary
    assert not result.permanent


@pytest.mark.parametrize("pem", [None, client_pem()], ids=["plaintext", "tls"])
def test_another_service(pem: ClientPem | None) -> None:
    def ssh(connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        while connection.recv(4096):  # until the client closes: closing with unread bytes would reset the connection
            pass

    with tcp_server(ssh) as port:
        result = run(port, pem)
    assert failed_step(result) == "tls"
    assert "not a gRPC server" in result.summary and "SSH-2.0" in result.summary
    assert result.permanent


def test_tls_against_plaintext() -> None:
    with grpc_server(None) as port:
        result = run(port, client_pem())
    assert failed_step(result) == "tls"
    assert "speaks plaintext" in result.summary
    assert "server_credentials_paths" in result.causes[0]
    assert result.permanent


@pytest.mark.parametrize("mutual", [False, True])
def test_plaintext_against_tls(mutual: bool) -> None:
    with grpc_server(server_pem(mutual=mutual)) as port:
        result = run(port, None)
    assert failed_step(result) == "tls"
    assert "wants TLS" in result.summary
    assert "client_credentials_paths" in result.causes[0]
    assert result.permanent


@pytest.mark.parametrize("mutual", [False, True])
def test_certificate_of_another_ca(mutual: bool) -> None:
    with grpc_server(server_pem(mutual=mutual)) as port:
        result = run(port, client_pem(OTHER_CA))
    assert failed_step(result) == "tls"
    assert "not signed by the given CA" in result.summary
    assert result.permanent


def test_the_issuer_of_an_untrusted_certificate_is_told(tmp_path: Path) -> None:
    write_certificates(tmp_path, [])
    pem = load_server_pem((tmp_path / "server.pem", tmp_path / "server-key.pem"))
    with grpc_server(pem) as port:
        result = run(port, client_pem())
    assert failed_step(result) == "tls"
    assert "it is signed by 'remote-gym CA " in result.causes[0]


def test_client_certificate_in_place_of_the_servers(tmp_path: Path) -> None:
    write_certificates(tmp_path, [])
    pem = load_server_pem((tmp_path / "client.pem", tmp_path / "client-key.pem"))
    with grpc_server(pem) as port:
        result = run(port, ClientPem((tmp_path / "ca.pem").read_bytes()))
    assert failed_step(result) == "tls"
    assert "not made for a server" in result.summary
    assert result.permanent


def test_expired_ca_is_not_blamed_on_the_server() -> None:
    finding = findings.outside_validity("gpu-box:1", 10, {"notAfter": "Jan  5 09:34:43 2126 GMT"})
    assert "the CA certificate to check gpu-box:1 with has expired" in str(finding)


@pytest.mark.parametrize(
    ("host", "names", "kind"),
    [
        ("127.0.0.1", ("localhost", "gpu-box", "10.0.0.7"), "IP"),
        ("localhost", ("127.0.0.1", "gpu-box", "*.localhost"), "name"),
    ],
)
def test_certificate_lacks_the_name(host: str, names: tuple[str, ...], kind: str) -> None:
    with grpc_server(server_pem(*names)) as port:
        result = run(port, client_pem(), host)
    assert failed_step(result) == "certificate name"
    assert f"lacks the {kind} {host}" in result.summary
    assert all(name in result.summary for name in names)
    assert "server-csr.json" in result.causes[0] and f"--host {host}" in result.causes[0]
    assert result.permanent


@pytest.mark.parametrize(
    ("days", "words", "key"), [((-9, -2), "has expired", "notAfter"), ((2, 9), "is not yet valid", "notBefore")]
)
@pytest.mark.parametrize("mutual", [False, True])
def test_certificate_outside_its_validity(days: tuple[int, int], words: str, key: str, mutual: bool) -> None:
    with grpc_server(server_pem(mutual=mutual, days=days)) as port:
        result = run(port, client_pem())
    assert failed_step(result) == "tls"
    assert f"the certificate of 127.0.0.1:{port} {words} ({key} " in result.summary
    assert "clock" in result.causes[1]
    assert result.permanent


def test_client_certificate_missing() -> None:
    with grpc_server(server_pem(mutual=True)) as port:
        result = run(port, client_pem())
    assert failed_step(result) == "client certificate"
    assert "requires a client certificate" in result.summary
    assert [step.ok for step in result.steps] == [True, True, True, True, False]
    assert result.permanent


def test_client_certificate_of_another_ca() -> None:
    with grpc_server(server_pem(mutual=True)) as port:
        result = run(port, client_pem(signed_by=OTHER_CA))
    assert failed_step(result) == "client certificate"
    assert "refused our client certificate" in result.summary
    assert "another CA" in result.causes[0]
    assert result.permanent


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(("signed_by", "words"), [(None, "requires"), (OTHER_CA, "refused our")])
def test_client_certificate_refused_by_alert(version: ssl.TLSVersion, signed_by: trustme.CA | None, words: str) -> None:
    leaf = CA.issue_cert("127.0.0.1")
    with tcp_server(tls_server(leaf, mutual=True, version=version)) as port:
        result = run(port, client_pem(signed_by=signed_by))
    assert failed_step(result) == "client certificate"
    assert f"{words} " in result.summary
    assert result.permanent


def test_tls_without_http2() -> None:
    leaf = CA.issue_cert("127.0.0.1")
    with tcp_server(tls_server(leaf, mutual=False, version=ssl.TLSVersion.TLSv1_3, alpn=False)) as port:
        result = run(port, client_pem())
    assert failed_step(result) == "tls"
    assert "not HTTP/2" in result.summary
    assert result.permanent


def test_closed_after_the_handshake_without_asking_for_a_certificate() -> None:
    leaf = CA.issue_cert("127.0.0.1")
    with tcp_server(tls_server(leaf, mutual=False, version=ssl.TLSVersion.TLSv1_3)) as port:
        result = run(port, client_pem())
    assert failed_step(result) == "tls"
    assert "closed the connection" in result.summary
    assert not result.permanent


def test_damaged_pem() -> None:
    with grpc_server(server_pem()) as port:
        result = run(port, ClientPem(b"nonsense"))
        assert failed_step(result) == "tls" and result.permanent
        result = run(port, ClientPem(CA.cert_pem.bytes(), b"nonsense", b"nonsense"))
        assert failed_step(result) == "client certificate" and result.permanent


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_ipv6() -> None:
    with socket.socket(socket.AF_INET6) as reserved:
        try:
            reserved.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 loopback")
        port = reserved.getsockname()[1]
        result = diagnose("::1", port, None, PATIENCE_SECONDS)
    assert failed_step(result) == "tcp"
    assert f"[::1]:{port} refused" in result.summary
