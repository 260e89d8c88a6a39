"""Who is let in, and who has to go for it."""

from __future__ import annotations

import os

import pytest

from remote_gym.server.carriers import admission as module
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
    fourth = come(admission, "ipv4:10.0.0.1:4")
    assert third.has_left and not second.has_left, "who has spoken goes last"
    second.begin_session()
    come(admission, "ipv4:10.0.0.1:5")
    assert not fourth.has_left, "a session is no reason to go, nor for others to"
    fourth.spoke()
    second.end_session()
    assert (admission.silent, admission.idle) == (2, 2)


def test_of_a_peer_that_has_only_idle_ones_the_oldest_goes() -> None:
    admission = Admission(None, silent_per_peer=2)
    first, second = (come(admission, f"ipv4:10.0.0.1:{port}") for port in range(2))
    first.spoke()
    second.spoke()
    come(admission, "ipv4:10.0.0.1:3")
    assert first.has_left and not second.has_left


def test_many_peers_together_have_a_limit_as_well() -> None:
    admission = Admission(None)
    first, *_ = [come(admission, f"ipv4:10.0.{number // 256}.{number % 256}:1") for number in range(SILENT_IN_ALL)]
    assert not first.has_left
    come(admission, "ipv4:10.1.0.0:1")
    assert first.has_left
    assert admission.silent == SILENT_IN_ALL


def test_who_has_a_session_is_never_sent_away() -> None:
    admission = Admission(3)
    holding, silent = come(admission, "ipv4:10.0.0.1:1"), come(admission, "ipv4:10.0.0.1:2")
    holding.begin_session()
    third = come(admission, "ipv4:10.0.0.3:1")
    third.begin_session()
    fourth = come(admission, "ipv4:10.0.0.4:1")
    assert silent.has_left and not holding.has_left
    fourth.spoke()
    fourth.spoke()
    fifth = come(admission, "ipv4:10.0.0.5:1")
    assert fourth.has_left, "it has said what it wants, and no more"
    fifth.begin_session()
    assert not admission.admit(Visitor(admission, "ipv4:10.0.0.6:1", lambda: None))
    assert (admission.descriptors, admission.silent, admission.idle) == (3, 0, 0)
    fifth.leave()
    fifth.leave()
    fifth.end_session()
    assert admission.idle == 0
    come(admission, "ipv4:10.0.0.5:1")
    assert admission.descriptors == 3


def test_who_has_ended_its_last_session_may_be_sent_away() -> None:
    admission = Admission(1)
    first = come(admission, "ipv4:10.0.0.1:1")
    first.begin_session()
    first.begin_session()
    first.end_session()
    assert not admission.admit(Visitor(admission, "ipv4:10.0.0.2:1", lambda: None))
    first.end_session()
    come(admission, "ipv4:10.0.0.2:1")
    assert first.has_left


def test_room_is_kept_for_peers_that_have_had_a_session_and_for_the_owner() -> None:
    admission = Admission(16)  # two of which are kept
    ours = come(admission, "ipv4:10.0.0.1:1")
    ours.begin_session()
    ours.got_session()
    ours.leave()
    for number in range(14):
        come(admission, f"ipv4:10.0.1.{number}:1").begin_session()
    assert not admission.admit(Visitor(admission, "ipv4:10.0.2.0:1", lambda: None))
    assert admission.admit(Visitor(admission, "ipv4:10.0.0.1:2", lambda: None)), "it comes back"
    owner = Visitor(admission, "unix:", lambda: None)
    owner.uid = os.geteuid()
    assert admission.admit(owner)
    assert admission.descriptors == 16


def test_not_all_peers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KNOWN", 2)
    admission = Admission(None)
    for number in (0, 1, 0, 2):
        come(admission, f"ipv4:10.0.0.{number}:1").got_session()
    assert [*admission._known] == [b"ipv4:10.0.0.0", b"ipv4:10.0.0.2"]


def test_what_is_passed_through_counts_for_what_it_takes() -> None:
    admission = Admission(5)
    closed: list[str] = []
    first = Visitor(admission, "unix:", lambda: closed.append("first"))
    assert admission.admit(first) and first.widen(2)
    second = Visitor(admission, "unix:", lambda: closed.append("second"))
    assert admission.admit(second) and second.widen(2)
    assert closed == ["first"]
    assert admission.descriptors == 3
    second.begin_session()
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
