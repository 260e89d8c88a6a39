"""Asking a server what it is: its answer, or why there is none; the channel is given back either way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from malicious import DESCRIPTION

from remote_gym import ConnectError, ProtocolError, RefusedError
from remote_gym.client.carriers import channel
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.describe import describe
from remote_gym.messages import Description
from remote_gym.wire.codec import pack_description

ADDRESS = Address("127.0.0.1", 1, None, token="secret")


class Status(grpc.RpcError):  # type: ignore[misc]
    """What a call ends with."""

    def __init__(self, code: grpc.StatusCode, details: str | None) -> None:
        self.code, self.details = (lambda: code), (lambda: details)


Ask = Callable[..., Description]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Describe a server that answers, or raises, as given."""

    def run(answer: Any, unreachable: Exception | None = None) -> Description:
        def unary(_request: bytes, timeout: float, metadata: Any) -> Any:
            assert timeout == 7.0 and metadata == (("authorization", "Bearer secret"),)
            if isinstance(answer, Exception):
                raise answer
            return answer

        def wait(timeout: float) -> None:
            assert timeout == 7.0
            if unreachable is not None:
                raise unreachable

        shared = SimpleNamespace(channel=SimpleNamespace(unary_unary=lambda _method: unary), wait_until_ready=wait)
        released: list[Any] = []
        monkeypatch.setattr(channel, "acquire", lambda address: shared if address is ADDRESS else None)
        monkeypatch.setattr(channel, "release", released.append)
        try:
            return describe(ADDRESS, 7.0)
        finally:
            assert released == [shared]

    return run


def test_what_a_server_is(ask: Ask) -> None:
    assert ask(pack_description(DESCRIPTION)) == DESCRIPTION


def test_its_version_is_one_printable_word(ask: Ask) -> None:
    version = ask(pack_description(replace(DESCRIPTION, version="1\x1b[2J\n" + "0" * 10_000))).version
    assert version.isprintable() and version.startswith("1") and len(version) < 400


@pytest.mark.parametrize("answer", [b"\xff", b"\x08", None, 5])
def test_what_is_no_description(ask: Ask, answer: Any) -> None:
    with pytest.raises(ProtocolError, match=r"127\.0\.0\.1:1 sent what the contract does not allow"):
        ask(answer)


def test_who_is_not_reached(ask: Ask) -> None:
    with pytest.raises(ConnectError, match="nobody"):
        ask(b"", ConnectError("127.0.0.1:1", "nobody"))


def test_another_service(ask: Ask) -> None:
    with pytest.raises(ConnectError, match="it is not remote-gym") as error:
        ask(Status(grpc.StatusCode.UNIMPLEMENTED, ""))
    assert len(error.value.causes) == 2


def test_who_does_not_know_us(ask: Ask) -> None:
    with pytest.raises(RefusedError, match=r"127\.0\.0\.1:1 takes no connection of ours: no token") as error:
        ask(Status(grpc.StatusCode.UNAUTHENTICATED, "no token"))
    assert error.value.limit == "authentication"


@pytest.mark.parametrize("details", [None, "busy", "busy " * 10**6, "\x1b[2J\rbusy"])
def test_who_does_not_answer(ask: Ask, details: str | None) -> None:
    with pytest.raises(ConnectError, match="reached but did not answer: RESOURCE_EXHAUSTED") as error:
        ask(Status(grpc.StatusCode.RESOURCE_EXHAUSTED, details))
    assert all(line.isprintable() for line in str(error.value).split("\n"))
    assert len(str(error.value)) < 1_000 and ("busy" in str(error.value)) is bool(details)
