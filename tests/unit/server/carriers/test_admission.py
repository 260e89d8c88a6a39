"""Who is let in, and who has to go for it."""

from __future__ import annotations

import pytest

from remote_gym.server.carriers.admission import SILENT_IN_ALL, Admission, Visitor, peer_key, peer_name


def come(admission: Admission, peer: str) -> Visitor:
    visitor = Visitor(admission, peer, lambda: None)
    assert admission.admit(visitor)
    return visitor


def test_the_oldest_silent_one_of_a_peer_gives_way() -> None:
    admission = Admission(None, silent_per_peer=2)
    others = come(admission, "ipv4:10.0.0.2:1")
    first, second, third = (come(admission, f"ipv4:10.0.0.1:{port}") for port in range(3))
    assert [visitor.has_left for visitor in (others, first, second, third)] == [False, True, False, False]
    second.spoke()
    come(admission, "ipv4:10.0.0.1:4")
    assert not second.has_left and not third.has_left
    assert admission.silent == 3


def test_many_peers_together_have_a_limit_as_well() -> None:
    admission = Admission(None)
    first, *_ = [come(admission, f"ipv4:10.0.{number // 256}.{number % 256}:1") for number in range(SILENT_IN_ALL)]
    assert not first.has_left
    come(admission, "ipv4:10.1.0.0:1")
    assert first.has_left
    assert admission.silent == SILENT_IN_ALL


def test_who_has_spoken_is_never_sent_away() -> None:
    admission = Admission(3)
    spoken, silent = come(admission, "ipv4:10.0.0.1:1"), come(admission, "ipv4:10.0.0.1:2")
    spoken.spoke()
    spoken.spoke()
    third = come(admission, "ipv4:10.0.0.3:1")
    third.spoke()
    fourth = come(admission, "ipv4:10.0.0.4:1")
    assert silent.has_left and not spoken.has_left
    fourth.spoke()
    assert not admission.admit(Visitor(admission, "ipv4:10.0.0.5:1", lambda: None))
    assert (admission.descriptors, admission.silent) == (3, 0)
    fourth.leave()
    fourth.leave()
    come(admission, "ipv4:10.0.0.5:1")
    assert admission.descriptors == 3


def test_what_is_passed_through_counts_for_what_it_takes() -> None:
    admission = Admission(5)
    closed: list[str] = []
    first = Visitor(admission, "unix:", lambda: closed.append("first"))
    assert admission.admit(first) and first.widen(2)
    second = Visitor(admission, "unix:", lambda: closed.append("second"))
    assert admission.admit(second) and second.widen(2)
    assert closed == ["first"]
    assert admission.descriptors == 3
    second.spoke()
    third = come(admission, "unix:")
    assert not third.widen(2)
    third.leave()
    assert not third.widen(1)
    assert admission.descriptors == 3
    second.leave()
    assert admission.descriptors == 0
    assert not admission.make_room()


@pytest.mark.parametrize(
    ("address", "name", "key"),
    [
        (("127.0.0.1", 5), "ipv4:127.0.0.1:5", b"ipv4:127.0.0.1"),
        (("::ffff:10.0.0.1", 5, 0, 0), "ipv4:10.0.0.1:5", b"ipv4:10.0.0.1"),
        (("::1", 5, 0, 0), "ipv6:[::1]:5", bytes(8)),
        (("2001:db8::1%lo", 5, 0, 1), "ipv6:[2001:db8::1%lo]:5", b"\x20\x01\x0d\xb8\0\0\0\0"),
        ("", "unix:", b"unix"),
        (b"\0name", "unix:", b"unix"),
    ],
)
def test_peers_are_named_as_grpc_does(address: object, name: str, key: bytes) -> None:
    assert peer_name(address) == name
    assert peer_key(name) == key
