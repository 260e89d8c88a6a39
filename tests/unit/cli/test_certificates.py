from __future__ import annotations

import builtins
import datetime
import os
import socket
import ssl
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from remote_gym.certificates import CA_DAYS
from remote_gym.cli.certificates import write_certificates
from remote_gym.credentials import channel_credentials, load_client_pem, load_server_pem, server_credentials
from remote_gym.errors import MisuseError

NAMES = ["ca.pem", "ca-key.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates") / "new" / "folder"
    write_certificates(directory, ["GPU-Box.local", "*.lab.example.org", "192.168.0.7", "[fe80::7]", "my_container"])
    return directory


def parsed(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Run a whole handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = client.wrap_bio(to_client, to_server, server_hostname=host)
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    pending = [client_side, server_side]
    while pending:
        for side in list(pending):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            pending.remove(side)
    return client_side, server_side


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    client.load_cert_chain(folder / "client.pem", folder / "client-key.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    for context in (server, client):
        context.load_verify_locations(folder / "ca.pem")
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    return server, client


def test_files_and_modes(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    for name in NAMES:
        mode = stat.S_IMODE((folder / name).stat().st_mode)
        assert mode == 0o600 if name.endswith("-key.pem") else mode & 0o022 == 0


def test_keys_are_never_wider_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: dict[str, int] = {}
    open_file = os.open

    def recording(path: Any, flags: int, mode: int = 0o777, **kwargs: Any) -> int:
        modes[Path(path).name] = mode
        assert flags & os.O_EXCL
        return open_file(path, flags, mode, **kwargs)

    monkeypatch.setattr(os, "open", recording)
    assert write_certificates(str(tmp_path), []) == [tmp_path / name for name in NAMES]
    assert {name for name, mode in modes.items() if mode == 0o600} == {name for name in NAMES if "-key" in name}


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "::1", "gpu-box.local", "x.lab.example.org", "192.168.0.7", "fe80::7", "my_container"],
)
def test_python_accepts_every_name_in_both_directions(folder: Path, host: str) -> None:
    client_side, server_side = handshake(*contexts(folder), host)
    certificate: Mapping[str, Any] = server_side.getpeercert() or {}
    assert certificate["subject"] == ((("commonName", "remote-gym client"),),)
    assert client_side.getpeercert()


@pytest.mark.parametrize("host", ["gpu-box", "192.168.0.8", "lab.example.org"])
def test_python_refuses_other_names(folder: Path, host: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname mismatch|IP address mismatch"):
        handshake(*contexts(folder), host)


def test_own_host_name_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Trainer-7")
    write_certificates(tmp_path, ["localhost", "127.0.0.1"])
    names = parsed(tmp_path / "server.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "trainer-7"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_host_name_that_no_certificate_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "not a name")
    assert write_certificates(tmp_path, [])


def test_extensions(folder: Path) -> None:
    ca, server, client = (parsed(folder / f"{name}.pem") for name in ("ca", "server", "client"))
    for certificate, is_ca in ((ca, True), (server, False), (client, False)):
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert constraints.critical and constraints.value.ca is is_ca
        assert usage.critical and usage.value.key_cert_sign is is_ca and usage.value.digital_signature is not is_ca
        certificate.verify_directly_issued_by(ca)
        authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        assert authority.key_identifier == identifier.digest
    for certificate, purpose in ((server, ExtendedKeyUsageOID.SERVER_AUTH), (client, ExtendedKeyUsageOID.CLIENT_AUTH)):
        assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
    assert len({certificate.serial_number for certificate in (ca, server, client)}) == 3


def test_validity(tmp_path: Path) -> None:
    before = datetime.datetime.now(datetime.timezone.utc)
    write_certificates(tmp_path, [], days=3)
    for name, days in (("ca", 3 + CA_DAYS), ("server", 3), ("client", 3)):
        certificate = parsed(tmp_path / f"{name}.pem")
        assert datetime.timedelta(minutes=5) < before - certificate.not_valid_before_utc < datetime.timedelta(days=1)
        lifetime = certificate.not_valid_after_utc - before
        assert abs(lifetime - datetime.timedelta(days=days)) < datetime.timedelta(minutes=5)


@pytest.mark.parametrize("mutual", [False, True])
@pytest.mark.parametrize("listen", ["127.0.0.1", "localhost"])
def test_grpc_over_loopback(folder: Path, mutual: bool, listen: str) -> None:
    paths = [folder / name for name in NAMES]
    server_pem = load_server_pem((*paths[2:4], paths[0] if mutual else None))
    client_pem = load_client_pem((paths[0], *paths[4:]) if mutual else (paths[0],))
    assert server_pem is not None and client_pem is not None

    def peer(_request: bytes, context: grpc.ServicerContext) -> bytes:
        names: Any = context.auth_context().get("x509_common_name", [])
        return b",".join(names)

    server = grpc.server(ThreadPoolExecutor(1))
    handler = grpc.method_handlers_generic_handler("test", {"Peer": grpc.unary_unary_rpc_method_handler(peer)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(server_pem))
    server.start()
    options = [("grpc.enable_http_proxy", 0)]
    try:
        with grpc.secure_channel(f"{listen}:{port}", channel_credentials(client_pem), options) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test/Peer")
            answer = call(b"", timeout=20)
    finally:
        server.stop(None).wait()
    assert answer == (b"remote-gym client" if mutual else b"")


@pytest.mark.parametrize("name", NAMES)
def test_existing_files_are_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(MisuseError, match=name):
        write_certificates(tmp_path, [])
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


def test_a_link_to_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "ca-key.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MisuseError, match="ca-key"):
        write_certificates(tmp_path, [])
    write_certificates(tmp_path, [], overwrite=True)
    assert not (tmp_path / "elsewhere").exists()


def test_overwrite_on_purpose(tmp_path: Path) -> None:
    (tmp_path / "ca-key.pem").write_text("old")
    (tmp_path / "ca-key.pem").chmod(0o644)
    write_certificates(tmp_path, [], overwrite=True)
    assert stat.S_IMODE((tmp_path / "ca-key.pem").stat().st_mode) == 0o600
    assert "PRIVATE KEY" in (tmp_path / "ca-key.pem").read_text()


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("", "empty"),
        (" ", "empty"),
        (None, "empty or not text"),
        ("gpu-box:56765", "port"),
        ("192.168.0.7:56765", "port"),
        ("https://gpu-box", "scheme"),
        ("gpu box", "one name or IP at a time"),
        ("a,b", "one name or IP at a time"),
        ("0.0.0.0", "where a server listens"),
        ("::", "where a server listens"),
        ("192.168.0.300", "IPv4"),
        ("192.168.0", "IPv4"),
        ("fe80::1%eth0", "zone"),
        ("-box", "DNS name"),
        ("a..b", "DNS name"),
        ("x" * 64, "DNS name"),
        ("a.*.b", "DNS name"),
        ("münchen.local", "ASCII"),
    ],
)
def test_malformed_hosts(tmp_path: Path, host: Any, words: str) -> None:
    with pytest.raises(MisuseError, match=words):
        write_certificates(tmp_path, [host])
    assert not list(tmp_path.iterdir())


def test_one_string_is_not_a_list(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="list"):
        write_certificates(tmp_path, "gpu-box")


@pytest.mark.parametrize("days", [0, -1, 1.5, True, "365", 10**9])
def test_malformed_days(tmp_path: Path, days: Any) -> None:
    with pytest.raises(MisuseError, match="days"):
        write_certificates(tmp_path, [], days=days)


def test_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MisuseError, match="file"):
        write_certificates(tmp_path / "file", [])


def test_without_cryptography(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_module = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return import_module(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MisuseError, match="needs the package cryptography"):
        write_certificates(tmp_path, [])
