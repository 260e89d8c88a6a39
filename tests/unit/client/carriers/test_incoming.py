"""Frames come out as they went in, wherever the reads cut them."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_gym.client.carriers import incoming as module
from remote_gym.client.carriers.carrier import CarrierEnded, End
from remote_gym.client.carriers.incoming import STASH_BYTES, Incoming
from remote_gym.errors import ProtocolError
from remote_gym.wire.direct import HEADER, LAST, MAX_CONTROL_BYTES, PING, Ended, framed, pack_ended
from remote_gym.wire.limits import MAX_MESSAGE_BYTES


def landing(size: int) -> memoryview:
    return memoryview(bytearray(size))


def read(incoming: Incoming, data: bytes, most: int = STASH_BYTES) -> bytes:
    """Read what there is room for; return the rest."""
    into = incoming.room()
    count = min(len(into), len(data), most)
    into[:count] = data[:count]
    if incoming.frame is None:
        incoming.end += count
    else:
        incoming.filled += count
    return data[count:]


@given(st.lists(st.integers(1, 200), max_size=12), st.lists(st.integers(1, 64), min_size=1))
def test_whatever_the_reads(sizes: list[int], reads: list[int]) -> None:
    frames = [bytes([at]) * size for at, size in enumerate(sizes)]
    left = b"".join(framed(frame) + PING for frame in frames)
    with mock.patch.object(module, "STASH_BYTES", 64):
        incoming, got = Incoming(), []
    for at in range(len(left) + 1):
        while (frame := incoming.next(landing)) is not None:
            got.append(bytes(frame))
        if not left:
            break
        left = read(incoming, left, reads[at % len(reads)])
    assert got == frames
    assert not incoming.has_more and incoming.frame is None


def test_a_large_frame_lies_where_the_landing_says() -> None:
    there: list[memoryview] = []

    def land(size: int) -> memoryview:
        there.append(landing(size))
        return there[-1]

    incoming = Incoming()
    data = read(incoming, framed(b"x" * (STASH_BYTES + 10)))
    assert incoming.next(land) is None
    assert read(incoming, data) == b""
    assert incoming.next(land) is there[0] and bytes(there[0]) == b"x" * (STASH_BYTES + 10)


def test_what_is_put_back_comes_first_and_once() -> None:
    incoming = Incoming()
    read(incoming, framed(b"one") + framed(b"two"))
    one = incoming.next(landing)
    assert one is not None
    incoming.put_back(one)
    assert incoming.has_more
    assert [incoming.next(landing) for _ in range(3)] == [b"one", b"two", None]
    assert not incoming.has_more


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (HEADER.pack(MAX_MESSAGE_BYTES + 1), ProtocolError, "the most is"),
        (HEADER.pack(LAST | MAX_CONTROL_BYTES + 1), ProtocolError, "the last frame has"),
        (pack_ended(Ended(3, "what?")), CarrierEnded, "what?"),
    ],
)
def test_what_is_no_frame_is_none_however_often_it_is_looked_at(data: bytes, error: type, says: str) -> None:
    incoming = Incoming()
    read(incoming, data)
    for _ in range(2):
        with pytest.raises(error, match=says) as raised:
            incoming.next(landing)
    if error is CarrierEnded:
        ended: Any = raised.value
        assert ended.end is End.MISUNDERSTOOD
