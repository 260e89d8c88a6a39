"""Server process: sessions that come as gRPC calls, one stream each; Describe and Watch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import grpc

from remote_gym.errors import ProtocolError
from remote_gym.server.authentication import Authenticator, StrangerError
from remote_gym.server.carriers.admission import Visitor
from remote_gym.server.carriers.edge import Edge, code_of
from remote_gym.server.carriers.identity import shown_by_call
from remote_gym.server.carriers.turns import Turns, client_key
from remote_gym.server.principals import Principal
from remote_gym.server.refusals import RefusalError
from remote_gym.server.watching import EndedError, Watchers
from remote_gym.texts import shortened
from remote_gym.wire.codec import DESCRIBE_METHOD, SESSION_METHOD, pack_description
from remote_gym.wire.watching import WATCH_METHOD

Context = Any
"""grpc.aio.ServicerContext; its methods are not typed by the library."""

TruePeer = Callable[[str], str]
"""A peer's name, as gRPC has it -> the peer's name."""

TrueUser = Callable[[str], int | None]
"""Likewise -> which user of this machine it is, if it has come to a Unix socket."""


def _nobody(_peer: str) -> None:
    return None


VisitorOf = Callable[[str], "Visitor | None"]
"""Likewise -> the connection, as who is let in is decided; None where that is left to gRPC."""


def unknown(_peer: str) -> Visitor | None:
    """Know no connections."""
    return None


class Stream:
    """A `Carrier`: one gRPC call."""

    def __init__(
        self,
        context: Context,
        true_peer: TruePeer = str,
        true_user: TrueUser = _nobody,
        authenticator: Authenticator | None = None,
        visitor_of: VisitorOf = unknown,
    ) -> None:
        """Carry over the call of `context`, whose client `authenticator` knows."""
        self._context = context
        self._true_peer = true_peer
        self._true_user = true_user
        self._visitor_of = visitor_of
        self._authenticator = Authenticator() if authenticator is None else authenticator

    @property
    def peer(self) -> str:
        """Who is at the other end, as gRPC writes it: ``ipv4:127.0.0.1:50001``, ``unix:``."""
        return self._true_peer(self._name)

    @property
    def _name(self) -> str:
        return unquote(self._context.peer())

    @cached_property
    def principal(self) -> Principal:
        """Who that is by name. Raises StrangerError: nobody whom the server takes."""
        return self._authenticator.principal(shown_by_call(self._context, self._true_user(self._name)))

    @property
    def visitor(self) -> Visitor | None:
        """The connection that the call is part of."""
        return self._visitor_of(self._name)

    async def read(self) -> bytes | None:
        """Return the next message; None: the client has closed its side."""
        data = await self._context.read()
        return None if data is grpc.aio.EOF else data

    async def write(self, message: bytes) -> None:
        """Write one message."""
        await self._context.write(message)


class Servicer:
    """The handlers of the service `remote_gym.v1.RemoteGym`."""

    def __init__(
        self,
        edge: Edge,
        true_peer: TruePeer = str,
        true_user: TrueUser = _nobody,
        visitor_of: VisitorOf = unknown,
        watchers: Watchers | None = None,
    ) -> None:
        """Hand sessions to `edge`, and who looks on to `watchers`; the others know who gRPC's peers are."""
        self._watchers = watchers
        self._visitor_of = visitor_of
        self._edge = edge
        self._true_peer = true_peer
        self._true_user = true_user
        self._turns = Turns()

    def _stream(self, context: Context) -> Stream:
        return Stream(context, self._true_peer, self._true_user, self._edge.authenticator, self._visitor_of)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server registers. Messages pass as bytes: `wire` reads and writes them."""
        service, session = SESSION_METHOD[1:].split("/")
        handlers: dict[str, Any] = {
            session: grpc.stream_stream_rpc_method_handler(self.session),
            DESCRIBE_METHOD.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(self.describe),
        }
        if self._watchers is not None:
            handlers[WATCH_METHOD.rpartition("/")[2]] = grpc.unary_stream_rpc_method_handler(self.watch)
        return grpc.method_handlers_generic_handler(service, handlers)

    async def describe(self, _request: bytes, context: Context) -> bytes:
        """Answer Describe."""
        carrier = self._stream(context)
        try:
            principal = self._edge.known(carrier.peer, lambda: carrier.principal)
        except StrangerError as error:
            await context.abort(status_of(error), shortened(str(error)))
        await self._turns.wait(client_key(principal, carrier.peer), context)
        return pack_description(self._edge.sessions.describe())

    async def watch(self, request: bytes, context: Context) -> None:
        """Tell somebody who looks on, until either side ends it."""
        assert self._watchers is not None
        carrier = self._stream(context)
        try:
            principal = self._edge.known(carrier.peer, lambda: carrier.principal)
            await self._turns.wait(client_key(principal, carrier.peer))
            async with contextlib.aclosing(self._watchers.watch(request, principal, carrier.peer)) as replies:
                async for reply in replies:
                    await context.write(reply)
        except (ProtocolError, RefusalError) as error:  # a StrangerError is one
            await context.abort(status_of(error), shortened(str(error)))
        except EndedError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def session(self, _requests: Any, context: Context) -> None:
        """Carry a session over one stream, until either side ends it."""
        carrier = self._stream(context)
        with contextlib.suppress(StrangerError):  # which is told below
            await self._turns.wait(client_key(carrier.principal, carrier.peer))
        if (error := await self._edge.carry(carrier)) is not None:
            await context.abort(status_of(error), shortened(str(error)))


def status_of(error: BaseException) -> grpc.StatusCode:
    """Return the status that tells a client of `error`, which ended its stream."""
    return _STATUSES[code_of(error)]


_STATUSES: dict[int, grpc.StatusCode] = {status.value[0]: status for status in grpc.StatusCode}
