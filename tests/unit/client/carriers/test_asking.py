"""A gRPC server that is asked whether it is there."""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc
import pytest
from conftest import ServerFactory
from helpers import wait_until

from remote_gym.client.carriers.asking import Asking
from remote_gym.client.carriers.liveness import Watch

WATCH = Watch(0.05, 0.3)


class Status(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """An answer, as gRPC raises it."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


for missing in list(Status.__abstractmethods__):
    setattr(Status, missing, lambda self: None)
Status.__abstractmethods__ = frozenset()
Status.code = lambda self: self._code  # type: ignore[method-assign]


class FakeChannel:
    """Answers as told, the last answer again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked = 0

    def unary_unary(self, _method: str) -> Any:
        return self

    def __call__(self, _data: bytes, *, timeout: float, metadata: Any) -> bytes:
        assert timeout == WATCH.silence_seconds - WATCH.ping_seconds and metadata == (("a", "b"),)
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]


def asking(channel: Any, given_up: threading.Event) -> Asking:
    return Asking(channel, (("a", "b"),), WATCH, given_up.set)


@pytest.mark.parametrize("code", [grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE])
def test_whoever_does_not_answer_is_given_up(code: grpc.StatusCode) -> None:
    given_up = threading.Event()
    channel = FakeChannel(b"", b"", Status(code))
    one = asking(channel, given_up)
    assert given_up.wait(10) and one.silent_seconds is not None
    assert (one.silent_seconds >= WATCH.ping_seconds) is (code is grpc.StatusCode.DEADLINE_EXCEEDED)
    one.thread.join(10)
    assert channel.asked == 3


def test_whoever_answers_with_an_error_is_there() -> None:
    given_up = threading.Event()
    channel = FakeChannel(Status(grpc.StatusCode.UNIMPLEMENTED))
    one = asking(channel, given_up)
    wait_until(lambda: channel.asked > 3)
    one.stop()
    one.thread.join(10)
    assert not given_up.is_set() and one.silent_seconds is None and not one.thread.is_alive()


def test_a_closed_channel_is_nobodys_silence() -> None:
    given_up = threading.Event()
    one = asking(FakeChannel(ValueError("Cannot invoke RPC on closed channel!")), given_up)
    one.thread.join(10)
    assert not one.thread.is_alive() and not given_up.is_set()


def test_a_real_server(serve: ServerFactory) -> None:
    given_up = threading.Event()
    server = serve("CartPole-v1", num_workers=1)
    with grpc.insecure_channel(server.address) as channel:
        one = Asking(channel, (), WATCH, given_up.set)
        assert not given_up.wait(5 * WATCH.ping_seconds)
        began = time.monotonic()
        server.stop(0)
        assert given_up.wait(20) and time.monotonic() - began < 20
        one.thread.join(10)
