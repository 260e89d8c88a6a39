from __future__ import annotations

import gc
import select
import socket
import ssl
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from remote_gym.credentials import (
    ClientPem,
    ServerPem,
    channel_credentials,
    client_context,
    load_client_pem,
    load_server_pem,
    server_context,
    server_credentials,
)
from remote_gym.errors import MisuseError


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths by name: a CA, a server and a client with keys, and files that are none of these."""
    folder = tmp_path_factory.mktemp("pem")
    ca = trustme.CA()
    server, client = ca.issue_cert("localhost", "127.0.0.1"), ca.issue_cert("client@example.org")
    contents = {
        "ca": ca.cert_pem.bytes(),
        "server": server.cert_chain_pems[0].bytes(),
        "server-key": server.private_key_pem.bytes(),
        "client": client.cert_chain_pems[0].bytes(),
        "client-key": client.private_key_pem.bytes(),
        "empty": b"",
        "text": b"hello",
        "der": b"\x30\x82\x01\x02",
        "request": b"-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n",
        "encrypted-key": b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "old-encrypted-key": b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAA==\n",
        "damaged": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "damaged-key": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    }
    for name, content in contents.items():
        (folder / f"{name}.pem").write_bytes(content)
    return {name: str(folder / f"{name}.pem") for name in contents} | {
        "folder": str(folder),
        "missing": str(folder / "missing.pem"),
    }


def at(pem: dict[str, str], names: Sequence[str | None]) -> tuple[str | None, ...]:
    return tuple(None if name is None else pem[name] for name in names)


@pytest.mark.parametrize("names", [("ca",), ("ca", None, None), ("ca", None)])
def test_client_with_a_ca_only(pem: dict[str, str], names: tuple[str | None, ...]) -> None:
    assert load_client_pem(at(pem, names)) == ClientPem(Path(pem["ca"]).read_bytes())


def test_client_with_certificate(pem: dict[str, str]) -> None:
    loaded = load_client_pem([Path(path) for path in at(pem, ("ca", "client", "client-key")) if path])
    assert loaded == ClientPem(*(Path(pem[name]).read_bytes() for name in ("ca", "client", "client-key")))


@pytest.mark.parametrize("names", [("server", "server-key"), ("server", "server-key", None)])
def test_server_without_client_ca(pem: dict[str, str], names: tuple[str | None, ...]) -> None:
    expected = ServerPem(Path(pem["server"]).read_bytes(), Path(pem["server-key"]).read_bytes(), None)
    assert load_server_pem(at(pem, names)) == expected


def test_none_is_no_tls() -> None:
    assert load_client_pem(None) is None
    assert load_server_pem(None) is None


def test_no_key_in_any_repr(pem: dict[str, str]) -> None:
    client = load_client_pem(at(pem, ("ca", "client", "client-key")))
    server = load_server_pem(at(pem, ("server", "server-key", "ca")))
    assert "KEY" not in repr(client) + repr(server)
    assert hash(client) == hash(load_client_pem(at(pem, ("ca", "client", "client-key"))))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "0 path"),
        (("ca", "client"), "2 path"),
        (("ca", "client", None), "2 path"),
        (("ca", "client", "client-key", "ca"), "4 path"),
        ((None, "client", "client-key"), r"paths\[0\]=None"),
        (("missing",), r"missing\.pem' does not exist"),
        (("folder",), "is a folder"),
        (("empty",), "it is empty"),
        (("text",), "not a PEM file"),
        (("der",), "openssl x509 -inform der"),
        (("request",), "certificate request"),
        (("damaged",), "damaged"),
        (("client-key",), "the CA certificate, but it looks like a private key"),
        (("ca", "client-key", "client"), "the two are swapped"),
        (("ca", "client", "client"), "the client private key, but it looks like a certificate"),
        (("ca", "client-key", "client-key"), "the client certificate, but it looks like a private key"),
        (("ca", "client", "server-key"), "do not belong together"),
        (("ca", "client", "encrypted-key"), "openssl pkey"),
        (("ca", "client", "old-encrypted-key"), "openssl pkey"),
        (("ca", "client", "damaged-key"), "damaged"),
    ],
)
def test_client_misuse(pem: dict[str, str], names: tuple[str | None, ...], words: str) -> None:
    with pytest.raises(MisuseError, match=words) as caught:
        load_client_pem(at(pem, names))
    assert "client_credentials_paths" in str(caught.value)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("server",), "1 path"),
        (("server", None, "ca"), r"paths\[1\]=None"),
        (("server-key", "server"), "the two are swapped"),
        (("server", "server-key", "server-key"), r"paths\[2\].* looks like a private key"),
        (("ca", "server-key"), "do not belong together"),
    ],
)
def test_server_misuse(pem: dict[str, str], names: tuple[str | None, ...], words: str) -> None:
    with pytest.raises(MisuseError, match=words) as caught:
        load_server_pem(at(pem, names))
    assert "server_credentials_paths" in str(caught.value)


@pytest.mark.parametrize("paths", ["ca.pem", b"ca.pem", Path("ca.pem"), 3, {"ca.pem": 1}, ("",), (3,)])
def test_not_a_tuple_of_paths(paths: Any) -> None:
    with pytest.raises(MisuseError, match="client_credentials_paths"):
        load_client_pem(paths)
    with pytest.raises(MisuseError, match="server_credentials_paths"):
        load_server_pem(paths)


def test_unreadable_file(pem: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr("builtins.open", refuse)  # a real mode 000 does not stop a test that runs as root
    with pytest.raises(MisuseError, match="cannot be read by this user"):
        load_client_pem(at(pem, ("ca",)))


@pytest.mark.parametrize("server_names", [("server", "server-key"), ("server", "server-key", "ca")])
@pytest.mark.parametrize("client_names", [("ca",), ("ca", "client", "client-key")])
def test_grpc_takes_them(pem: dict[str, str], server_names: tuple[str, ...], client_names: tuple[str, ...]) -> None:
    server_pem, client_pem = load_server_pem(at(pem, server_names)), load_client_pem(at(pem, client_names))
    assert server_pem is not None and client_pem is not None
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(server_pem))
    server.start()
    options = [("grpc.enable_http_proxy", 0)]
    try:
        with grpc.secure_channel(f"127.0.0.1:{port}", channel_credentials(client_pem), options) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/none/None")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=20)
    finally:
        server.stop(None).wait()
    refused = len(server_names) == 3 and len(client_names) == 1
    assert caught.value.code() is (grpc.StatusCode.UNAVAILABLE if refused else grpc.StatusCode.UNIMPLEMENTED)


MARKS = {
    "utf-8": lambda data: b"\xef\xbb\xbf" + data,
    "utf-16, little endian": lambda data: b"\xff\xfe" + data.decode().encode("utf-16-le"),
    "utf-16, big endian": lambda data: b"\xfe\xff" + data.decode().encode("utf-16-be"),
    "crlf": lambda data: data.replace(b"\n", b"\r\n"),
    "cr": lambda data: data.replace(b"\n", b"\r"),
    "utf-8 and crlf": lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"),
    "a chain of marked files": lambda data: (b"\xef\xbb\xbf" + data) * (2 if b"CERTIFICATE" in data else 1),
}
"""What editors and shells make of a file."""


@pytest.mark.parametrize("mark", MARKS)
def test_marks_of_an_encoding_and_foreign_line_ends_do_not_matter(
    pem: dict[str, str], tmp_path: Path, mark: str
) -> None:
    marked = {}
    for name in ("ca", "server", "server-key", "client", "client-key"):
        path = tmp_path / f"{name}.pem"
        path.write_bytes(MARKS[mark](Path(pem[name]).read_bytes()))
        marked[name] = str(path)
    test_grpc_takes_them(marked, ("server", "server-key", "ca"), ("ca", "client", "client-key"))
    with pytest.raises(MisuseError, match="do not belong together"):
        load_server_pem((marked["server"], marked["client-key"]))


def reset_connection(how: str) -> socket.socket:
    """A connection whose peer has reset it, and been `seen` to, or not yet: the next call is told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()
    select.select([connection], [], [], 5.0)
    if how == "seen":
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return connection


@pytest.mark.parametrize("how", ["seen", "not yet"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_connection_that_was_reset_before_tls_is_not_left_open(pem: dict[str, str], side: str, how: str) -> None:
    if side == "client":
        context = client_context(load_client_pem((pem["ca"],)), ["h2"])
    else:
        context = server_context(load_server_pem((pem["server"], pem["server-key"])), "h2")
    options = {"server_hostname": "localhost"} if side == "client" else {"server_side": True}
    connection = reset_connection(how)
    try:
        tls = context.wrap_socket(connection, do_handshake_on_connect=False, **options)
    except ConnectionError:
        pass  # whatever has the descriptor now, it is closed without a word
    else:
        tls.close()
    gc.collect()
    assert connection.fileno() == -1


def test_a_connection_with_tls_that_is_left_open_is_told_of(pem: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = socket.create_connection(listener.getsockname())
        context = client_context(load_client_pem((pem["ca"],)), ["h2"])
        tls = context.wrap_socket(connection, server_hostname="localhost", do_handshake_on_connect=False)
        assert isinstance(tls, ssl.SSLSocket)
        with pytest.warns(ResourceWarning, match="unclosed"):
            del tls
            gc.collect()
