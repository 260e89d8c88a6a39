"""Parts of a request and Ctrl-C between two of them."""

from __future__ import annotations

import pytest

from remote_gym.client.unsent import Unsent


class Servers:
    """Takes parts; is interrupted, or fails, before or after the part `at`."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.before: dict[int, BaseException] = {}
        self.after: dict[int, BaseException] = {}
        self.unsent = Unsent(self.send, self.sent.__contains__)

    def send(self, part: int) -> None:
        if part in self.before:
            raise self.before.pop(part)
        self.sent.append(part)
        if part in self.after:
            raise self.after.pop(part)


def test_all_are_sent_once() -> None:
    servers = Servers()
    servers.unsent.send([1, 2, 3], whole=True)
    assert servers.sent == [1, 2, 3] and not servers.unsent.parts


@pytest.mark.parametrize("at", [2, 3])
def test_the_rest_of_what_is_half_sent_follows(at: int) -> None:
    for when in ("before", "after"):
        servers = Servers()
        getattr(servers, when)[at] = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            servers.unsent.send([1, 2, 3], whole=True)
        assert servers.unsent.parts
        servers.unsent.send_rest()
        assert servers.sent == [1, 2, 3] and not servers.unsent.parts


def test_the_rest_may_be_interrupted_too() -> None:
    servers = Servers()
    servers.before[2], servers.after[3] = KeyboardInterrupt(), KeyboardInterrupt()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            servers.unsent.send([1, 2, 3], whole=True) if not servers.sent else servers.unsent.send_rest()
    servers.unsent.send_rest()
    assert servers.sent == [1, 2, 3]


def test_what_was_not_sent_at_all_never_was() -> None:
    servers = Servers()
    servers.before[1] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        servers.unsent.send([1, 2], whole=True)
    assert not servers.unsent.parts


def test_of_what_need_not_be_whole_no_rest_follows() -> None:
    servers = Servers()
    servers.after[1] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        servers.unsent.send([1, 2], whole=False)
    assert servers.sent == [1] and not servers.unsent.parts


def test_an_error_ends_the_sending() -> None:
    servers = Servers()
    servers.before[2] = ValueError("refused")
    with pytest.raises(ValueError, match="refused"):
        servers.unsent.send([1, 2, 3], whole=True)
    assert servers.sent == [1]
    servers.before[3] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        servers.unsent.send([2, 3], whole=True)
    servers.before[3] = ValueError("refused")
    with pytest.raises(ValueError, match="refused"):
        servers.unsent.send_rest()
    assert not servers.unsent.parts
