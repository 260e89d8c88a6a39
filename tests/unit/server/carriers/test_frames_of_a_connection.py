"""Bytes to frames, however they are cut, and what is held of those that have not come whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_gym.errors import ProtocolError
from remote_gym.server.carriers.connection import COUNTED_BYTES, RECORD_BYTES, Frames
from remote_gym.server.holdings import Holdings
from remote_gym.server.refusals import RefusalError
from remote_gym.server.statistics import Counters
from remote_gym.wire.direct import HEADER, MAX_CONTROL_BYTES, framed
from remote_gym.wire.limits import MAX_MESSAGE_BYTES

LARGE = COUNTED_BYTES + 1


def fed(frames: Frames, data: bytes) -> list[bytes]:
    return list(frames.feed(memoryview(data)))


def greeted(holdings: Holdings | None = None) -> Frames:
    frames = Frames(holdings or Holdings(1 << 30), Counters())
    assert fed(frames, framed(b"hello")) == [b"hello"]
    return frames


@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_frames_are_the_same_wherever_they_are_cut(sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(framed, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    frames, got = Frames(Holdings(1 << 30), Counters()), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += fed(frames, stream[begin:end])
    assert got == sent


@given(st.lists(st.binary(max_size=40) | st.just(bytes(RECORD_BYTES)), max_size=8))
def test_frames_that_come_one_by_one(sent: list[bytes]) -> None:
    frames = greeted()
    assert [fed(frames, framed(one)) for one in sent] == [[one] for one in sent]


def test_a_frame_does_not_share_memory_with_what_was_read() -> None:
    for frames in (Frames(Holdings(1 << 20), Counters()), greeted()):
        buffer = bytearray(framed(b"abc"))
        (frame,) = frames.feed(memoryview(buffer))
        buffer[:] = bytes(len(buffer))
        assert frame == b"abc"


def test_a_greeting_is_small() -> None:
    assert fed(Frames(Holdings(1 << 20), Counters()), framed(bytes(MAX_CONTROL_BYTES))) == [bytes(MAX_CONTROL_BYTES)]
    with pytest.raises(ProtocolError, match="4,097 bytes"):
        fed(Frames(Holdings(1 << 20), Counters()), framed(bytes(MAX_CONTROL_BYTES + 1)))


@pytest.mark.parametrize("cut", [4, 5])
def test_a_length_is_refused_before_its_bytes_come(cut: int) -> None:
    with pytest.raises(ProtocolError, match=f"{MAX_MESSAGE_BYTES + 1:,} bytes"):
        fed(greeted(), (HEADER.pack(MAX_MESSAGE_BYTES + 1) + b"x")[:cut])


def test_what_is_held_of_a_large_frame_is_counted_until_it_is_whole() -> None:
    holdings = Holdings(1 << 30)
    frames, stream = greeted(holdings), framed(bytes(LARGE))
    assert fed(frames, stream[:100]) == []
    assert holdings.bytes["fragments"] == 0
    assert fed(frames, stream[100:-1]) == []
    assert holdings.bytes["fragments"] == len(stream) - 1
    assert fed(frames, stream[-1:]) == [bytes(LARGE)]
    assert holdings.bytes["fragments"] == 0


def test_more_than_there_is_room_for_is_refused_and_given_back() -> None:
    holdings = Holdings(2 * LARGE)
    first, second = greeted(holdings), greeted(holdings)
    fed(first, framed(bytes(2 * LARGE))[: LARGE + 1_000])
    with pytest.raises(RefusalError, match="unfinished messages"):
        fed(second, framed(bytes(2 * LARGE))[: LARGE + 1_000])
    for frames in (first, second):
        frames.close()
        frames.close()
    assert holdings.bytes["fragments"] == 0
