"""Who shares workers with whom."""

from __future__ import annotations

from typing import get_args

import pytest

from remote_gym.pool import WARM_SECONDS
from remote_gym.server.isolation import ISOLATIONS, Isolation, tenant_of, warm_seconds


@pytest.mark.parametrize(
    ("isolation", "expected"), [("shared", [True, True]), ("principal", [True, False]), ("session", [False, False])]
)
def test_who_shares_workers(isolation: Isolation, expected: list[bool]) -> None:
    one, own, other = (tenant_of(isolation, name, session) for name, session in (("a", b"1"), ("a", b"2"), ("b", b"3")))
    assert [one == own, one == other] == expected


def test_a_session_never_comes_back() -> None:
    assert [warm_seconds(isolation) for isolation in ("principal", "session", "shared")] == [
        WARM_SECONDS,
        0.0,
        WARM_SECONDS,
    ]


def test_every_isolation_is_in_the_list() -> None:
    assert get_args(Isolation) == ISOLATIONS
