"""Every reader of bytes that a peer has sent: what it may raise, what it may cost, and what else must hold.

A new reader is a new line in `TARGETS`; everything that fuzzes takes its targets from there.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from costs import too_dear
from fuzz import makers
from google.protobuf.message import DecodeError
from gymnasium.spaces import Dict as DictSpace
from gymnasium.spaces import Discrete

from remote_gym import info_blocks, spaces, values
from remote_gym.errors import CodecError, MisuseError, ProtocolError
from remote_gym.key_orders import KeyOrders
from remote_gym.messages import Bundle, Fragment, Open, Opened, Transition
from remote_gym.server.carriers import client_hello
from remote_gym.server.carriers.connection import Frames
from remote_gym.server.holdings import Holdings
from remote_gym.server.refusals import RefusalError
from remote_gym.server.statistics import Counters
from remote_gym.values.scanning import Survey, survey
from remote_gym.wire import codec, direct, frames, space_pb2
from remote_gym.wire import session_pb2 as pb
from remote_gym.wire.spaces import read_space

HERE = Path(__file__).parent


class Finding(Exception):
    """An input that shows a fault."""


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        read: From bytes to anything.
        errors: What it may raise.
        make: Valid input at random.
        check: What must hold of (input, result) besides.
    """

    name: str
    read: Callable[[bytes], Any]
    errors: tuple[type[Exception], ...]
    make: Callable[[Random], bytes]
    check: Callable[[bytes, Any], None] = lambda _data, _result: None

    def run(self, data: bytes) -> None:
        """Read and check.

        Raises:
            Finding: It raised what it may not, or what must hold does not.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                result = self.read(data)
        except self.errors:
            return
        except Exception as error:
            raise Finding(f"{self.name}: {type(error).__name__}: {str(error)[:200]}") from error
        self.check(data, result)

    def weigh(self, data: bytes) -> None:
        """Read for what it costs.

        Raises:
            Finding: More than its size allows.
        """
        if (cost := too_dear(self.read_quietly, data)) is not None:
            raise Finding(f"{self.name}: {cost}")

    def read_quietly(self, data: bytes) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.read(data)
        except Exception:  # `run` judges them
            return

    def saved(self, folder: str) -> list[Path]:
        """Return the committed inputs: ``corpus`` or ``findings``."""
        return sorted(path for path in (HERE / folder / self.name).glob("*") if path.is_file())


# What must hold besides


def plain(message: Any) -> Any:
    """Return `message` with every buffer as bytes, comparable."""
    if is_dataclass(message):
        return type(message), {f.name: plain(getattr(message, f.name)) for f in fields(message)}
    if isinstance(message, (memoryview, bytearray, np.ndarray)):
        return bytes(message)
    if isinstance(message, (list, tuple)):
        return [plain(item) for item in message]
    return message


def _same(data: bytes, ours: Any, theirs: Any) -> None:
    if plain(ours) != plain(theirs):
        raise Finding(f"{data[:100].hex()} is read as {plain(ours)}, and then as {plain(theirs)}"[:2_000])


def _comes_back(pack: Callable[[Any], bytes], read: Callable[[bytes], Any]) -> Callable[[bytes, Any], None]:
    """What was read is written, and read again as the same: so every field is of its type and within its range."""

    def check(data: bytes, message: Any) -> None:
        modes = (message.autoreset_mode, message.observation_mode) if isinstance(message, Open) else ()
        if any(mode.lstrip("-").isdigit() for mode in modes):
            return  # of a newer peer: read as its number, never written
        if isinstance(message, Opened) and "{'': " in f"{message.observation_space}{message.action_space}":
            return  # a space of an unknown kind, likewise
        if isinstance(message, Transition) and not len(message.rewards):
            return  # flags without rewards are never written; the client compares the numbers of rows
        _same(data, message, read(pack(message)))

    return check


def _generated(envelope: type[Any], readers: Any) -> Callable[[bytes, Any], None]:
    """The short way reads what the generated class reads."""

    def check(data: bytes, message: Any) -> None:
        try:
            theirs = codec._read(envelope(), data, readers)
        except ProtocolError as error:
            raise Finding(f"{data[:100].hex()} is read as {plain(message)}, and then not: {error}") from None
        _same(data, message, theirs)

    return check


# Readers that are not one function


def _join_requests(data: bytes) -> None:
    joiner = codec.Joiner(codec.read_client, codec.MAX_REQUEST_BYTES)
    for frame in makers.split_frames(data):
        joiner.feed(frame)
        if not 0 <= joiner.held_bytes <= len(data):
            raise Finding(f"holds {joiner.held_bytes} bytes of {len(data)}")


def _join_answers(data: bytes) -> None:
    """As a client does: what a bundle holds is fed as well."""
    joiner = codec.Joiner(codec.read_server)
    waiting = deque(makers.split_frames(data))
    while waiting:
        message = joiner.feed(waiting.popleft())
        if isinstance(message, Bundle):
            waiting.extendleft(reversed(message.messages))
        if isinstance(message, Fragment):
            raise Finding("a fragment came out")


def _read_step(data: bytes) -> Any:
    if data[:1] not in codec._STEP:
        raise ProtocolError("nobody would read it here")
    return frames.read_step(data)


def _read_transition(data: bytes) -> Any:
    if data[:1] != frames.TRANSITION_BYTE:
        raise ProtocolError("nobody would read it here")
    return frames.read_transition(data)


def _read_space(data: bytes) -> Any:
    message = space_pb2.Space()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ProtocolError(str(error)) from None
    return read_space(message)


def _build_space(data: bytes) -> Any:
    described = _read_space(data)
    built = spaces.build(described)
    spaces.build(described, custom=True)
    spaces.bases_assumed(described)
    return built


def _repack(data: bytes) -> None:
    values.pack(values.unpack(data))


def _survey(data: bytes) -> Survey:
    """As the server looks at a packed value: at the whole, its elements and theirs."""
    whole = survey(data)
    for number, _ in zip(range(len(whole)), range(100), strict=False):
        element = whole.element(number)
        element.kinds()
        whole.text(number, 256)
    whole.is_table(2)
    return whole


def _selects_itself(data: bytes, whole: Survey) -> None:
    """All elements of a list, taken out and put together, are that list; and what `unpack` takes in, `survey` does."""
    if whole.kind == "list" and survey(whole.select(range(len(whole)))).kinds() != whole.kinds():
        raise Finding(f"{data[:100].hex()}: selecting every element makes another list")


def _unpack(data: bytes) -> Any:
    value = values.unpack(data)
    try:
        survey(data)
    except ValueError as error:
        raise Finding(f"{data[:100].hex()} is a value, and the server's scanner refuses it: {error}") from None
    return value


def _hear(data: bytes) -> list[bytes]:
    """The frames of a connection are the same, wherever it is cut; what is held of one is counted and given back."""
    holdings = Holdings(2**26)
    whole, cut = (Frames(holdings, Counters()) for _ in range(2))
    try:
        frames = [bytes(frame) for frame in whole.feed(memoryview(data))]
        size = max(1, len(data) // 7)
        pieces = [frame for at in range(0, len(data), size) for frame in cut.feed(memoryview(data[at : at + size]))]
    finally:
        whole.close()
        cut.close()
    if pieces != frames:
        raise Finding(f"{data[:100].hex()} is {len(frames)} frames, and {len(pieces)} in pieces")
    if holdings.bytes["fragments"]:
        raise Finding(f"{data[:100].hex()}: {holdings.bytes['fragments']} bytes are held for ever")
    return frames


def _judge(data: bytes) -> bool:
    """Whoever says no, or yes, to the beginning of a connection says the same when more has come."""
    verdict, more = client_hello.over_tls(data), data + bytes(100)
    if verdict is not None and client_hello.over_tls(more) is not verdict:
        raise Finding(f"{data[:100].hex()} is judged otherwise when more has come")
    if verdict is None and len(data) >= client_hello.MAX_HELLO_BYTES:
        raise Finding(f"{len(data)} bytes are waited for no longer")
    return bool(verdict)


_ORDERS = KeyOrders(DictSpace({"a": Discrete(2), "b": DictSpace({"c": Discrete(2)}), "d": Discrete(2)}))
_ORDERED = {"a": 0, "b": {"c": 0}, "d": 0}


def _read_orders(data: bytes) -> Any:
    """What is taken as orders can be applied, and loses no key."""
    orders = values.unpack(data)
    _ORDERS.check(orders)
    if _ORDERS.apply(orders, _ORDERED) != _ORDERED:
        raise Finding(f"{data[:100].hex()}: keys are lost in these orders")
    return orders


TARGETS = {
    target.name: target
    for target in (
        Target(
            "client",
            codec.read_client,
            (ProtocolError,),
            makers.client,
            _comes_back(codec.pack_client, codec.read_client),
        ),
        Target(
            "server",
            codec.read_server,
            (ProtocolError,),
            makers.server,
            _comes_back(codec.pack_server, codec.read_server),
        ),
        Target("first", codec.read_first, (ProtocolError,), makers.first),
        Target("description", codec.read_description, (ProtocolError,), makers.description),
        Target("requests", _join_requests, (ProtocolError,), makers.requests),
        Target("answers", _join_answers, (ProtocolError,), makers.answers),
        Target(
            "step",
            _read_step,
            (ProtocolError, frames.UnusualEncoding),
            makers.step,
            _generated(pb.ClientMessage, codec._READ_CLIENT),
        ),
        Target(
            "transition",
            _read_transition,
            (ProtocolError, frames.UnusualEncoding),
            makers.transition,
            _generated(pb.ServerMessage, codec._READ_SERVER),
        ),
        Target("space", _read_space, (ProtocolError,), makers.space),
        Target("build", _build_space, (ProtocolError, MisuseError), makers.space),
        Target("values", _unpack, (CodecError,), makers.value),
        Target("survey", _survey, (ValueError,), makers.value, _selects_itself),
        Target("repack", _repack, (CodecError,), makers.value),
        Target("orders", _read_orders, (CodecError, ProtocolError), makers.orders),
        Target("infos", info_blocks.unpack_infos, (CodecError,), makers.info_block),
        Target("hello", direct.read_hello, (ProtocolError,), makers.hello),
        Target("ended", direct.read_ended, (ProtocolError,), makers.ended),
        Target("connection", _hear, (ProtocolError, RefusalError), makers.connection),
        Target("handshake", _judge, (), makers.client_hello),
    )
}
