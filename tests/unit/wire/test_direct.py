"""What the direct carrier puts around messages."""

from __future__ import annotations

import pytest

from remote_gym.errors import ProtocolError
from remote_gym.wire import direct
from remote_gym.wire import session_pb2 as pb
from remote_gym.wire.direct import Ended, Hello
from remote_gym.wire.limits import MAX_MESSAGE_BYTES


def unframed(frame: bytes) -> tuple[int, bytes]:
    (length,) = direct.HEADER.unpack_from(frame)
    return length, frame[direct.HEADER.size :]


def test_a_frame_is_its_length_and_its_bytes() -> None:
    assert direct.framed(b"abc") == b"\x03\x00\x00\x00abc"
    assert direct.framed(b"") == direct.PING


def test_the_magic_is_the_alpn_protocol_on_a_line() -> None:
    assert direct.ALPN.encode() + b"\n" == direct.MAGIC


def test_a_hello_comes_back_as_it_was() -> None:
    hello = Hello(1, 3, "1.2.3", b"e" * 16, "secret")
    length, data = unframed(direct.pack_hello(hello))
    assert length == len(data)
    assert direct.read_hello(data) == hello
    assert "secret" not in repr(hello)


def test_a_hello_is_what_any_protobuf_reads() -> None:
    _, data = unframed(direct.pack_hello(Hello(server_epoch=b"x")))
    said = pb.Hello.FromString(data)
    assert (said.protocol_min, said.protocol_max, said.server_epoch) == (1, 1, b"x")


def test_a_version_is_cut() -> None:
    data = pb.Hello(version="v" * 3_000).SerializeToString()
    assert len(direct.read_hello(data).version) == 64


def test_a_version_that_no_utf8_holds_travels_as_its_escape() -> None:
    _, data = unframed(direct.pack_hello(Hello(version="\ud800")))
    assert direct.read_hello(data).version == "\\ud800"


def test_an_end_is_marked_and_comes_back() -> None:
    ended = Ended(3, "no message")
    length, data = unframed(direct.pack_ended(ended))
    assert length == direct.LAST | len(data)
    assert direct.read_ended(data) == ended


@pytest.mark.parametrize("detail", ["x" * 100_000, "\U0001f600" * 100_000, "\ud800" * 100_000])
def test_whatever_the_text_an_end_fits(detail: str) -> None:
    length, data = unframed(direct.pack_ended(Ended(13, detail)))
    assert length & ~direct.LAST == len(data) <= direct.MAX_CONTROL_BYTES
    assert direct.read_ended(data).code == 13


@pytest.mark.parametrize("read", [direct.read_hello, direct.read_ended])
def test_garbage_is_refused(read: object) -> None:
    for data in (b"\xff" * 20, b"\x08", bytes(direct.MAX_CONTROL_BYTES + 1)):
        with pytest.raises(ProtocolError):
            read(data)  # type: ignore[operator]


def test_no_frame_is_longer_than_a_message() -> None:
    assert direct.check_length(MAX_MESSAGE_BYTES) == MAX_MESSAGE_BYTES
    with pytest.raises(ProtocolError, match="a frame of 67,108,865 bytes"):
        direct.check_length(MAX_MESSAGE_BYTES + 1)
