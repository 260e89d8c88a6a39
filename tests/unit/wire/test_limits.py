"""What reading costs is in proportion to what is read; names, first messages, fragments and bundles have limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from costs import allowed_bytes, assert_cheap, cpu_seconds, peak_resident_bytes, slowness

from remote_gym.errors import ProtocolError
from remote_gym.messages import (
    Attach,
    Attached,
    Bundle,
    Call,
    Close,
    Closed,
    Description,
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
from remote_gym.texts import MAX_NAME_BYTES
from remote_gym.wire import frames, space_pb2
from remote_gym.wire import session_pb2 as pb
from remote_gym.wire.codec import (
    MAX_FIRST_BYTES,
    MAX_KWARGS_BYTES,
    MAX_REQUEST_BYTES,
    MAX_WHOLE_BYTES,
    Joiner,
    OversizeError,
    begins_session,
    pack_client,
    pack_description,
    pack_server,
    read_client,
    read_description,
    read_first,
    read_server,
)
from remote_gym.wire.limits import MAX_SPACES
from remote_gym.wire.spaces import read_space

MEGABYTE = 1 << 20


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field."""
    return frames._varint(number << 3 | 2) + frames._varint(len(data)) + data


def repeated(number: int, data: bytes = b"", size: int = MEGABYTE) -> bytes:
    """As many fields as fill `size` bytes."""
    one = field(number, data)
    return one * (size // len(one))


def description(size: int = MEGABYTE, unit: bytes = b"") -> bytes:
    return field(6, field(9, repeated(1, unit, size)))  # Opened.observation_space: Tuple


SMALL_FIELDS = {
    "Step.actions": (read_client, field(4, repeated(3))),
    "Step.padding": (read_client, field(4, repeated(15))),
    "Step of unknown fields": (read_client, field(4, b"\x50\0" * (MEGABYTE // 2))),
    "Step.variable": (read_client, field(4, repeated(4))),
    "Step.actions beside a group": (read_client, field(4, b"\xa3\1\xa4\1" + repeated(3))),
    "Attach.missing": (read_client, field(2, repeated(5))),
    "Attach.missing with a number": (read_client, field(2, repeated(5, b"\x08\1"))),
    "Reset.indices": (read_client, field(3, b"\x15abcd" * (MEGABYTE // 5))),
    "Render.indices": (read_client, field(6, field(2, b"abcd" * (MEGABYTE // 4)))),
    "kinds in turn": (read_client, b"\x0a\0\x12\0" * (MEGABYTE // 4)),
    "kinds in turn, of a server": (read_server, b"\x0a\0\x12\0" * (MEGABYTE // 4)),
    "Transition.observations": (read_server, field(3, repeated(3))),
    "Transition.infos": (read_server, field(3, repeated(7))),
    "Transition.failures": (read_server, field(3, repeated(8))),
    "Transition.failures beside a group": (read_server, field(3, b"\xa3\1\xa4\1" + repeated(8))),
    "Transition.terminations": (read_server, field(3, field(5, b"\2" * MEGABYTE))),
    "Transition.terminations one by one": (read_server, field(3, b"\x28\1" * (MEGABYTE // 2))),
    "Transition.rewards one by one": (read_server, field(3, (b"\x21" + bytes(8)) * (MEGABYTE // 9))),
    "Returned.values": (read_server, field(4, repeated(3))),
    "Returned.values of two bytes": (read_server, field(4, repeated(3, b"ab"))),
    "Returned.failures": (read_server, field(4, repeated(4))),
    "Returned.failures with a kind": (read_server, field(4, repeated(4, b"\x10\1"))),
    "Refused.failure": (read_server, field(5, repeated(4))),
    "Bundle.messages": (read_server, field(9, repeated(1))),
    "Bundle.messages of two bytes": (read_server, field(9, repeated(1, b"\x3a\0"))),
    "Opened.observation_space": (read_server, field(1, repeated(6))),
    "Opened.observation_space, kinds in turn": (read_server, field(1, field(6, b"\x0a\0\x12\0" * (MEGABYTE // 4)))),
    "Opened.env_ids": (read_server, field(1, field(11, b"abcd" * (MEGABYTE // 4)))),
    "spaces": (read_server, field(1, description())),
    "spaces with a kind": (read_server, field(1, description(unit=b"\x22\0"))),
    "spaces of few bytes": (read_server, field(1, description(20_000, b"\x22\0"))),
    "keys": (read_server, field(1, field(6, field(10, repeated(1, b"a"))))),
    "shape": (read_server, field(1, field(6, field(1, field(2, b"\1" * MEGABYTE))))),
    "DescribeReply.version": (read_description, repeated(3, b"abc")),
    "DescribeReply of unknown fields": (read_description, repeated(14)),
}


@pytest.mark.parametrize("read, data", SMALL_FIELDS.values(), ids=SMALL_FIELDS.keys())
def test_many_small_fields_cost_no_more_than_their_bytes(read: Callable[[bytes], Any], data: bytes) -> None:
    assert_cheap(read, data)
    assert peak_resident_bytes(read, data) <= allowed_bytes(len(data))


@pytest.mark.parametrize("size", [1_000, 4_000, 8_192, 30_000])
@pytest.mark.parametrize("read, kind, part", [(read_client, 4, 3), (read_server, 3, 3), (read_server, 3, 8),
                                              (read_server, 4, 4), (read_client, 2, 5)])  # fmt: skip
def test_the_constant_of_the_limits_is_within_the_bound(read: Any, kind: int, part: int, size: int) -> None:
    assert_cheap(read, field(kind, repeated(part, size=size)))


def test_too_many_fields_are_refused() -> None:
    with pytest.raises(ProtocolError, match="more than 135,168 fields"):
        read_server(field(3, repeated(8, size=MEGABYTE - 4)))


@pytest.mark.parametrize("unit", [b"", bytes(16)])
@pytest.mark.parametrize("size", [MEGABYTE - 4, 16 * MEGABYTE])
def test_a_step_has_no_more_fields_than_a_space_has_leaves(size: int, unit: bytes) -> None:
    """However large it is: a server reads it while everybody waits."""
    data = field(4, repeated(3, unit, size))
    with pytest.raises(ProtocolError, match="more than 8,256 fields"):
        read_client(data)
    assert min(cpu_seconds(read_client, data) for _ in range(3)) / slowness() < 0.05
    unknown = b"\x75abcd"  # what the generated class alone reads
    with pytest.raises(ProtocolError, match="a space has 4,096 at most"):
        read_client(field(4, unknown + repeated(3, unit, size)))


@pytest.mark.parametrize("number, part", [(3, 2), (4, 2), (5, 2), (6, 2)])
def test_a_client_names_no_more_environments_than_a_session_has(number: int, part: int) -> None:
    with pytest.raises(ProtocolError, match="environments at most"):
        read_client(field(number, field(part, b"abcd" * (1024 * 1024 + 1))))


def test_too_many_parts_are_refused() -> None:
    with pytest.raises(ProtocolError, match="too many, too small"):
        read_server(field(4, repeated(4)))
    with pytest.raises(ProtocolError, match="too many, too small"):
        read_client(field(2, repeated(5)))


def test_as_many_as_a_session_may_have() -> None:
    """An environment per leaf, value or failure: nothing our own side writes is refused for its number."""
    many = 20_000
    failures = [Failure(index, FailureKind.LOST, "signal 9", "gone") for index in range(many)]
    assert len(read_server(pack_server(Returned(1, None, [b"\xc0"] * many, failures))).failures) == many
    assert len(read_server(pack_server(Transition(1, None, [], failures=failures))).failures) == many
    assert len(read_client(pack_client(Step(1, None, [b""] * 4_096))).actions) == 4_096
    missing = [(1_000 + index, [index]) for index in range(many)]
    assert read_client(pack_client(Attach(b"i", b"t", b"e", 1, missing))).missing == missing


# Spaces


def nested(levels: int) -> space_pb2.Space:
    space = space_pb2.Space(discrete=space_pb2.Discrete())
    for _ in range(levels):
        space = space_pb2.Space(sequence=space_pb2.Sequence(feature=space))
    return space


def wide(count: int) -> space_pb2.Space:
    leaf = space_pb2.Space(discrete=space_pb2.Discrete(dtype="<i8", n=bytes(8), start=bytes(8)))
    return space_pb2.Space(tuple=space_pb2.Tuple(spaces=[leaf] * count))


def test_spaces_are_counted_while_they_are_read() -> None:
    assert len(read_space(wide(MAX_SPACES - 1))["tuple"]["spaces"]) == MAX_SPACES - 1
    with pytest.raises(ProtocolError, match="too many spaces"):
        read_space(wide(MAX_SPACES))


def test_a_deeply_nested_space() -> None:
    assert "sequence" in read_server(field(1, field(6, nested(40).SerializeToString()))).observation_space
    data = b""
    for _ in range(5_000):
        data = field(6, field(1, data))
    with pytest.raises(ProtocolError, match="malformed"):
        read_server(field(1, field(6, data)))


def test_a_shape_of_too_many_dimensions() -> None:
    with pytest.raises(ProtocolError, match="65 dimensions"):
        read_space(space_pb2.Space(multi_binary=space_pb2.MultiBinary(shape=[1] * 65)))


# Wrong kinds of data


@pytest.mark.parametrize(
    "data",
    [
        b"\x22",
        b"\x22\x80",
        b"\x22\x05\x08\x01",  # longer than what there is
        b"\x22\x01\x08\x01",  # shorter
        b"\x22\x02\x08\x01\x22\x02\x08\x01",  # twice
        b"\x32\x02\x08\x01\x22\x02\x08\x01",  # two kinds
        b"\x08\x01",
        b"\xa2\x80\x80\x80\x00\x00",  # the key of a Step in five bytes
        field(4, field(2, b"abc")),  # indices of odd length
        field(6, field(2, b"abc")),
        field(4, b"\x02\x00"),  # field number 0
        field(4, b"\x00\x00"),
        field(4, b"\xff\xff\xff\xff\xff\x00\x00"),
        field(4, b"\x08" + b"\xff" * 10 + b"\x01"),  # a varint of eleven bytes
        field(4, b"\x08" + b"\xff" * 9 + b"\x7f"),  # of 70 bits
        field(4, b"\x1a\x80\x80\x80\x80\x80\x00"),  # a length of six
        field(4, b"\x0c"),  # the end of a group
        field(4, b"\x0b\x08\x01"),  # a group without an end
        field(5, field(3, b"\xff\xfe")),  # no UTF-8
    ],
    ids=bytes.hex,
)
def test_malformed_requests(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_client(data)


@pytest.mark.parametrize(
    "body",
    [
        field(4, b"1234567"),  # rewards
        b"\x21" + bytes(7),
        field(5, b"\x80"),  # flags
        field(8, b"\x1a\x05"),  # a failure that ends too early
        field(2, b"12345"),
    ],
    ids=bytes.hex,
)
def test_malformed_transitions(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_server(field(3, body))


def test_flags_that_are_neither_0_nor_1_are_made_so() -> None:
    usual = Transition(1, None, [b"1234"], np.ones(2), np.array([True, False]), np.zeros(2, np.bool_))
    data = pack_server(usual)
    read_server(data)  # now its layout is remembered
    strange = data.replace(b"\x2a\x02\x01\x00", b"\x2a\x02\x07\x00")
    assert strange != data
    assert bytes(read_server(strange).terminations) == b"\1\0"
    two_bytes = field(3, field(5, b"\x80\x01\x00"))  # the first one is a varint of two bytes
    assert bytes(read_server(two_bytes).terminations) == b"\1\0"


@pytest.mark.parametrize("number", [0, 2**64 - 1, 2**63])
def test_numbers_of_64_bits(number: int) -> None:
    assert read_client(pack_client(Render(number))).number == number
    assert read_client(pack_client(Step(number, None, []))).number == number


@pytest.mark.parametrize("seconds", [math.nan, -1.0, -math.inf])
def test_no_lease(seconds: float) -> None:
    with pytest.raises(ProtocolError, match="a lease of"):
        read_server(pack_server(Attached(1, seconds)))


@pytest.mark.parametrize("seconds", [math.nan, -1.0, math.inf])
def test_no_time(seconds: float) -> None:
    for load in (Load(1, 1, seconds), Load(1, 1, 0.0, 0.0, 0.0, seconds)):
        with pytest.raises(ProtocolError, match="a step's time of"):
            read_server(pack_server(load))
    with pytest.raises(ProtocolError, match="a time between loads of"):
        read_client(pack_client(Open(1, 1, b"n" * 16, 1, load_seconds=seconds)))


def test_layouts_that_are_remembered_hold_little() -> None:
    frames._layouts.clear()
    padded = frames.pack_step(Step(1, None, [b"12345678"]))
    body = padded[6:] + field(15, bytes(MEGABYTE))
    data = b"\x22" + (frames._number(len(body))) + body
    assert len(read_client(data).actions) == 1
    many = b"".join((padded[6:12], field(3, b"1") * (frames._MAX_LEAVES + 1)))
    assert len(read_client(b"\x22" + frames._number(len(many)) + many).actions) == frames._MAX_LEAVES + 1
    assert not frames._layouts
    for size in range(1, 400):
        read_client(frames.pack_step(Step(1, None, [bytes(size)])))
    assert 0 < len(frames._layouts) <= frames._MAX_REMEMBERED


@pytest.mark.parametrize(
    "begins", [b"\x08\x80\x81\x3c\x80\x00", b"\x08\x80\x80\x80\x00\x00", b"\x08\x80\x80\x80\x80\x80"]
)
def test_a_number_of_another_width_is_not_taken_for_a_remembered_one(begins: bytes) -> None:
    whole = frames.pack_step(Step(1, None, []))
    read_client(whole)
    data = whole[:6] + begins
    assert len(data) == len(whole)
    with pytest.raises(ProtocolError):
        read_client(data)


# Text


LONG = "x" * (MAX_NAME_BYTES + 1)
WIDE = "é" * (MAX_NAME_BYTES // 2 + 1)


@pytest.mark.parametrize("name", [LONG, WIDE], ids=["characters", "bytes"])
@pytest.mark.parametrize(
    "message",
    [
        lambda name: Call(1, None, name),
        lambda name: Open(1, 1, b"n" * 16, 1, render_mode=name),
        lambda name: Open(1, 1, b"n" * 16, 1, compression=name),
    ],
)
def test_a_name_that_is_none(message: Callable[[str], Any], name: str) -> None:
    with pytest.raises(ProtocolError, match="longer than 256 bytes"):
        read_client(pack_client(message(name)))
    assert read_client(pack_client(message(LONG[1:])))


def test_a_version_is_cut() -> None:
    assert read_client(pack_client(Open(1, 1, b"n" * 16, 1, client_version="1" * 10**6))).client_version == "1" * 64
    fields = dict.fromkeys(Description.__dataclass_fields__, 0)
    packed = pack_description(Description(**{**fields, "version": "1" * 99, "draining": False, "server_epoch": b""}))
    assert read_description(packed).version == "1" * 64


ODD = "a\ud800"


@pytest.mark.parametrize(
    "message",
    [
        Open(1, 1, b"n" * 16, 1, b"", ODD, client_version=ODD, compression=ODD),
        Call(1, None, ODD),
        Failure(1, FailureKind.RAISED, ODD, ODD, ODD),
        Refused(1, ODD, ODD, Failure(1, FailureKind.RAISED, ODD, ODD, ODD)),
        Lost(ODD, ODD),
        Opened(1, b"", b"", b"", 1.0, {"discrete": {}}, {"discrete": {}}, ODD, b"", ODD, []),
    ],
    ids=lambda message: type(message).__name__,
)
def test_text_that_cannot_travel_is_escaped(message: Any) -> None:
    if isinstance(message, Failure):
        for whole in (Transition(1, None, [], failures=[message]), Returned(1, None, [], [message])):
            (read,) = read_server(pack_server(whole)).failures
            assert (read.type, read.message, read.detail) == ("a\\ud800",) * 3
    else:
        pack, read = (pack_client, read_client) if isinstance(message, (Open, Call)) else (pack_server, read_server)
        assert "a\\\\ud800" in str(read(pack(message)))


# First messages


ATTACH = Attach(b"i" * 16, b"t" * 32, b"e" * 16, 1, [(5, None)])


@pytest.mark.parametrize("message", [Open(1, 1, b"n" * 16, 1, bytes(MAX_KWARGS_BYTES), LONG[1:], compression=LONG[1:]),
                                     ATTACH])  # fmt: skip
def test_a_stream_begins(message: Any) -> None:
    data = pack_client(message)
    assert len(data) <= MAX_FIRST_BYTES and begins_session(data)
    assert read_first(data) == message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        *(pack_client(message) for message in (Reset(1), Step(1, None, []), Call(1, None, "a"), Render(1), Close())),
        pack_client(Fragment(pack_client(ATTACH), True, len(pack_client(ATTACH)))),
    ],
    ids=lambda data: data[:1].hex(),
)
def test_a_stream_does_not_begin(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not begins_session(data)
    monkeypatch.setattr(pb.ClientMessage, "ParseFromString", None)  # it is looked at before anything is parsed
    with pytest.raises(ProtocolError, match="begins with Open or Attach"):
        read_first(data)


def test_a_first_message_that_is_too_large_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack_client(Open(1, 1, b"n" * 16, 1, bytes(MAX_FIRST_BYTES)))
    monkeypatch.setattr(pb.ClientMessage, "ParseFromString", None)
    with pytest.raises(OversizeError, match="the limit is 1,048,576"):
        read_first(data)


def test_a_first_message_that_goes_on_as_another() -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        read_first(pack_client(ATTACH) + pack_client(Close()))


# Fragments and bundles


def test_each_direction_has_its_limit() -> None:
    piece = pack_client(Fragment(b"ab", False, MAX_REQUEST_BYTES + 1))
    with pytest.raises(ProtocolError, match="larger than it says or than 134217728 bytes"):
        Joiner(read_client, MAX_REQUEST_BYTES).feed(piece)
    assert Joiner(read_server).feed(piece) is None
    with pytest.raises(ProtocolError, match="larger"):
        Joiner(read_server).feed(pack_client(Fragment(b"ab", False, MAX_WHOLE_BYTES + 1)))


def test_what_a_joiner_holds() -> None:
    joiner = Joiner(read_client, 100)
    whole = pack_client(Call(1, None, "name", bytes(20)))
    assert joiner.held_bytes == 0
    assert joiner.feed(pack_client(Fragment(whole[:10], False, len(whole)))) is None
    assert joiner.held_bytes == 10
    assert joiner.feed(pack_client(Fragment(whole[10:], True, len(whole)))) == Call(1, None, "name", bytes(20))
    assert joiner.held_bytes == 0


@pytest.mark.parametrize(
    "fragment", [Fragment(b"", False, 10), Fragment(b"", False, 0), Fragment(b"a", False, 0), Fragment(b"", True, 0)]
)
def test_fragments_that_bring_nothing(fragment: Fragment) -> None:
    with pytest.raises(ProtocolError):
        Joiner(read_client).feed(pack_client(fragment))


def test_many_small_fragments() -> None:
    size = 50_000
    pieces = [pack_client(Fragment(b"ab", False, size)) for _ in range(size // 2)]

    def feed(_: bytes) -> None:
        joiner = Joiner(read_client, MAX_REQUEST_BYTES)
        for piece in pieces:
            joiner.feed(piece)

    assert_cheap(feed, b"".join(pieces))


@pytest.mark.parametrize("inner", [Fragment(b"a", True, 1), Bundle([pack_server(Closed())]), Bundle([])])
def test_what_a_bundle_does_not_hold(inner: Any) -> None:
    data = pack_server(Bundle([pack_server(Closed()), pack_server(inner)]))
    with pytest.raises(ProtocolError, match="a bundle holds fragments or bundles"):
        read_server(data)
