"""Frames between server and worker: whole again however they come, and refused where they hold what nobody knows."""

from __future__ import annotations

import socket
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_gym.failures import Failure, FailureKind
from remote_gym.ipc import link
from remote_gym.ipc.commands import (
    COMMANDS,
    NOTHING_TO_SAY,
    RESULTS,
    CloseGroup,
    Done,
    Outcomes,
    Started,
    StepGroup,
)
from remote_gym.ipc.link import HEADER_BYTES, ChildLink, Decoder, RoundEncoder, encode


def frame(content: Any) -> bytes:
    body: bytes = msgpack.packb(content)
    return len(body).to_bytes(HEADER_BYTES, "little") + body


@pytest.mark.parametrize("size", [1, 3, 8, 13, 10_000])
def test_frames_are_found_however_the_bytes_come(size: int) -> None:
    rounds = [[StepGroup(1, None, b"x" * 100), CloseGroup(1)], [CloseGroup(2)], [], [StepGroup(3, [0, 1], b"")]]
    data = b"".join(map(encode, rounds))
    decoder = Decoder(COMMANDS)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert [found for piece in pieces for found in decoder.feed(piece)] == rounds


@pytest.mark.parametrize("kind", [99, -1, "StepGroup", None])
def test_an_unknown_kind_is_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        list(Decoder(COMMANDS).feed(frame([[kind, [1]]])))


@pytest.mark.parametrize(
    "content", [[[0, []]], [[0, [1, 2]]], [[4, [[1, 2]]]], [[7, [b"", [], {}, [], 0]]], [7], [[1]]]
)
def test_fields_that_a_kind_has_not_are_refused(content: Any) -> None:
    with pytest.raises(ValueError):
        list(Decoder(RESULTS).feed(frame(content)))


@pytest.mark.parametrize(("code", "fields"), [(1, [1, 2]), (1, [1, 99, "", "", ""]), (2, [0, 0, "", "", ""])])
def test_what_is_no_failure_is_refused(code: int, fields: Any) -> None:
    with pytest.raises(ValueError):
        list(Decoder(RESULTS).feed(frame([[6, [b"", [msgpack.ExtType(code, msgpack.packb(fields))], {}]]])))


@pytest.mark.parametrize("message", [None, ["close", 1], {"failure": 1}, (1,), b"", Done])
def test_only_commands_and_results_are_encoded(message: Any) -> None:
    with pytest.raises(TypeError, match="neither a command nor a result"):
        encode([message])


@pytest.mark.parametrize("said", [object(), {1, 2}, "\ud800", 2**64])
def test_a_value_that_cannot_travel_is_refused(said: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        encode([Outcomes(said, [], {})])


def test_a_worker_reads_rounds_until_the_server_leaves_and_sends_nothing_half() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        link = ChildLink(theirs)
        ours.sendall(encode([CloseGroup(1)]) + encode([CloseGroup(2)]))
        rounds = link.rounds()
        assert next(rounds) == [CloseGroup(1)]
        bad: Any = object()
        with pytest.raises(TypeError):
            link.answer([Started(1), bad])
        link.answer([Done()])
        assert list(Decoder(RESULTS).feed(ours.recv(1000))) == [[Done()]]
        assert next(rounds) == [CloseGroup(2)]
        ours.shutdown(socket.SHUT_WR)
        assert next(rounds, None) is None


@pytest.mark.parametrize("results", [[NOTHING_TO_SAY], [NOTHING_TO_SAY, Done()], [Done()], []])
def test_an_answer_is_what_it_is_encoded_as(results: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ChildLink(theirs).answer(results)
        assert ours.recv(1000) == encode(results)


USUAL = [StepGroup(7, None, b"")], [Outcomes(b"", [], {}, [])]


@pytest.mark.parametrize(("kinds", "messages"), [(COMMANDS, USUAL[0]), (RESULTS, USUAL[1])], ids=["command", "result"])
def test_what_comes_again_and_again_is_decoded_once(kinds: Any, messages: Any) -> None:
    decoder, frame = Decoder(kinds), encode(messages)
    (first,) = decoder.feed(frame)
    (again,) = decoder.feed(frame)
    assert again is first == messages
    assert list(decoder.feed(frame[:5])) == []
    assert list(decoder.feed(frame[5:] + frame)) == [messages, messages]  # not at a frame's boundary


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (COMMANDS, StepGroup(7, [1, 2], b"")),
        (COMMANDS, CloseGroup(7)),
        (COMMANDS, StepGroup(7, None, bytes(link.MAX_KNOWN_BYTES))),
        (RESULTS, Outcomes(b"", [Failure(0, FailureKind.RAISED, "E", "m", "d")], {})),
        (RESULTS, Outcomes(b"", [], {0: [b"x"]})),
        (RESULTS, Outcomes(b"", [], {}, [([0], b"x")])),
        (RESULTS, Done()),
    ],
)
def test_what_might_be_changed_or_is_rare_is_decoded_each_time(kinds: Any, message: Any) -> None:
    decoder, frame = Decoder(kinds), encode([message])
    (first,), (again,) = decoder.feed(frame), decoder.feed(frame)
    assert first is not again
    assert type(again[0]) is type(message) and not decoder._known


def test_few_are_remembered_the_last_ones_among_them() -> None:
    decoder = Decoder(COMMANDS)
    for group in range(2 * link.MAX_KNOWN + 1):
        frame = encode([StepGroup(group, None, b"")])
        (first,) = decoder.feed(frame)
        (again,) = decoder.feed(frame)
        assert first is again == [StepGroup(group, None, b"")]
        assert len(decoder._known) <= link.MAX_KNOWN


SMALL = st.binary(max_size=2)
STEP = st.builds(StepGroup, st.integers(0, 2), st.none() | st.just([0, 1]), SMALL, st.none() | SMALL)


@given(st.lists(st.lists(STEP | st.builds(CloseGroup, st.integers(0, 2)), min_size=1, max_size=2), max_size=20))
def test_a_kept_round_is_what_encoding_it_again_would_be(rounds: list[Any]) -> None:
    encoder = RoundEncoder()
    for commands in rounds:
        assert encoder.encode(commands) == encode(commands)


def test_few_rounds_are_kept_and_none_with_large_actions() -> None:
    encoder = RoundEncoder()
    for group in range(link.MAX_KNOWN + 1):
        encoder.encode([StepGroup(group, None, b"")])
    assert len(encoder._known) == 1
    encoder.encode([StepGroup(0, None, bytes(link.MAX_KNOWN_BYTES + 1), None)])
    assert len(encoder._known) == 1
