"""How an attacker reaches the server: sockets, TLS, and messages by hand over either carrier."""

from __future__ import annotations

import collections
import contextlib
import socket
import ssl
import threading
from pathlib import Path
from random import Random
from typing import Any

from fuzz.hostile_client import Session
from raw import DirectClient
from siege.people import NEIGHBOUR, client_paths

from remote_gym.errors import ProtocolError
from remote_gym.messages import Opened
from remote_gym.wire.codec import read_server
from remote_gym.wire.direct import ALPN, HEADER, framed

SECONDS = 10.0
"""How long an attacker waits for anything."""


def tcp(address: str) -> socket.socket:
    """Connect."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def context(folder: Path, protocol: str) -> ssl.SSLContext:
    """What the attacker proves and trusts."""
    ca, certificate, key = client_paths(folder, NEIGHBOUR)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(ca)
    made.load_cert_chain(certificate, key)
    made.set_alpn_protocols([protocol])
    return made


def tls(address: str, folder: Path, protocol: str = ALPN) -> ssl.SSLSocket:
    """Connect, and shake hands as one's own self."""
    return context(folder, protocol).wrap_socket(tcp(address), server_hostname="127.0.0.1")


def greeted(address: str, folder: Path) -> DirectClient:
    """Connect directly, as one's own self."""
    return DirectClient(address, context(folder, ALPN))


def shut(connection: socket.socket, how: int) -> None:
    """Shut it down below TLS: `SSLSocket.shutdown` forgets that there was any, and reads on what is encrypted."""
    socket.socket.shutdown(connection, how)


def client_hello() -> bytes:
    """Return what a client says first in a handshake."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.set_alpn_protocols([ALPN])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        made.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


class DirectStream:
    """What `fuzz.hostile_client.Stream` is, over a direct connection; now and then a frame's header lies."""

    def __init__(self, address: str, folder: Path, chance: Random, sessions: list[Session]) -> None:
        self._client = greeted(address, folder)
        self._chance = chance
        self._sessions = sessions
        self.session: Session | None = None
        self.opening = 0
        self.ended = False
        self.kinds: collections.Counter[str] = collections.Counter()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for data in self._client.messages():
                message: Any = read_server(data)
                self.kinds[type(message).__name__] += 1
                if isinstance(message, Opened):
                    self.session = Session(message, self.opening)
                    self._sessions.append(self.session)
        except (EOFError, OSError, ProtocolError) as error:
            self.kinds["ended" if isinstance(error, EOFError) else type(error).__name__] += 1
        finally:
            self.ended = True

    def send(self, data: bytes) -> None:
        frame = framed(data)
        if self._chance.random() < 0.02:
            frame = self._chance.randbytes(HEADER.size) + data
        with contextlib.suppress(OSError):
            self._client.say(frame)

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            shut(self._client.socket, socket.SHUT_WR)

    def cancel(self) -> None:
        with contextlib.suppress(OSError):
            shut(self._client.socket, socket.SHUT_RDWR)

    def join(self) -> None:
        self._reader.join(SECONDS)
        self._client.socket.close()
