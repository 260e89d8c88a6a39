"""What a vector environment tells of its servers, on fake ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faking import FakeConnection, faked

from remote_gym import MisuseError, RemoteVectorEnv

Made = tuple[RemoteVectorEnv, list[FakeConnection]]


@pytest.fixture
def made() -> Iterator[Made]:
    envs = RemoteVectorEnv("localhost:1", num_envs=5)
    servers = faked(envs._remote, 2, 3)
    yield envs, servers
    for server in servers:
        server.close()


def test_it_tells_where_rows_are(made: Made) -> None:
    envs, _ = made
    assert [block[1:3] for block in envs.fleet] == [(range(2), "there"), (range(2, 5), "there")]
    assert envs.statistics()["rows"] == 5


def test_nothing_is_dialled_to_tell_it() -> None:
    envs = RemoteVectorEnv("localhost:1", num_envs=5)
    assert envs.fleet == ()
    assert envs.statistics()["rows"] == 0


def test_only_who_may_move_is_rebalanced(made: Made) -> None:
    with pytest.raises(MisuseError, match="on_session_lost='move'"):
        made[0].rebalance()


@pytest.mark.parametrize("arguments", [{"rows": [0, 0]}, {"rows": [5]}, {"fps": 0.0}])
def test_what_to_watch_is_checked_first(made: Made, arguments: dict[str, float]) -> None:
    with pytest.raises(MisuseError, match=r"rows|fps"):
        made[0].watch(**arguments)
