"""Who a client is: the same name, the same person."""

from __future__ import annotations

from remote_gym.server.principals import ANONYMOUS, Principal


def test_equal_names_are_one_principal() -> None:
    assert Principal("alice") == Principal("alice") != Principal("bob")
    assert len({Principal("alice"), Principal("alice"), ANONYMOUS}) == 2
