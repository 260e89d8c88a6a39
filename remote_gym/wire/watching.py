"""No I/O: the messages of `Watch` <-> the tuples of `figures`, field by field of the same name."""

from __future__ import annotations

from typing import Any, cast

from google.protobuf.message import DecodeError, Message

from remote_gym import figures
from remote_gym.errors import ProtocolError
from remote_gym.figures import WatchReply, WatchRequest
from remote_gym.texts import encodable
from remote_gym.wire import watch_pb2 as pb

WATCH_METHOD = "/remote_gym.v1.RemoteGym/Watch"

MAX_WATCH_BYTES = 16_384
"""Of a request: one that asks for 64 frames and names 64 sessions takes about 4,000."""

SESSIONS_AT_ONCE = 128
"""In one reply: so that none is large, and making it keeps nobody waiting."""


def pack_watch(request: WatchRequest) -> bytes:
    """Return a serialised WatchRequest."""
    return cast("bytes", _message(request, pb.WatchRequest).SerializeToString())


def read_watch(data: bytes) -> WatchRequest:
    """Return what a serialised WatchRequest says, defaults in place of zeros.

    Raises:
        ProtocolError: This is no such message, or a field of it is out of its range; names the field.
    """
    if len(data) > MAX_WATCH_BYTES:
        raise ProtocolError(f"a WatchRequest of {len(data):,} bytes: {MAX_WATCH_BYTES:,} at most")
    said: WatchRequest = _tuple(_parsed(data, pb.WatchRequest), WatchRequest)
    period = _within(said.period_seconds or figures.DEFAULT_PERIOD_SECONDS, "period_seconds")
    frame_period = _within(said.frame_period_seconds or figures.DEFAULT_FRAME_PERIOD_SECONDS, "frame_period_seconds")
    if len(said.frames) > figures.MAX_FRAMES:
        raise ProtocolError(f"frames: {len(said.frames)} environments, {figures.MAX_FRAMES} at most")
    if len(said.sessions) > figures.MAX_NAMED_SESSIONS:
        raise ProtocolError(f"sessions: {len(said.sessions)} ids, {figures.MAX_NAMED_SESSIONS} at most")
    if any(len(one) != figures.ID_BYTES for one in (*said.sessions, *(frame.session for frame in said.frames))):
        raise ProtocolError(f"session: an id has {figures.ID_BYTES} bytes")
    frames = [frame._replace(max_width=_width(frame.max_width)) for frame in said.frames]
    return said._replace(period_seconds=period, frame_period_seconds=frame_period, frames=frames)


def _within(seconds: float, name: str) -> float:
    if not figures.MIN_PERIOD_SECONDS <= seconds <= figures.MAX_PERIOD_SECONDS:  # NaN neither
        raise ProtocolError(f"{name}: {figures.MIN_PERIOD_SECONDS:g} to {figures.MAX_PERIOD_SECONDS:g}")
    return seconds


def _width(pixels: int) -> int:
    if pixels and not figures.MIN_WIDTH <= pixels <= figures.MAX_WIDTH:
        raise ProtocolError(f"max_width: {figures.MIN_WIDTH} to {figures.MAX_WIDTH:,}")
    return pixels or figures.DEFAULT_WIDTH


def pack_watched(reply: WatchReply) -> bytes:
    """Return a serialised WatchReply."""
    return cast("bytes", _message(reply, pb.WatchReply).SerializeToString())


def read_watched(data: bytes) -> WatchReply:
    """Return what a serialised WatchReply says; its texts are a server's, as they came.

    Raises:
        ProtocolError: This is no such message.
    """
    return cast(WatchReply, _tuple(_parsed(data, pb.WatchReply), WatchReply))


def _parsed(data: bytes, kind: type[Message]) -> Message:
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ProtocolError(f"malformed message: {error}") from None
    return message


_KINDS: dict[type, type[Message]] = {
    figures.Episode: pb.Episode,
    figures.Frame: pb.Frame,
    figures.FrameRequest: pb.FrameRequest,
    figures.HistogramFigures: pb.Histogram,
    figures.ServerFigures: pb.ServerFigures,
    figures.SessionFigures: pb.SessionFigures,
    figures.Totals: pb.Totals,
    figures.WorkerFigures: pb.WorkerFigures,
    figures.WorkerLoss: pb.WorkerLoss,
}
"""Of each tuple that is in another, the message with the same fields."""

_TUPLES: dict[str, Any] = {kind.DESCRIPTOR.full_name: told for told, kind in _KINDS.items()}


def _message(told: Any, kind: Any) -> Any:
    return kind(**{name: _packed(value) for name, value in told._asdict().items() if value is not None})


def _packed(value: Any) -> Any:
    if isinstance(value, str):
        return encodable(value)
    if (kind := _KINDS.get(type(value))) is not None:
        return _message(value, kind)
    return [_packed(one) for one in value] if isinstance(value, (list, tuple)) else value


def _tuple(message: Any, told: Any) -> Any:
    fields = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is None:
            fields[field.name] = list(value) if hasattr(value, "append") else value
        elif hasattr(value, "append"):
            fields[field.name] = [_tuple(one, _TUPLES[field.message_type.full_name]) for one in value]
        elif message.HasField(field.name):
            fields[field.name] = _tuple(value, _TUPLES[field.message_type.full_name])
    return told(**fields)  # what is left out has its default
