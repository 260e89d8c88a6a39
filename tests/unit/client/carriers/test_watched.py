"""One call of Watch: read by a thread of its own, which ends with it, and with its channel."""

from __future__ import annotations

import threading

import grpc
import pytest
from conftest import ServerFactory

from remote_gym import ConnectError
from remote_gym.client.carriers import channel as channels
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.watched import WatchCall, _ended
from remote_gym.errors import MisuseError, RefusedError
from remote_gym.figures import WatchRequest


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "remote_gym watching"]


def test_its_thread_and_channel_end_with_it(serve: ServerFactory) -> None:
    server = serve(num_workers=1)
    address = Address("127.0.0.1", server.port, None)
    call = WatchCall(address, WatchRequest(0.1), 10.0)
    assert call.is_alive
    reply = call.next()
    assert reply is not None
    assert reply.server is not None
    call.release()
    call.release()
    assert not threads()
    assert address not in channels._channels
    assert call.next() is None


def test_what_nobody_reads_stops_nothing(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remote_gym.client.carriers.watched.UNREAD", 1)
    server = serve(num_workers=1)
    call = WatchCall(Address("127.0.0.1", server.port, None), WatchRequest(0.1), 10.0)
    for _ in range(4):
        assert call.next() is not None
    call.release()
    assert not threads()


class Status(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str = "a detail") -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


@pytest.mark.parametrize(
    ("code", "kind", "word"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, RefusedError, "a detail"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, RefusedError, "a detail"),
        (grpc.StatusCode.INVALID_ARGUMENT, MisuseError, "a detail"),
        (grpc.StatusCode.UNIMPLEMENTED, ConnectError, "older"),
        (grpc.StatusCode.UNAVAILABLE, ConnectError, "UNAVAILABLE"),
    ],
)
def test_ends_in_words(code: grpc.StatusCode, kind: type[Exception], word: str) -> None:
    error = _ended("there:1", Status(code))
    assert isinstance(error, kind)
    assert word in str(error)


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_what_a_server_says_at_the_end_is_nothing_a_terminal_obeys(code: grpc.StatusCode) -> None:
    """`remote-gym top --once` prints it."""
    text = str(_ended("there:1", Status(code, "\x1b]0;owned\x07\x1b[2J\u202e\r" + "long " * 10_000)))
    assert text.replace("\n", "").isprintable()
    assert len(text) < 1_000
