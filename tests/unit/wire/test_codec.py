"""Every message comes back as it was; fragments; versions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from remote_gym import messages
from remote_gym.errors import ProtocolError
from remote_gym.messages import (
    Attach,
    Attached,
    Call,
    Close,
    Closed,
    Description,
    Draining,
    Failure,
    FailureKind,
    Fragment,
    Load,
    Lost,
    Open,
    Opened,
    Refused,
    Render,
    Reset,
    Returned,
    Step,
    Transition,
)
from remote_gym.spaces import build, describe
from remote_gym.wire import codec
from remote_gym.wire.codec import (
    FRAGMENT_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_WHOLE_BYTES,
    Joiner,
    common_protocol,
    pack_client,
    pack_description,
    pack_server,
    read_client,
    read_description,
    read_server,
    split,
)

FAILURE = Failure(3, FailureKind.LOST, "signal 9", "gone", "last words")

CLIENT = [
    Open(1, 2, b"n" * 16, 64, b"\x80", "rgb_array", "SameStep", True, True, "1.0"),
    Open(1, 1, b"n" * 16, 1, compression="zstd", lease_seconds=35.0, load_seconds=5.0),
    *(Open(1, 1, b"n" * 16, 3, observation_mode=mode) for mode in ("same", "different", "given")),
    *(Open(1, 1, b"n" * 16, 1, autoreset_mode=mode) for mode in ("None", "NextStep", "SameStep", "Disabled")),
    Attach(b"i" * 16, b"t" * 32, b"e" * 16, 1, [(5, None), (6, [1, 2])]),
    Attach(b"i" * 16, b"t" * 32, b"e" * 16, 1, []),
    Reset(1, None, b"\x90", b"\x80"),
    Reset(2**40, [4, 2]),
    Step(3, None, [b"12345678"]),
    Step(3, [2, 7], [], b"variable"),
    Step(3, None, [b"12345678"], b"", b"\4"),
    Step(3, [2, 7], [], b"", b"", b"given"),
    *(
        of(b"00-1-2-01")
        for of in (
            lambda it: Open(1, 1, b"n" * 16, 1, traceparent=it),
            lambda it: Attach(b"i" * 16, b"t" * 32, b"e" * 16, 1, [], it),
            lambda it: Reset(1, traceparent=it),
            lambda it: Step(3, None, [b"12345678"], traceparent=it),
            lambda it: Call(4, None, "name", traceparent=it),
            lambda it: Render(5, None, it),
        )
    ),
    Call(4, [1], "name", b"arguments"),
    Call(4, None, "name", b"", b"values"),
    Call(4, None, "name", b"", b""),
    Render(5),
    Render(5, [0]),
    Close(),
    Fragment(b"abc", True, 3),
]

SERVER = [
    Attached(7, 300.5),
    Returned(8, None, [b"a", b""], [FAILURE]),
    Returned(8, [3, 1], [b"a", b"b"], []),
    Refused(0, "max_envs", "too many", None),
    Refused(9, "build", "failed", FAILURE),
    Load(2, 128, 0.001, 0.01, 0.02, 0.5),
    Load(0, 0),
    Lost("EXPIRED", "no stream"),
    Closed(),
    Draining(12.5),
    Fragment(b"abc", False, 100),
]


@pytest.mark.parametrize("message", CLIENT, ids=lambda message: type(message).__name__)
def test_client_messages(message: Any) -> None:
    assert read_client(pack_client(message)) == message


@pytest.mark.parametrize("message", SERVER, ids=lambda message: type(message).__name__)
def test_server_messages(message: Any) -> None:
    assert read_server(pack_server(message)) == message


TRANSITION = Transition(
    300, None, [bytes(range(48)), b"12345678"], np.arange(2.0).tobytes(), b"\0\1", b"\1\0", [b"info"], [FAILURE]
)
TRANSITIONS = [
    TRANSITION,
    replace(TRANSITION, failures=[]),
    replace(TRANSITION, infos=[], failures=[]),
    replace(TRANSITION, indices=[3, 1], failures=[]),
]


@pytest.mark.parametrize("message", [*SERVER, *TRANSITIONS], ids=lambda message: type(message).__name__)
def test_server_messages_in_any_memory(message: Any) -> None:
    data = codec.pack_server(message)
    for frame in (memoryview(data), memoryview(bytearray(data)), np.frombuffer(data, np.uint8).copy().data):
        for _ in range(2):  # the second time by what was remembered
            assert codec.pack_server(codec.read_server(frame)) == data


def test_opened() -> None:
    from toys import SPACES

    observation, action = SPACES["nested"](), SPACES["discrete start"]()
    opened = Opened(
        1,
        b"i" * 16,
        b"t" * 32,
        b"e" * 16,
        300.0,
        describe(observation),
        describe(action),
        "{}",
        b"\x80",
        "ansi",
        [4, 7],
        actions_as_given=True,
        observation_spaces=(),
        kept_kwargs=("data_dir",),
    )
    read = read_server(pack_server(opened))
    assert isinstance(read, Opened)
    assert build(read.observation_space) == observation
    assert build(read.action_space) == action
    spaceless = {"observation_space": None, "action_space": None}
    assert {**vars(read), **spaceless} == {**vars(opened), **spaceless}


def test_transition_with_failures() -> None:
    transition = Transition(
        3, [1, 3], [b"12"], np.ones(2), np.array([True, False]), np.zeros(2, np.bool_), [b"i"], [FAILURE]
    )
    read = read_server(pack_server(transition))
    assert (read.number, read.indices, read.failures) == (3, [1, 3], [FAILURE])
    assert np.frombuffer(read.rewards).tolist() == [1, 1]


def test_description() -> None:
    description = Description(1, 2, "1.0", 2, 100, 3, 10, 1, 2**26, True, b"e" * 16, 0.002)
    assert read_description(pack_description(description)) == description
    with pytest.raises(ProtocolError):
        read_description(b"\xff")


def test_no_message_is_left_out() -> None:
    assert {type(message) for message in CLIENT} == {*messages.ClientMessage.__args__, Fragment}
    assert {type(message) for message in SERVER} | {Opened, Transition} == {*messages.ServerMessage.__args__, Fragment}


def test_a_message_of_a_newer_peer() -> None:
    for read in (read_client, read_server):
        with pytest.raises(ProtocolError, match=r"unknown kind.*upgrade this side"):
            read(b"")


# Fragments.


@pytest.fixture
def small_fragments(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(codec, "FRAGMENT_BYTES", 10)
    return 10


def joined(parts: list[bytes], read: Callable[[bytes], Any] = read_client) -> Any:
    joiner = Joiner(read)
    results = [joiner.feed(part) for part in parts]
    assert results[:-1] == [None] * (len(parts) - 1)
    return results[-1]


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 20, 35, 1000])
def test_fragments(small_fragments: int, size: int) -> None:
    message = Call(1, None, "name", b"a" * size)
    parts = list(split(pack_client(message), pack_client))
    assert len(parts) == max(1, -(-len(pack_client(message)) // small_fragments))
    assert joined(parts) == message


def test_large_messages_stay_far_below_the_limit() -> None:
    whole = pack_server(Transition(1, None, [bytes(FRAGMENT_BYTES * 2)]))
    parts = list(split(whole, pack_server))
    assert len(parts) == 3
    assert max(map(len, parts)) < FRAGMENT_BYTES + 100 < MAX_MESSAGE_BYTES
    assert len(joined(parts, read_server).observations[0]) == FRAGMENT_BYTES * 2


@pytest.mark.parametrize(
    "parts, message",
    [
        ([Fragment(b"ab", False, 4), Close()], "in between"),
        ([Fragment(b"ab", False, MAX_WHOLE_BYTES + 1)], "larger"),
        ([Fragment(b"abcd", False, 3)], "larger"),
        ([Fragment(b"ab", False, 3), Fragment(b"cd", True, 3)], "larger"),
        ([Fragment(pack_client(Fragment(b"", True, 0)), True, 100)], "a fragment holds a fragment"),
        ([Fragment(b"\xff\xff", True, 2)], "malformed"),
    ],
)
def test_fragments_that_do_not_fit(parts: list[Any], message: str) -> None:
    joiner = Joiner(read_client)
    *before, last = [pack_client(part) for part in parts]
    for part in before:
        assert joiner.feed(part) is None
    with pytest.raises(ProtocolError, match=message):
        joiner.feed(last)


# Versions.


@pytest.mark.parametrize(
    "theirs, ours, common", [((1, 1), (1, 1), 1), ((1, 3), (2, 5), 3), ((2, 5), (1, 3), 3), ((1, 9), (4, 4), 4)]
)
def test_the_newest_common_version(theirs: Any, ours: Any, common: int) -> None:
    assert common_protocol(theirs, "client", ours) == common


@pytest.mark.parametrize(
    "theirs, peer, upgrade",
    [
        ((1, 1), "client", "client"),
        ((4, 5), "client", "server"),
        ((1, 1), "server", "server"),
        ((4, 5), "server", "client"),
    ],
)
def test_which_side_to_upgrade(theirs: Any, peer: str, upgrade: str) -> None:
    said = f"the {peer} speaks {theirs[0]} to {theirs[1]}.*upgrade .* on the {upgrade}$"
    with pytest.raises(ProtocolError, match=said):
        common_protocol(theirs, peer, (2, 3))
