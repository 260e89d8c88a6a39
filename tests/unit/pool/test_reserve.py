"""Descriptors that are held back for the workers in place of dead ones."""

from __future__ import annotations

import itertools
import os
import resource
from collections.abc import Iterator

import pytest

from remote_gym.pool.reserve import BALLAST, Ballast, check_descriptors, connection_limit


def held() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def few() -> Iterator[None]:
    """This process may open just a few more: the limit is on the numbers of descriptors, some of which are free."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = set(map(int, os.listdir("/proc/self/fd")))
    ninth_free = next(itertools.islice((number for number in itertools.count() if number not in taken), 8, None))
    resource.setrlimit(resource.RLIMIT_NOFILE, (ninth_free, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ballast_is_held_given_and_taken_back() -> None:
    before, ballast = held(), Ballast()
    ballast.fill()
    ballast.fill()
    assert held() == before + BALLAST
    with ballast.released():
        assert held() == before
    assert held() == before + BALLAST
    ballast.drop()
    ballast.drop()
    assert held() == before


def test_where_there_are_few_it_holds_what_there_is(few: None) -> None:
    ballast = Ballast()
    ballast.fill()
    ballast.drop()
    os.close(os.open(os.devnull, os.O_RDONLY))


def test_a_session_would_take_the_last(few: None) -> None:
    before = held()
    with pytest.raises(OSError):
        check_descriptors()
    assert held() == before


def test_there_is_room_otherwise() -> None:
    before = held()
    check_descriptors()
    assert held() == before


def test_half_of_what_may_be_opened_is_for_connections() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert connection_limit() == (None if soft == resource.RLIM_INFINITY else soft // 2)
