"""The direct connections of one address: their beginning, their silence and their end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
from direct_lab import Lab
from helpers import wait_until

from remote_gym.server.carriers import connection as connections
from remote_gym.server.carriers import direct, handshake
from remote_gym.server.carriers.outlet import UNREAD_BYTES


def test_ending_writes_what_is_queued_and_then_ends(lab: Lab) -> None:
    client = lab.opened(receive_bytes=65_536)
    (connection,) = lab.direct.connections
    frame = bytes(5 * UNREAD_BYTES)
    lab.soon(connection.outlet.send, frame)
    lab.soon(lab.edge.end_all)
    lab.soon(lab.edge.end_all)
    ending = asyncio.run_coroutine_threadsafe(lab.direct.end(10.0), lab.loop)
    assert client.frame() == frame
    assert client.ended
    client.socket.close()
    ending.result(10.0)
    assert not lab.direct.connections


def test_it_is_looked_around_as_long_as_there_is_a_connection(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(connections, "SILENCE_SECONDS", 0.05)
    assert lab.opened().ended
    wait_until(lambda: lab.direct._look is None)
    assert lab.opened().ended


def test_a_handshake_that_fails_costs_nobody_else_anything(certificates: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 0.2)
    with contextlib.closing(Lab(certificates)) as lab:
        for _ in range(5):
            with socket.socket() as sock:
                lab.connect(sock)
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        lab.opened()
        wait_until(lambda: not lab.direct._beginnings)
