"""What a peer shows, over real sockets and of a real call's context; the names are `test_principals`' of the whole."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Certificates

from remote_gym.credentials import client_context, load_client_pem, load_server_pem, server_context
from remote_gym.server.authentication import Shown
from remote_gym.server.carriers.identity import shown_by_call, shown_by_connection, user_of


def test_a_unix_socket_tells_its_user(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(str(tmp_path / "socket"))
        listening.listen()
        client.connect(str(tmp_path / "socket"))
        accepted, _ = listening.accept()
        with accepted:
            client.close()  # who has gone has still come
            assert user_of(accepted) == os.geteuid()
            assert shown_by_connection(accepted, 7) == Shown(True, None, 7)


@pytest.mark.parametrize(("mode", "uid"), [(0o600, os.geteuid()), (0o660, None), (0o602, None)])
def test_where_the_system_does_not_say_it_is_whom_the_file_lets_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, uid: int | None
) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind(str(tmp_path / "socket"))
        (tmp_path / "socket").chmod(mode)
        listening.listen()
        client.connect(str(tmp_path / "socket"))
        accepted, _ = listening.accept()
        with accepted:
            assert user_of(accepted) == uid


def test_tcp_knows_no_user_and_plaintext_is_not_private() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert user_of(accepted) is None
            assert shown_by_connection(accepted, None) == Shown(False)


@pytest.mark.parametrize("mutual", [False, True])
def test_tls_shows_the_certificate_that_was_asked_for(certificates: Certificates, mutual: bool) -> None:
    server = load_server_pem(certificates.server_mutual if mutual else certificates.server)
    client = load_client_pem(certificates.client_mutual)
    assert server is not None and client is not None
    one, other = socket.socketpair()
    with one, other:
        there = server_context(server, "x").wrap_socket(one, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=there.do_handshake)
        thread.start()
        with client_context(client, ["x"]).wrap_socket(other, server_hostname="localhost"), there:
            thread.join()
            der = ssl.PEM_cert_to_DER_cert((certificates.directory / "client.pem").read_text())
            assert shown_by_connection(there, None) == Shown(True, der if mutual else None)


def test_a_call(certificates: Certificates) -> None:
    pem = (certificates.directory / "client.pem").read_bytes()

    class Context:
        said: Any
        metadata: Any = None

        def auth_context(self) -> Any:
            return self.said

        def invocation_metadata(self) -> Any:
            return self.metadata

    context = Context()
    context.said = {"transport_security_type": [b"insecure"]}
    assert shown_by_call(context, None) == Shown(False)
    assert shown_by_call(context, 7) == Shown(True, None, 7)
    context.said = {"transport_security_type": [b"ssl"]}
    assert shown_by_call(context, None) == Shown(True)
    context.said["x509_pem_cert"] = [pem]
    assert shown_by_call(context, None) == Shown(True, ssl.PEM_cert_to_DER_cert(pem.decode()))


@pytest.mark.parametrize(
    ("metadata", "token"),
    [
        ([("authorization", "Bearer abc")], "abc"),
        ([("user-agent", "x"), ("authorization", "bearer  abc "), ("authorization", "Bearer other")], "abc"),
        ([("authorization", "Basic abc")], ""),
        ([("authorization", "abc")], ""),
        ([("authorization", "Bearer")], ""),
        ([("authorization", b"Bearer abc")], ""),
        ([], ""),
    ],
)
def test_the_token_of_a_call(metadata: Any, token: str) -> None:
    context = SimpleNamespace(auth_context=dict, invocation_metadata=lambda: metadata)
    assert shown_by_call(context, None) == Shown(False, token=token)
