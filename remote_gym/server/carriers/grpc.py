"""Server process: sessions that come as gRPC calls, one stream each; and Describe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import grpc

from remote_gym.server.carriers.admission import Visitor
from remote_gym.server.carriers.edge import Edge, code_of
from remote_gym.server.principals import ANONYMOUS, Principal
from remote_gym.texts import shortened
from remote_gym.wire.codec import DESCRIBE_METHOD, SESSION_METHOD, pack_description

Context = Any
"""grpc.aio.ServicerContext; its methods are not typed by the library."""

TruePeer = Callable[[str], str]
"""A peer's name, as gRPC has it -> the peer's name."""

IsOwner = Callable[[str], bool]
"""A peer's name, as gRPC has it -> whether it is the server's owner, over its own unix-domain socket."""


VisitorOf = Callable[[str], "Visitor | None"]
"""A peer's name, as gRPC has it -> the connection, as who is let in is decided; None where that is left to gRPC."""


def nobody(_peer: str) -> bool:
    """Take nobody for the owner."""
    return False


def unknown(_peer: str) -> Visitor | None:
    """Know no connections."""
    return None


class Stream:
    """A `Carrier`: one gRPC call."""

    def __init__(
        self,
        context: Context,
        true_peer: TruePeer = str,
        is_owner: IsOwner = nobody,
        visitor_of: VisitorOf = unknown,
    ) -> None:
        """Carry over the call of `context`."""
        self._context = context
        self._true_peer = true_peer
        self._is_owner = is_owner
        self._visitor_of = visitor_of

    @property
    def peer(self) -> str:
        """Who is at the other end, as gRPC writes it: ``ipv4:127.0.0.1:50001``, ``unix:``."""
        return self._true_peer(unquote(self._context.peer()))

    @property
    def principal(self) -> Principal:
        """Who that is by name."""
        return ANONYMOUS

    @property
    def is_owner(self) -> bool:
        """Whether that is the server's owner."""
        return self._is_owner(unquote(self._context.peer()))

    @property
    def visitor(self) -> Visitor | None:
        """The connection that the call is part of."""
        return self._visitor_of(unquote(self._context.peer()))

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
        is_owner: IsOwner = nobody,
        visitor_of: VisitorOf = unknown,
    ) -> None:
        """Hand every stream to `edge`; the others know who is behind the peers that gRPC sees."""
        self._visitor_of = visitor_of
        self._edge = edge
        self._true_peer = true_peer
        self._is_owner = is_owner

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server registers. Messages pass as bytes: `wire` reads and writes them."""
        service, session = SESSION_METHOD[1:].split("/")
        return grpc.method_handlers_generic_handler(
            service,
            {
                session: grpc.stream_stream_rpc_method_handler(self.session),
                DESCRIBE_METHOD.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(self.describe),
            },
        )

    async def describe(self, _request: bytes, _context: Context) -> bytes:
        """Answer Describe."""
        return pack_description(self._edge.sessions.describe())

    def _stream(self, context: Context) -> Stream:
        return Stream(context, self._true_peer, self._is_owner, self._visitor_of)

    async def session(self, _requests: Any, context: Context) -> None:
        """Carry a session over one stream, until either side ends it."""
        if (error := await self._edge.carry(self._stream(context))) is not None:
            await context.abort(status_of(error), shortened(str(error)))


def status_of(error: BaseException) -> grpc.StatusCode:
    """Return the status that tells a client of `error`, which ended its stream."""
    return _STATUSES[code_of(error)]


_STATUSES: dict[int, grpc.StatusCode] = {status.value[0]: status for status in grpc.StatusCode}
