"""What is gRPC's own at the edge: the end of a stream, and which status tells of which error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from remote_gym.errors import ProtocolError
from remote_gym.server.authentication import Authenticator, StrangerError
from remote_gym.server.carriers.grpc import Servicer, Stream, status_of
from remote_gym.server.carriers.turns import AT_ONCE, Turns
from remote_gym.server.refusals import RefusalError


class Context:
    """A call that brings one message."""

    def __init__(self) -> None:
        self.coming: list[Any] = [b"message", grpc.aio.EOF]
        self.written: list[bytes] = []
        self.aborted: tuple[Any, str] | None = None

    def peer(self) -> str:
        return "ipv6:%5B::1%5D:50001"

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def invocation_metadata(self) -> tuple[()]:
        return ()

    async def read(self) -> Any:
        return self.coming.pop(0)

    async def write(self, message: bytes) -> None:
        self.written.append(message)

    async def abort(self, status: Any, text: str) -> None:
        self.aborted = (status, text)


def test_a_stream_is_a_carrier() -> None:
    async def main() -> None:
        context = Context()
        stream = Stream(context)
        assert [await stream.read(), await stream.read()] == [b"message", None]
        await stream.write(b"answer")
        assert context.written == [b"answer"]
        assert stream.peer == "ipv6:[::1]:50001"
        assert Stream(context, {"ipv6:[::1]:50001": "ipv4:10.0.0.1:5"}.__getitem__).peer == "ipv4:10.0.0.1:5"

    asyncio.run(main())


def test_of_who_watches_again_and_again_one_comes_after_the_other() -> None:
    begun: list[bytes] = []

    class Edge:
        authenticator = Authenticator()

        def known(self, _peer: str, who: Any) -> Any:
            return who()

    class Watchers:
        async def watch(self, request: bytes, _principal: Any, _peer: str) -> AsyncIterator[bytes]:
            begun.append(request)
            yield request

    async def main() -> None:
        edge, watchers = Edge(), Watchers()
        servicer = Servicer(edge, watchers=watchers)  # type: ignore[arg-type]
        servicer._turns = Turns(60.0)
        calls = [asyncio.ensure_future(servicer.watch(bytes([number]), Context())) for number in range(AT_ONCE + 1)]
        await asyncio.wait(calls[:AT_ONCE])
        await asyncio.sleep(0)
        assert (len(begun), calls[-1].done()) == (AT_ONCE, False)
        calls[-1].cancel()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ProtocolError("x"), grpc.StatusCode.INVALID_ARGUMENT),
        (RefusalError("limit", "x"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (RuntimeError("x"), grpc.StatusCode.INTERNAL),
        (StrangerError("x"), grpc.StatusCode.UNAUTHENTICATED),
    ],
)
def test_an_error_ends_the_call_with_its_status(error: Exception, status: grpc.StatusCode) -> None:
    assert status_of(error) is status

    class Edge:
        authenticator = Authenticator()

        async def carry(self, _carrier: Any) -> Exception:
            return error

    async def main() -> None:
        context, edge = Context(), Edge()
        servicer: Any = Servicer(edge)  # type: ignore[arg-type]
        await servicer.session(None, context)
        assert context.aborted == (status, "x")

    asyncio.run(main())
