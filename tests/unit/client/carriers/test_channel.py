"""gRPC channels: shared, counted, closed before a fork; and the first connection with its diagnosis. Nothing dials."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from remote_gym import ConnectError, MisuseError
from remote_gym.client.carriers import channel as module
from remote_gym.client.carriers.channel import Address, SharedChannel, acquire, release
from remote_gym.client.diagnosis.steps import Diagnosis
from remote_gym.credentials import ClientPem
from remote_gym.wire.codec import DESCRIBE_METHOD

ADDRESS = Address("127.0.0.1", 1, None)


@pytest.fixture(autouse=True)
def channels(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[Address, list[SharedChannel]]]:
    """The channels of this test alone."""
    channels: dict[Address, list[SharedChannel]] = {}
    monkeypatch.setattr(module, "_channels", channels)
    yield channels
    for shared in [shared for there_are in channels.values() for shared in there_are]:
        shared.close()


# Addresses


@pytest.mark.parametrize(
    "host, port, text",
    [("gpu-box", 5, "gpu-box:5"), ("::1", 5, "[::1]:5"), ("unix:/run/x.sock", 0, "unix:/run/x.sock")],
)
def test_an_address_for_people(host: str, port: int, text: str) -> None:
    assert str(Address(host, port, None)) == text


def test_a_socket_of_this_machine_speaks_no_tls() -> None:
    with pytest.raises(MisuseError, match=r"unix:/run/x\.sock is a socket of this machine and speaks no TLS"):
        Address("unix:/run/x.sock", 0, ClientPem(b"root"))


# Sharing


def test_equal_addresses_share_a_channel_until_the_last_has_gone(channels: Any) -> None:
    first, second = acquire(ADDRESS), acquire(Address("127.0.0.1", 1, None))
    assert first is second and first.users == 2
    release(first)
    assert not first.closed and channels == {ADDRESS: [first]}
    release(second)
    assert first.closed and not channels
    anew = acquire(ADDRESS)
    assert anew is not first and not anew.closed
    release(anew)


def test_no_more_share_one_than_every_peer_should_take(channels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_USERS", 2)
    first, same, second = acquire(ADDRESS), acquire(ADDRESS), acquire(ADDRESS)
    assert first is same and first is not second and channels == {ADDRESS: [first, second]}
    release(first)
    assert acquire(ADDRESS) is first
    release(second)
    assert second.closed and channels == {ADDRESS: [first]}


@pytest.mark.parametrize("other", [Address("127.0.0.1", 2, None), Address("127.0.0.2", 1, None)])
def test_other_addresses_do_not(other: Address) -> None:
    shared = [acquire(address) for address in (ADDRESS, other)]
    assert shared[0] is not shared[1]
    release(shared[0])
    assert shared[0].closed and not shared[1].closed


def test_other_credentials_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "channel_credentials", lambda _pem: grpc.ssl_channel_credentials())
    pems = [ClientPem(b"one"), ClientPem(b"another"), ClientPem(b"one")]
    first, second, third = (acquire(Address("127.0.0.1", 1, pem)) for pem in pems)
    assert first is third and first is not second


def test_all_end_before_a_fork_and_nobody_makes_one_meanwhile(channels: Any) -> None:
    old = acquire(ADDRESS)
    module._before_fork()
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(module._lock.acquire, False).result() is False
        module._lock.release()
    assert old.closed and not channels
    new = acquire(ADDRESS)
    release(old)  # what the fork has closed is nobody's any more
    assert not new.closed and channels == {ADDRESS: [new]}


class Call:
    """A call over a channel."""

    def __init__(self) -> None:
        self.is_alive = True
        self.closed = 0
        self.deadline = 0.0

    def close(self) -> None:
        self.closed += 1

    def join(self, deadline: float) -> None:
        assert self.closed, "it would last for ever"
        self.deadline = deadline


def test_calls_end_with_their_channel_within_one_bound() -> None:
    shared, calls = SharedChannel(ADDRESS), [Call(), Call(), Call()]
    for call in calls:
        shared.add(call)
    before = time.monotonic()
    shared.close()
    assert [call.closed for call in calls] == [1, 1, 1]
    assert before < calls[0].deadline == calls[1].deadline <= time.monotonic() + module.CLOSE_TIMEOUT_SECONDS


def test_calls_that_have_ended_are_forgotten() -> None:
    shared, ended = SharedChannel(ADDRESS), Call()
    shared.add(ended)
    ended.is_alive = False
    shared.add(Call())
    shared.close()
    assert not ended.closed


# The first answer


class Dialled:
    """A channel whose looks, and the diagnoses in between, take their whole time on a clock of its own."""

    def __init__(self, patch: pytest.MonkeyPatch, answers_at: float = float("inf"), permanent: bool = False) -> None:
        self.now = 100.0
        self.looks: list[float] = []
        self.limits: list[float] = []
        self.answers_at, self.permanent = answers_at, permanent
        patch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        patch.setattr(module, "diagnose", self.diagnose)
        self.shared = SharedChannel(ADDRESS)
        patch.setattr(self.shared, "_answers", self.look)

    def look(self, seconds: float) -> bool:
        self.looks.append(seconds)
        if self.now + seconds >= self.answers_at:
            return True
        self.now += seconds
        return False

    def diagnose(self, host: str, port: int, pem: Any, limit: float) -> Diagnosis:
        assert (host, port, pem) == ("127.0.0.1", 1, None)
        self.limits.append(limit)
        return Diagnosis((), f"look {len(self.looks)}", ("a cause",), self.permanent)


def test_who_answers_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled = Dialled(monkeypatch, answers_at=0.0)
    for _ in range(2):
        dialled.shared.wait_until_ready(10.0)
    assert len(dialled.looks) == 1 and not dialled.limits and dialled.shared.was_ready


def test_who_is_far_away_is_looked_for_ever_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled = Dialled(monkeypatch, answers_at=105.0)
    dialled.shared.wait_until_ready(60.0)
    assert dialled.looks == [1.0, 2.0, 4.0] and dialled.limits == [module.MAX_DIAGNOSIS_SECONDS] * 2


def test_who_never_answers_is_told_of_with_the_last_diagnosis(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled = Dialled(monkeypatch)
    with pytest.raises(ConnectError, match=r"cannot connect to 127\.0\.0\.1:1: look 3") as error:
        dialled.shared.wait_until_ready(5.0)
    assert dialled.looks == [1.0, 2.0, 2.0] and dialled.now == 105.0, "no longer than was asked for"
    assert dialled.limits == [3.0, 2.0, 0.2] and error.value.causes == ("a cause",)
    assert not dialled.shared.was_ready


def test_what_waiting_does_not_mend_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled = Dialled(monkeypatch, permanent=True)
    with pytest.raises(ConnectError, match="look 1"):
        dialled.shared.wait_until_ready(60.0)
    assert dialled.looks == [1.0]


def test_without_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled = Dialled(monkeypatch, answers_at=0.0)
    with pytest.raises(ConnectError, match="no answer"):
        dialled.shared.wait_until_ready(0.0)


class Status(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """What a call ends with."""

    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    add_callback = cancel = initial_metadata = is_active = time_remaining = trailing_metadata = None


@pytest.mark.parametrize(
    "outcome, answers",
    [
        (b"", True),
        (Status(grpc.StatusCode.UNIMPLEMENTED), True),
        (Status(grpc.StatusCode.INTERNAL), True),
        (Status(grpc.StatusCode.UNAVAILABLE), False),
        (Status(grpc.StatusCode.DEADLINE_EXCEEDED), False),
        (grpc.RpcError(), False),
    ],
    ids=str,
)
def test_whoever_answers_even_with_an_error_is_there(outcome: Any, answers: bool) -> None:
    def ask(_request: bytes, timeout: float, wait_for_ready: bool, metadata: Any) -> bytes:
        assert timeout == 1.5 and wait_for_ready and metadata == ()
        if isinstance(outcome, Exception):
            raise outcome
        return b""

    shared = SharedChannel(ADDRESS)
    shared.close()
    shared.channel = SimpleNamespace(unary_unary=lambda _method: ask)  # type: ignore[assignment]
    assert shared._answers(1.5) is answers


@contextlib.contextmanager
def proxy(status: int) -> Iterator[Address]:
    """What an HTTP/2 proxy says for whom it does not pass on: this status, to every call."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    details = f"Received http2 header with status: {status}"  # as gRPC's own client words it
    code = grpc.StatusCode.UNAVAILABLE if status >= 500 else grpc.StatusCode.INTERNAL

    def refuse(_request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(code, details)
        raise AssertionError

    service, method = DESCRIBE_METHOD[1:].split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(refuse)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield Address("127.0.0.1", port, None)
    server.stop(None).wait()


@pytest.mark.parametrize("status, seconds, cause", [
    (400, 0.0, "requires a client certificate"), (404, 0.0, "grpc_pass"), (502, 1.0, "the server behind it is down"),
])  # fmt: skip
def test_a_proxy_without_the_server_is_told_apart(status: int, seconds: float, cause: str) -> None:
    with proxy(status) as address:
        shared = acquire(address)
        began = time.monotonic()
        with pytest.raises(ConnectError, match=rf"a proxy, or another web server, .*: HTTP status {status}") as error:
            shared.wait_until_ready(1.0)
        assert seconds <= time.monotonic() - began < seconds + 0.9, "waits for what may come up"
        assert cause in error.value.causes[0]
        release(shared)
