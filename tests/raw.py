"""A client that says whatever it is told to, over either carrier: raw bytes, or messages of the generated classes."""

from __future__ import annotations

import collections
import itertools
import queue
import secrets
import socket
import ssl
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TypeVar

import grpc

from remote_gym.messages import Bundle
from remote_gym.wire import session_pb2 as pb
from remote_gym.wire.codec import DESCRIBE_METHOD, SESSION_METHOD, read_server
from remote_gym.wire.direct import HEADER, LAST, MAGIC, Hello, framed, pack_hello, read_ended

TIMEOUT_SECONDS = 30.0

Self = TypeVar("Self", bound="Speaker")


STATUS = {code.value[0]: code for code in grpc.StatusCode}


class Ended(EOFError):
    """The server has ended the carrier, and said why.

    Attributes:
        code: As gRPC has it.
    """

    def __init__(self, code: grpc.StatusCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Speaker:
    """Says and hears messages over one carrier."""

    timeout_seconds = TIMEOUT_SECONDS

    def __init__(self, address: str) -> None:
        self._address = address
        self._numbers = itertools.count(1)

    def send(self, data: bytes) -> Any:
        """Send one message."""
        raise NotImplementedError

    def receive(self) -> pb.ServerMessage:
        """Return the next message; raises what ended the carrier."""
        raise NotImplementedError

    def open(self, num_envs: int = 1, **fields: Any) -> pb.ServerMessage:
        """Send Open and return the answer."""
        fields = {"protocol_min": 1, "protocol_max": 1, "nonce": secrets.token_bytes(16), "autoreset_mode": 1} | fields
        self.send(pb.ClientMessage(open=pb.Open(num_envs=num_envs, **fields)).SerializeToString())
        return self.receive()

    def ask(self, kind: str, **fields: Any) -> Any:
        """Send a request with the next number; return what the answer holds."""
        message = pb.ClientMessage(**{kind: {"number": next(self._numbers), **fields}})
        self.send(message.SerializeToString())
        answer = self.receive()
        return getattr(answer, answer.WhichOneof("message") or "")

    def describe(self) -> pb.DescribeReply:
        """Ask what the server is, over gRPC in plaintext: whether it still answers at all."""
        with grpc.insecure_channel(self._address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            raw = channel.unary_unary(DESCRIBE_METHOD)(b"", timeout=TIMEOUT_SECONDS)
        return pb.DescribeReply.FromString(raw)

    def ended_with(self) -> Any:
        """Return the status code with which the server ends the carrier; None: without an error."""
        while True:
            try:
                self.receive()
            except Ended as ended:
                return ended.code
            except EOFError:
                return None
            except grpc.RpcError as error:
                return error.code()

    def close(self) -> None:
        """Go away without a word."""
        raise NotImplementedError

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class RawClient(Speaker):
    """One stream to a server on loopback. `receive` raises what ended it: `EOFError`, or the `grpc.RpcError`."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        super().__init__(address)
        unlimited = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        options = [*unlimited, ("grpc.use_local_subchannel_pool", 1)]
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, credentials, options)
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call = self._channel.stream_stream(SESSION_METHOD)(iter(self._requests.get, None))
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
        item = self._answers.get(timeout=self.timeout_seconds)
        if isinstance(item, Exception):
            self._answers.put(item)  # for whoever asks again
            raise item
        return pb.ServerMessage.FromString(item)

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._channel.close()


class DirectClient(Speaker):
    """One direct connection, greeted; in plaintext without `context`. `receive` raises `EOFError`, mostly `Ended`."""

    def __init__(self, address: str, context: ssl.SSLContext | None = None, timeout_seconds: float = 10.0) -> None:
        super().__init__(address)
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=timeout_seconds)
        self._bundled: collections.deque[bytes] = collections.deque()
        try:
            if context is not None:
                self.socket = context.wrap_socket(self.socket, server_hostname=host)
            self.say((b"" if context else MAGIC) + pack_hello(Hello()))
            self.frame()
        except BaseException:
            self.socket.close()
            raise

    def say(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def send(self, data: bytes) -> DirectClient:
        self.say(framed(data))
        return self

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            if not (more := self.socket.recv(min(size - len(data), 1 << 20))):
                raise EOFError("the server has ended the connection")
            data += more
        return bytes(data)

    def frame(self) -> bytes:
        """Return the next frame; b"" is a pong."""
        (length,) = HEADER.unpack(self._exactly(HEADER.size))
        data = self._exactly(length & ~LAST)
        if length & LAST:
            ended = read_ended(data)
            raise Ended(STATUS[ended.code], ended.detail) if ended.code else EOFError(ended.detail)
        return data

    def messages(self) -> Iterator[bytes]:
        """Return the messages, one by one, of bundles too, until the connection ends."""
        while True:
            while not self._bundled:
                if data := self.frame():
                    message = read_server(data)
                    self._bundled.extend(message.messages if isinstance(message, Bundle) else (data,))
            yield self._bundled.popleft()

    def receive(self) -> pb.ServerMessage:
        return pb.ServerMessage.FromString(next(self.messages()))

    def close(self) -> None:
        self.socket.close()
