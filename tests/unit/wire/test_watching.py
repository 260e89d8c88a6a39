"""The messages of Watch there and back, and requests out of their range by the names of their fields."""

from __future__ import annotations

from typing import Any

import pytest

from remote_gym import figures
from remote_gym.errors import ProtocolError
from remote_gym.figures import (
    Episode,
    Frame,
    FrameRequest,
    HistogramFigures,
    ServerFigures,
    SessionFigures,
    Totals,
    WatchReply,
    WatchRequest,
    WorkerFigures,
    WorkerLoss,
)
from remote_gym.wire import watch_pb2 as pb
from remote_gym.wire.watching import _KINDS, MAX_WATCH_BYTES, pack_watch, pack_watched, read_watch, read_watched

ID = bytes(range(16))


def plain(value: Any) -> Any:
    """Return `value` with tuples for all its lists."""
    if isinstance(value, list):
        return tuple(plain(one) for one in value)
    return value._make(map(plain, value)) if hasattr(value, "_make") else value


@pytest.mark.parametrize("told", [*_KINDS, WatchReply, WatchRequest], ids=lambda kind: kind.__name__)
def test_tuples_have_the_fields_of_the_messages_in_their_order(told: Any) -> None:
    kind = _KINDS.get(told) or getattr(pb, told.__name__)
    assert told._fields == tuple(field.name for field in kind.DESCRIPTOR.fields)


def test_a_reply_there_and_back() -> None:
    totals = Totals(1, 2, 3, 4, 5.5, 6, 7.5)
    histogram = HistogramFigures((0.5, float("inf")), (3, 1), 2.25)
    reply = WatchReply(
        time=12.5,
        server=ServerFigures("1.0", "CartPole-v1", ("::1",), 5, b"epoch", totals=totals, step_seconds=histogram),
        sessions=(SessionFigures(ID, "ada", episodes=(Episode(1, -2.5, 3, 4.5, 5.5),), totals=totals, workers=(0, 2)),),
        workers=(WorkerFigures(2, 77, "ada", 3, 0.5, 9, 0.25, histogram),),
        losses=(WorkerLoss(1, 2.5, 2, 76, "signal 9", "its last line", (ID,)),),
        more=True,
        frames=(Frame(ID, 3, "image/png", b"\x89PNG", 4, 5, 1.5, 6),),
    )
    assert plain(read_watched(pack_watched(reply))) == reply


def test_a_reply_without_figures_has_none() -> None:
    assert read_watched(pack_watched(WatchReply(frames=[Frame(missing="idle")]))).server is None


def test_what_no_utf8_carries_is_escaped() -> None:
    reply = read_watched(pack_watched(WatchReply(losses=[WorkerLoss(output="a \ud800 b")])))
    assert reply.losses[0].output == "a \\ud800 b"


def test_zeros_of_a_request_stand_for_defaults() -> None:
    request = read_watch(pack_watch(WatchRequest(0.0, [FrameRequest(ID, 2, 0)], 0.0)))
    assert request == WatchRequest(
        figures.DEFAULT_PERIOD_SECONDS,
        [FrameRequest(ID, 2, figures.DEFAULT_WIDTH)],
        figures.DEFAULT_FRAME_PERIOD_SECONDS,
        [],
    )
    assert read_watch(b"") == WatchRequest(sessions=[], frames=[])


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (WatchRequest(0.05), "period_seconds"),
        (WatchRequest(float("nan")), "period_seconds"),
        (WatchRequest(-1.0), "period_seconds"),
        (WatchRequest(frame_period_seconds=1e9), "frame_period_seconds"),
        (WatchRequest(frames=[FrameRequest(ID, 0)] * 65), "frames"),
        (WatchRequest(frames=[FrameRequest(b"short", 0)]), "session"),
        (WatchRequest(frames=[FrameRequest(ID, 0, 15)]), "max_width"),
        (WatchRequest(frames=[FrameRequest(ID, 0, 5_000)]), "max_width"),
        (WatchRequest(sessions=[ID] * 65), "sessions"),
        (WatchRequest(sessions=[b""]), "session"),
    ],
)
def test_requests_out_of_range_name_the_field(request_: WatchRequest, name: str) -> None:
    with pytest.raises(ProtocolError, match=f"^{name}: "):
        read_watch(pack_watch(request_))


@pytest.mark.parametrize("read", [read_watch, read_watched])
def test_what_is_no_message_is_refused(read: Any) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        read(b"\xff\xff\xff")


def test_a_large_request_is_refused_unread() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        read_watch(b"\x2a\x10" + bytes(MAX_WATCH_BYTES))
