"""A client that says whatever it is told to: raw bytes, or messages of the generated classes, over one stream."""

from __future__ import annotations

import itertools
import queue
import secrets
import threading
from types import TracebackType
from typing import Any

import grpc

from remote_gym.wire import session_pb2 as pb
from remote_gym.wire.codec import DESCRIBE_METHOD, SESSION_METHOD

TIMEOUT_SECONDS = 30.0


class RawClient:
    """One stream to a server on loopback. `receive` raises what ended it: `EOFError`, or the `grpc.RpcError`."""

    def __init__(self, address: str) -> None:
        unlimited = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        options = [*unlimited, ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(address, options)
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call = self._channel.stream_stream(SESSION_METHOD)(iter(self._requests.get, None))
        self._numbers = itertools.count(1)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for data in self._call:
                self._answers.put(data)
            self._answers.put(EOFError("the server has ended the stream"))
        except grpc.RpcError as error:
            self._answers.put(error)

    def send(self, data: bytes) -> RawClient:
        self._requests.put(data)
        return self

    def receive(self) -> pb.ServerMessage:
        item = self._answers.get(timeout=TIMEOUT_SECONDS)
        if isinstance(item, Exception):
            raise item
        return pb.ServerMessage.FromString(item)

    def open(self, num_envs: int = 1, **fields: Any) -> pb.ServerMessage:
        """Send Open and return the answer."""
        fields = {"protocol_min": 1, "protocol_max": 1, "nonce": secrets.token_bytes(16), "autoreset_mode": 1} | fields
        self.send(pb.ClientMessage(open=pb.Open(num_envs=num_envs, **fields)).SerializeToString())
        return self.receive()

    def ask(self, kind: str, **fields: Any) -> Any:
        """Send a request with the next number; return what the answer holds."""
        message = pb.ClientMessage(**{kind: {"number": next(self._numbers), **fields}})
        answer = self.send(message.SerializeToString()).receive()
        return getattr(answer, answer.WhichOneof("message") or "")

    def describe(self) -> pb.DescribeReply:
        """Ask what the server is: whether it still answers at all."""
        raw = self._channel.unary_unary(DESCRIBE_METHOD)(b"", timeout=TIMEOUT_SECONDS)
        return pb.DescribeReply.FromString(raw)

    def ended_with(self) -> Any:
        """Return the status code with which the server ends the stream; None: without an error."""
        while True:
            try:
                self.receive()
            except EOFError:
                return None
            except grpc.RpcError as error:
                return error.code()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._channel.close()
