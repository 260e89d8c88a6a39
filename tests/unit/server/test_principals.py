"""Who a client is: the same name, the same person; and which names nobody can be given."""

from __future__ import annotations

import pytest

from remote_gym.server.principals import ANONYMOUS, MAX_NAME_CHARACTERS, Principal, of_user, unfit


def test_equal_names_are_one_principal() -> None:
    assert Principal("alice") == Principal("alice") != Principal("bob")
    assert len({Principal("alice"), Principal("alice"), ANONYMOUS}) == 2


def test_whatever_has_proved_the_name() -> None:
    shown = Principal("alice", b"token"), Principal("alice", fingerprint=b"old"), Principal("alice", fingerprint=b"new")
    assert len(set(shown)) == 1
    assert "token" not in repr(shown[0])


@pytest.mark.parametrize("name", ["alice", "remote-gym client", "spiffe://lab/alice", "Anonymous", "uid", "zoë"])
def test_names_that_a_certificate_may_give(name: str) -> None:
    assert unfit(name) is None


@pytest.mark.parametrize(
    "name",
    [ANONYMOUS.name, of_user(0).name, of_user(1000).name, "uid:x", "", " a", "a ", "a\0b", "a\nb", "\x1b[31m",
     "a" * (MAX_NAME_CHARACTERS + 1)],
)  # fmt: skip
def test_names_that_none_may_give(name: str) -> None:
    assert unfit(name) is not None
