"""Hot messages: what is written here any generated class reads, and the other way round; garbage is a ProtocolError."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remote_gym.errors import ProtocolError
from remote_gym.messages import Failure, FailureKind, Returned, Step, Transition
from remote_gym.wire import codec, frames
from remote_gym.wire import session_pb2 as pb

NUMBERS = st.integers(0, 300) | st.sampled_from([2**32, 2**63, 2**64 - 1])
INDICES = st.none() | st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5)
LEAVES = st.lists(st.binary(max_size=40) | st.integers(120, 140).map(bytes) | st.just(bytes(20_000)), max_size=4)
FAILURES = st.builds(
    Failure,
    st.integers(0, 9),
    st.sampled_from(FailureKind),
    st.text(max_size=3),
    st.text(max_size=3),
    st.text(max_size=3),
)
PACKED = st.binary(max_size=20)
TRACED = st.just(b"") | st.just(b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01") | PACKED
STEPS = st.builds(Step, NUMBERS, INDICES, LEAVES, PACKED, PACKED, PACKED, TRACED)


@st.composite
def transitions(draw: st.DrawFn, failures: bool = True) -> Transition:
    rows = draw(st.integers(0, 5))
    rewards = np.array(draw(st.lists(st.floats(), min_size=rows, max_size=rows)), "<f8")
    flags = [np.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)), np.bool_) for _ in range(2)]
    infos = draw(st.lists(st.binary(max_size=20), max_size=3))
    found = draw(st.lists(FAILURES, max_size=2)) if failures else []
    return Transition(draw(NUMBERS), draw(INDICES), draw(LEAVES), rewards, *flags, infos, found)


def plain(message: Any) -> dict[str, Any]:
    """The fields of `message` with every buffer as bytes."""

    def value(field: Any) -> Any:
        if isinstance(field, np.ndarray):
            return field.tobytes()
        if isinstance(field, memoryview):
            return bytes(field)
        return [value(item) for item in field] if isinstance(field, (list, tuple)) else field

    return {name: value(field) for name, field in ((f.name, getattr(message, f.name)) for f in fields(message))}


def generated_step(step: Step) -> bytes:
    return pb.ClientMessage(**codec._PACK_CLIENT[Step](step)).SerializeToString()


def generated_transition(transition: Transition) -> bytes:
    return pb.ServerMessage(**codec._PACK_SERVER[Transition](transition)).SerializeToString()


@settings(deadline=None)
@given(STEPS)
@example(Step(1, None, []))
@example(Step(1, None, [b"12345678"], b"", b"\4"))
@example(Step(1, None, [], given=b"x"))
@example(Step(2**40, None, [], given=b"x"))
def test_steps(step: Step) -> None:
    ours, theirs = frames.pack_step(step), generated_step(step)
    assert plain(codec._read(pb.ClientMessage(), ours, codec._READ_CLIENT)) == plain(step)
    assert plain(frames.read_step(ours)) == plain(step)
    for data in (ours, theirs):
        assert plain(codec.read_client(data)) == plain(step)


def test_steps_that_are_alike_in_size_are_not_taken_for_each_other() -> None:
    for step in (Step(1, None, [b"1234"]), Step(2, None, [], given=b"1234"), Step(3, None, [], variable=b"1234")) * 2:
        assert plain(codec._read(pb.ClientMessage(), frames.pack_step(step), codec._READ_CLIENT)) == plain(step)


def test_a_step_of_no_trace_is_as_long_as_it_ever_was_and_one_of_a_trace_is_not_remembered() -> None:
    step = Step(1, None, [b"12345678"])
    whole = b"\x22\x92\x80\x80\x80\x00\x08\x81\x80\x80\x80\x00\x7a\x00\x1a\x08" + b"12345678"
    assert frames.pack_step(step) == whole  # number, padding, one leaf at a multiple of 16 bytes
    frames._layouts.clear()
    traceparent = b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"
    assert frames.read_step(frames.pack_step(Step(1, None, [b"12345678"], traceparent=traceparent))).traceparent
    assert not frames._layouts
    frames.read_step(whole)
    assert frames._layouts


@settings(deadline=None)
@given(transitions())
def test_transitions(transition: Transition) -> None:
    ours, theirs = frames.pack_transition(transition), generated_transition(transition)
    assert plain(codec._read(pb.ServerMessage(), ours, codec._READ_SERVER)) == plain(transition)
    for data in (ours, theirs):
        assert plain(codec.read_server(data)) == plain(transition)


@pytest.mark.parametrize("number", [1, 2**40])
@pytest.mark.parametrize("indices", [None, [3, 1]])
@pytest.mark.parametrize("sizes", [[], [0, 1], [127, 128], [70_000, 3]])
@pytest.mark.parametrize("failures", [0, 2])
def test_returned_values(number: int, indices: list[int] | None, sizes: list[int], failures: int) -> None:
    values = [bytes([size % 251]) * size for size in sizes]
    failed = [Failure(at, FailureKind.RAISED, "ValueError", "bad", "Traceback", "ValueError") for at in range(failures)]
    read = pb.ServerMessage.FromString(frames.pack_returned(Returned(number, indices, values, failed))).returned
    assert (read.number, list(read.indices), list(read.values)) == (number, indices or [], values)
    assert [(one.index, one.type, one.detail) for one in read.failures] == [
        (at, "ValueError", "Traceback") for at in range(failures)
    ]


@settings(deadline=None)
@given(transitions(failures=False))
def test_transitions_without_failures_are_read_without_the_generated_class(transition: Transition) -> None:
    for data in (frames.pack_transition(transition), generated_transition(transition)):
        assert plain(frames.read_transition(data)) == plain(transition)


def test_parts_of_the_same_sizes_in_other_fields_are_not_confused() -> None:
    step = Transition(1, None, [bytes(16)], bytes(8), b"\0", b"\0")
    reset = Transition(1, None, [bytes(16), bytes(8), b"\0", b"\0"])
    for message in (step, reset, step):
        assert plain(frames.read_transition(frames.pack_transition(message))) == plain(message)
    for other in (Step(1, None, [b"\x91\1"]), Step(1, None, [], given=b"\x91\1"), Step(1, None, [b"\x91\1"])):
        assert plain(frames.read_step(frames.pack_step(other))) == plain(other)


def test_few_templates_are_remembered() -> None:
    for size in range(2 * frames._MAX_REMEMBERED):
        frames.pack_step(Step(1, None, [bytes(size)]))
    assert 0 < len(frames._templates) <= frames._MAX_REMEMBERED


def outcome(data: bytes) -> Any:
    """What reading a message gives, or says."""
    try:
        return plain(codec.read_client(data))
    except ProtocolError as error:
        return str(error)


@settings(deadline=None)
@given(STEPS, st.data())
def test_a_step_is_read_by_a_remembered_layout_as_it_would_be_without(step: Step, data: st.DataObject) -> None:
    other = frames.pack_step(step)
    again = bytearray(other)  # of the same length, in part the same
    for _ in range(data.draw(st.integers(0, 3))):
        again[data.draw(st.integers(0, len(again) - 1))] = data.draw(st.sampled_from([0, 1, 2, 0x22, 0x7F, 0x80, 0xFF]))
    frames._layouts.clear()
    expected = outcome(bytes(again))
    frames._layouts.clear()
    frames.read_step(other)
    assert outcome(bytes(again)) == expected


@pytest.mark.parametrize("more", [{}, {"given": b"\x91\x01"}, {"dtypes": b"\1"}, {"variable": b"\x91\x90"}])
def test_a_step_of_everybody_is_searched_once(more: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    frames._layouts.clear()
    leaves = [] if "given" in more else [b"12345678"]
    frames.read_step(frames.pack_step(Step(1, None, leaves, **more)))
    monkeypatch.delattr(frames, "_fields")
    for number in (2, 2**35 - 1):
        step = Step(number, None, leaves, **more)
        assert plain(frames.read_step(frames.pack_step(step))) == plain(step)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=4), st.integers(1, 5), st.lists(NUMBERS, max_size=3), st.data())
def test_rows_that_stay_where_they_are(leaves: list[bytes], rows: int, numbers: list[int], data: st.DataObject) -> None:
    observations = [bytearray(leaf) for leaf in leaves]
    scalars = [bytearray(8 * rows), bytearray(rows), bytearray(rows)]
    pack = frames.transition_packer([memoryview(one) for one in observations], [memoryview(one) for one in scalars])
    for number in numbers:
        for part in (*observations, *scalars):
            part[:] = data.draw(st.binary(min_size=len(part), max_size=len(part)))
        expected = Transition(number, None, [bytes(one) for one in observations], *map(bytes, scalars))
        assert pack(number) == frames.pack_transition(expected)


def address(data: bytes, part: memoryview) -> int:
    whole, piece = np.frombuffer(data, np.uint8), np.frombuffer(part, np.uint8)
    return int(piece.ctypes.data - whole.ctypes.data)


@settings(deadline=None)
@given(st.integers(0, 2**40), INDICES, st.lists(st.integers(1, 300), min_size=1, max_size=5))
def test_leaves_and_rewards_are_aligned(number: int, indices: Any, sizes: list[int]) -> None:
    leaves = [bytes(size) for size in sizes]
    step = frames.pack_step(Step(number, indices, leaves))
    assert [address(step, leaf) % frames.ALIGNMENT_BYTES for leaf in frames.read_step(step).actions] == [0] * len(sizes)
    rewards = np.ones(3)
    data = frames.pack_transition(Transition(number, indices, leaves, rewards, rewards > 0, rewards > 0))
    read = frames.read_transition(data)
    assert [address(data, leaf) % frames.ALIGNMENT_BYTES for leaf in (*read.observations, read.rewards)] == [0] * (
        len(sizes) + 1
    )


def test_leaves_look_into_the_received_bytes() -> None:
    data = frames.pack_step(Step(1, None, [np.arange(1000.0)]))
    (leaf,) = frames.read_step(data).actions
    assert leaf.obj is data
    assert np.frombuffer(leaf).tolist() == list(range(1000))


@pytest.mark.parametrize("dtype", ["f8", "u1", "?", "f2"])
@pytest.mark.parametrize("shape", [(3,), (3, 2, 2), (3, 0)])
def test_arrays_are_written_as_their_memory(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, dtype)
    (leaf,) = frames.read_step(frames.pack_step(Step(1, None, [array]))).actions
    assert bytes(leaf) == array.tobytes()


def test_other_encodings_fall_back_to_the_generated_class() -> None:
    unpacked = b"\x08\x05" + b"\x21" + np.array([1.5]).tobytes() + b"\x28\x01\x30\x00"  # rewards one by one
    body = pb.Transition.FromString(unpacked)
    assert list(body.rewards) == [1.5]
    data = b"\x1a" + bytes((len(unpacked),)) + unpacked
    with pytest.raises(frames.UnusualEncoding):
        frames.read_transition(data)
    read = codec.read_server(data)
    assert np.frombuffer(read.rewards).tolist() == [1.5]
    assert plain(read)["terminations"] == b"\x01"


def test_two_packed_pieces_are_joined() -> None:
    piece = b"\x22\x08" + np.array([1.5]).tobytes()
    data = b"\x1a" + bytes((2 * len(piece),)) + piece * 2
    assert np.frombuffer(codec.read_server(data).rewards).tolist() == [1.5, 1.5]


def test_unknown_fields_are_ignored() -> None:
    body = b"\x08\x05" + b"\xf2\x01\x03abc"  # field 30
    assert codec.read_client(b"\x22" + bytes((len(body),)) + body).number == 5


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=40), st.sampled_from([b"", b"\x22", b"\x1a", b"\x0a"]))
def test_random_bytes_raise_nothing_but_protocol_error(data: bytes, start: bytes) -> None:
    for read in (codec.read_client, codec.read_server):
        with contextlib.suppress(ProtocolError):
            read(start + data)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damaged_messages_raise_nothing_but_protocol_error(data: st.DataObject) -> None:
    step = data.draw(st.booleans())
    whole = frames.pack_step(data.draw(STEPS)) if step else frames.pack_transition(data.draw(transitions()))
    damaged = bytearray(whole[: data.draw(st.integers(0, min(len(whole), 80)))])
    if damaged and data.draw(st.booleans()):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ProtocolError):
        (codec.read_client if step else codec.read_server)(bytes(damaged))
