"""A server that answers whatever a test says: real gRPC over loopback, plaintext, and no environments at all.

By default it keeps to the contract; a test replaces what it answers to one kind of message::

    malicious.answers[Step] = lambda step, num_envs: [transition(step.number, num_envs, rewards=b"1")]

An answer is a message, its bytes, `END` of the stream, or a gRPC status to abort it with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
from gymnasium import spaces

from remote_gym import values
from remote_gym.messages import (
    Attach,
    Attached,
    Call,
    Close,
    Closed,
    Description,
    Open,
    Opened,
    Render,
    Reset,
    Returned,
    Step,
    Transition,
    every,
)
from remote_gym.spaces import describe
from remote_gym.wire.codec import pack_description, pack_server, read_client

END = object()
OBSERVATION, ACTION = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)
ROW_BYTES = 8

Answers = Callable[[Any, int], Iterable[Any]]
"""(message, num_envs of the session) -> answers."""

DESCRIPTION = Description(1, 1, "1.0", 2, 100, 0, 10, 0, 1 << 26, False, b"e" * 16)


def opened(num_envs: int, **fields: Any) -> Opened:
    honest = Opened(
        1, b"s" * 16, b"t" * 32, b"e" * 16, 300.0, describe(OBSERVATION), describe(ACTION), "", b"", None,
        list(range(num_envs)),
    )  # fmt: skip
    return replace(honest, **fields)


def transition(number: int, rows: int, *, scalars: bool = True, **fields: Any) -> Transition:
    numbers = (bytes(8 * rows), bytes(rows), bytes(rows)) if scalars else (b"", b"", b"")
    answer = Transition(number, None, [bytes(ROW_BYTES * rows)], *numbers)
    for name, value in fields.items():
        setattr(answer, name, value)
    return answer


def said(block: Any = None, exact: Any = None, variable: Any = None, extras: Any = None) -> bytes:
    return values.pack([block, exact, variable, extras])


def _returned(request: Any, num_envs: int) -> list[Returned]:
    value = {"value": 1} if isinstance(request, Call) and not request.arguments and request.values is None else 1
    return [Returned(request.number, request.indices, [values.pack(value)] * len(every(request.indices, num_envs)))]


def _moved(request: Reset | Step, num_envs: int) -> list[Transition]:
    rows = len(every(request.indices, num_envs))
    return [transition(request.number, rows, scalars=isinstance(request, Step), indices=request.indices)]


HONEST: dict[type, Answers] = {
    Open: lambda message, num_envs: [opened(num_envs)],
    Attach: lambda message, num_envs: [Attached(max((number for number, _ in message.missing), default=0), 300.0)],
    Reset: _moved,
    Step: _moved,
    Call: _returned,
    Render: _returned,
    Close: lambda message, num_envs: [Closed(), END],
}


class MaliciousServer:
    """See above.

    Attributes:
        address: ``host:port``.
        answers: By kind of message.
        description: The bytes that `Describe` gets.
        seen: The kinds of messages that came.
    """

    def __init__(self) -> None:
        self.reset()
        handlers = {
            "Session": grpc.stream_stream_rpc_method_handler(self._session),
            "Describe": grpc.unary_unary_rpc_method_handler(lambda _request, _context: self.description),
        }
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_send_message_length", -1)])
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("remote_gym.v1.RemoteGym", handlers),)
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def reset(self) -> None:
        """Keep to the contract again."""
        self.answers: dict[type, Answers] = dict(HONEST)
        self.description = pack_description(DESCRIPTION)
        self.seen: list[type] = []
        self._num_envs = 1

    def _session(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for data in requests:
            message = read_client(data)
            if isinstance(message, Open):
                self._num_envs = message.num_envs
            self.seen.append(type(message))
            for answer in self.answers[type(message)](message, self._num_envs):
                if answer is END:
                    return
                if isinstance(answer, tuple):
                    context.abort(*answer)
                yield answer if isinstance(answer, bytes) else pack_server(answer)

    def close(self) -> None:
        self._server.stop(None).wait()
