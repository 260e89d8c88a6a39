"""What one carrier brings -> whole messages: pieces joined, bundles opened, and an end to floods."""

from __future__ import annotations

from typing import Any

import pytest
from faking import transition

from remote_gym import ProtocolError
from remote_gym.client.session import assembly as module
from remote_gym.client.session.assembly import MAX_BUNDLED, Assembly
from remote_gym.messages import Attached, Bundle, Closed, Fragment, Transition
from remote_gym.wire.codec import pack_server, read_server

ONE = pack_server(transition(7))


def pieces(data: bytes, count: int) -> list[Fragment]:
    size = -(-len(data) // count)
    starts = range(0, len(data), size)
    return [Fragment(data[at : at + size], at == starts[-1], len(data)) for at in starts]


def numbers(messages: Any) -> list[int]:
    return [message.number for message in messages]


def test_a_whole_message_is_passed_on() -> None:
    message = read_server(ONE)
    assert list(Assembly().feed(message)) == [message]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_pieces_are_joined(count: int) -> None:
    assembly = Assembly()
    *first, last = pieces(ONE, count)
    for at, piece in enumerate(first, 1):
        assert list(assembly.feed(piece)) == [] and assembly.pieces == at
    (whole,) = assembly.feed(last)
    assert isinstance(whole, Transition) and whole.number == 7
    assert assembly.pieces == 0
    assert list(assembly.feed(Closed())) == [Closed()]


def test_a_bundle_is_opened_in_order_also_one_in_pieces() -> None:
    bundle = Bundle([pack_server(transition(number, [0])) for number in (3, 1, 2)])
    assert numbers(Assembly().feed(bundle)) == [3, 1, 2]
    assembly = Assembly()
    assert [numbers(assembly.feed(piece)) for piece in pieces(pack_server(bundle), 2)] == [[], [3, 1, 2]]


def test_what_comes_before_a_damaged_message_of_a_bundle_is_not_lost() -> None:
    messages = Assembly().feed(Bundle([ONE, b"\xff"]))
    assert next(messages).number == 7  # type: ignore[union-attr]
    with pytest.raises(ProtocolError):
        next(messages)


@pytest.mark.parametrize(
    "inner", [pack_server(Fragment(ONE, True, len(ONE))), pack_server(Bundle([ONE])), b"\xff", b"\x08"]
)
def test_what_may_not_be_in_a_bundle(inner: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(Assembly().feed(Bundle([inner])))


@pytest.mark.parametrize("count", [0, MAX_BUNDLED + 1])
def test_a_bundle_holds_some_messages_and_not_any_number(count: int) -> None:
    with pytest.raises(ProtocolError, match=f"a bundle of {count} messages"):
        list(Assembly().feed(Bundle([b""] * count)))


def test_nothing_comes_in_between_two_pieces() -> None:
    assembly = Assembly()
    list(assembly.feed(pieces(ONE, 2)[0]))
    with pytest.raises(ProtocolError, match="in between"):
        list(assembly.feed(Attached(1, 1.0)))


def test_there_is_an_end_to_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PIECES", 3)
    assembly = Assembly()
    for _ in range(3):
        assert list(assembly.feed(Fragment(b"x", False, 100))) == []
    with pytest.raises(ProtocolError, match="more fragments than any message has"):
        list(assembly.feed(Fragment(b"x", False, 100)))


@pytest.mark.parametrize(
    "fragment",
    [Fragment(b"", False, 9), Fragment(b"123", True, 2), Fragment(b"\xff", True, 1), Fragment(b"1", False, 2**40)],
)
def test_pieces_that_do_not_fit(fragment: Fragment) -> None:
    with pytest.raises(ProtocolError):
        list(Assembly().feed(fragment))
