"""Who finds new servers: on real ones, which are full, differ, are slow, gone, or come later."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ServerFactory
from helpers import settings, wait_until

from remote_gym import SessionLost
from remote_gym.client.fleet import Fleet
from remote_gym.client.hosted import Hosted
from remote_gym.client.moving import Mover

PATIENCE = 60.0


class Stage:
    """A fleet of 4 environments, and the addresses that its source gives."""

    def __init__(self, *addresses: str, **options: Any) -> None:
        self.addresses = list(addresses)
        options = {"on_session_lost": "move", "move_timeout_seconds": 2.0, "num_envs": 4, **options}
        self.settings = settings(url=lambda: self.addresses, **options)
        self.fleet = Fleet([], 4, find=lambda: [Hosted(self.settings, one) for one in self.settings.find()])
        self.fleet.dial()
        self.mover = Mover(self.settings, self.fleet)

    def lose(self, at: int = 0) -> range:
        """Lose what one shard has."""
        shard = self.fleet.shards[at]
        rows = range(shard.first, shard.stop)
        self.fleet.remove(shard)
        self.mover.lose(rows, shard.hosted, "it was told to go")
        return rows

    def adopt(self, rows: range, count: int | None = None) -> list[tuple[str, range]]:
        """Return where these rows, or `count` of them, are once they are."""
        found: dict[int, str] = {}
        while len(found) < (len(rows) if count is None else count):
            wait_until(self.mover.has_news, PATIENCE, "news of the mover")
            self.mover.check()
            moved = self.mover.peek()
            assert moved is not None
            shard = self.fleet.adopt(moved)
            self.mover.took(moved)
            for row in range(shard.first, shard.stop):
                assert row not in found, "once"
                found[row] = str(shard.hosted.address)
        assert found.keys() <= set(rows)
        return [tuple(block)[:2] for block in self.fleet.blocks() if block.rows.start in rows]  # type: ignore[misc]


Make = Callable[..., Stage]


@pytest.fixture
def make() -> Iterator[Make]:
    stages: list[Stage] = []

    def made(*addresses: str, **options: Any) -> Stage:
        stages.append(Stage(*addresses, **options))
        return stages[-1]

    yield made
    for stage in stages:
        stage.mover.close()
        stage.fleet.close()


def server(serve: ServerFactory, entrypoint: str = "CartPole-v1", **options: Any) -> str:
    return serve(entrypoint, **{"num_workers": 1, **options}).address


def no_mover_left() -> bool:
    return not any(thread.name == "remote_gym mover" for thread in threading.enumerate())


def test_the_others_share_what_was_lost(serve: ServerFactory, make: Make) -> None:
    first, second, third = (server(serve) for _ in range(3))
    stage = make(first, second, third, num_envs=4)
    lost = str(stage.fleet.shards[0].hosted.address)
    stage.addresses.remove(lost)
    rows = stage.lose()
    assert lost == first and rows == range(2)
    assert stage.adopt(rows) == [(second, range(1)), (third, range(1, 2))]
    wait_until(no_mover_left, PATIENCE)


def test_the_source_is_asked_anew(serve: ServerFactory, make: Make) -> None:
    stage = make(server(serve))
    stage.addresses[:] = [joined := server(serve)]
    assert stage.adopt(stage.lose()) == [(joined, range(4))]


def test_a_server_that_differs_or_is_full_is_left_for_others(serve: ServerFactory, make: Make) -> None:
    stage = make(server(serve))
    other, full = server(serve, "Pendulum-v1", num_workers=8), server(serve, max_envs=1, num_workers=8)
    stage.addresses[:] = [other, full]
    rows = stage.lose()
    wait_until(
        lambda: other in stage.mover._scout.known and "differs" in stage.mover._scout.known[other].said, PATIENCE
    )
    stage.addresses.append(good := server(serve))
    assert {name for name, _ in stage.adopt(rows)} <= {good, full}
    assert sum(len(block.rows) for block in stage.fleet.blocks() if block.address == full) <= 1


def test_nobody_is_there_for_too_long(serve: ServerFactory, make: Make) -> None:
    stage = make(server(serve), reconnect_timeout_seconds=0.5)
    stage.addresses[:] = ["127.0.0.1:1"]
    rows = stage.lose()
    wait_until(stage.mover.has_news, PATIENCE)
    with pytest.raises(SessionLost, match=r"no server took 4 environments for 0\.5 s; .*before: it was told to go"):
        stage.mover.check()
    stage.addresses[:] = [joined := server(serve)]
    wait_until(lambda: stage.mover.peek() is not None, PATIENCE)
    assert stage.adopt(rows) == [(joined, range(4))]
    stage.mover.check()


def test_fewer_may_be_enough(serve: ServerFactory, make: Make) -> None:
    first, second = server(serve), server(serve)
    stage = make(first, second, reconnect_timeout_seconds=0.2, min_envs=2)
    stage.addresses[:] = []
    stage.lose()
    time.sleep(1.0)  # more than the timeout: nothing is to come
    assert not stage.mover.has_news()
    stage.lose()
    wait_until(stage.mover.has_news, PATIENCE)
    with pytest.raises(SessionLost, match="no server took 4 environments"):
        stage.mover.check()


def test_lost_twice_is_lost_once(serve: ServerFactory, make: Make) -> None:
    stage = make(server(serve))
    shard = stage.fleet.shards[0]
    rows = stage.lose()
    for _ in range(3):
        stage.mover.lose(rows, shard.hosted, "again")
    stage.adopt(rows)
    wait_until(no_mover_left, PATIENCE)
    assert not stage.mover.has_news() and len(stage.fleet.shards) == 1


def test_closing_ends_what_is_just_being_opened(serve: ServerFactory, make: Make, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time, gymnasium, pathlib\n"
        "def create_environment():\n"
        f"    if pathlib.Path({str(tmp_path / 'be-slow')!r}).exists():\n"
        "        time.sleep(30)\n"
        "    return gymnasium.make('CartPole-v1')\n"
    )
    stage = make(server(serve, str(tmp_path / "slow.py")))
    (tmp_path / "be-slow").touch()
    stage.lose()
    wait_until(lambda: stage.mover._building, PATIENCE, "it is being built")
    began = time.monotonic()
    stage.mover.close()
    assert time.monotonic() - began < 5
    wait_until(no_mover_left, PATIENCE)
    wait_until(lambda: not stage.mover._building, PATIENCE, "who builds has ended")
    assert not stage.mover.has_news()
    stage.mover.close()


def test_what_is_lost_as_soon_as_it_is_there_is_moved_again(serve: ServerFactory, make: Make) -> None:
    stage = make(server(serve))
    rows = stage.lose()
    wait_until(stage.mover.has_news, PATIENCE)
    moved = stage.mover.peek()
    assert moved is not None
    shard = stage.fleet.adopt(moved)
    stage.mover.lose(rows, shard.hosted, "again")
    stage.fleet.remove(shard)
    stage.mover.took(moved)
    stage.adopt(rows)
    assert [block.rows for block in stage.fleet.blocks()] == [range(4)]


def test_no_thread_to_be_had(serve: ServerFactory, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make(server(serve))
    start, refused = threading.Thread.start, threading.Event()

    def refusing(thread: threading.Thread) -> None:
        if thread.name == "remote_gym move" and not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)
    assert stage.adopt(stage.lose()) == [(str(stage.addresses[0]), range(4))] and refused.is_set()


def test_a_server_with_a_limit_of_its_own_is_asked_for_less(serve: ServerFactory, make: Make) -> None:
    stage = make(server(serve))
    limited = server(serve, limits={"anonymous": {"envs": 3}})
    stage.addresses[:] = [limited]
    placed = stage.adopt(rows := stage.lose(), 3)
    assert sum(len(block) for _, block in placed) == 3 and {name for name, _ in placed} == {limited}
    wait_until(lambda: "limit of 3" in stage.mover._scout.known[limited].said, PATIENCE)
    stage.addresses.append(other := server(serve))
    stage.adopt(rows, 1)
    assert sum(len(block.rows) for block in stage.fleet.blocks() if block.address == other) == 1


# Rows that have a server, and are to leave it


def leaving(stage: Stage, count: int) -> dict[str, list[int]]:
    """Adopt what arrives until so many rows are to leave; return which, by where they go."""
    while len(stage.fleet.layout.leaving) < count:
        wait_until(stage.mover.has_news, PATIENCE, "news of the mover")
        moved = stage.mover.peek()
        assert moved is not None
        stage.fleet.adopt(moved)
        stage.mover.took(moved)
    found: dict[str, list[int]] = {}
    for row, shard in sorted(stage.fleet.layout.leaving.items()):
        assert shard.reason
        found.setdefault(shard.name, []).append(row)
    return found


def test_who_joins_gets_a_share(serve: ServerFactory, make: Make) -> None:
    first, second = server(serve), server(serve)
    stage = make(first, second, num_envs=4)
    stage.mover.balance()
    wait_until(no_mover_left, PATIENCE)
    assert not stage.mover.has_news(), "they are balanced"
    stage.addresses.append(third := server(serve, num_workers=2))
    stage.mover.balance()
    assert leaving(stage, 2) == {third: [1, 2]}, "side by side, and so in one session"
    wait_until(no_mover_left, PATIENCE)
    stage.mover.balance()
    wait_until(no_mover_left, PATIENCE)
    assert not stage.mover.has_news(), "who is to leave counts where he goes"


def test_who_is_named_no_longer_gives_all_away(serve: ServerFactory, make: Make) -> None:
    first, second = server(serve), server(serve)
    stage = make(first, second, num_envs=4)
    stage.addresses.remove(first)
    stage.mover.balance()
    assert leaving(stage, 2) == {second: [0, 1]}


def test_who_does_not_answer_just_now_keeps_what_it_has(serve: ServerFactory, make: Make) -> None:
    first, second = server(serve), server(serve)
    stage = make(first, second, num_envs=4)
    stage.mover._scout.note(first, RuntimeError("not now"))
    stage.mover._scout.known[first].avoided_until = time.monotonic() + PATIENCE
    stage.addresses.append(third := server(serve))
    stage.mover.balance()
    assert leaving(stage, 1) == {third: [3]}


def test_who_joins_is_found(serve: ServerFactory, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remote_gym.client.moving.LOOK_SECONDS", 0.2)
    stage = make(server(serve), rebalance=True)
    stage.addresses.append(second := server(serve))
    assert leaving(stage, 2) == {second: [2, 3]}
    assert not no_mover_left(), "there may be more of them"
    stage.mover.close()
    wait_until(no_mover_left, PATIENCE)


def test_who_cannot_build_gets_nobody(serve: ServerFactory, make: Make) -> None:
    stage = make(server(serve))
    stage.addresses += [server(serve, "Pendulum-v1"), good := server(serve)]
    stage.mover.balance()
    assert leaving(stage, 2) == {good: [2, 3]}


def test_who_is_going_away_gives_all_away(serve: ServerFactory, make: Make) -> None:
    going, staying = serve("CartPole-v1", num_workers=1), server(serve)
    stage = make(going.address, staying, num_envs=4)
    stopping = threading.Thread(target=going.stop, kwargs={"handover": PATIENCE})
    stopping.start()
    assert leaving(stage, 2) == {staying: [0, 1]}
    wait_until(no_mover_left, PATIENCE)
    assert not stage.mover.has_news()
    stage.fleet.hand_over([0, 1])
    stage.fleet.dismiss()
    stopping.join(PATIENCE)
    assert not stopping.is_alive(), "it ends with its last session"
    assert [tuple(block)[:2] for block in stage.fleet.blocks()] == [(staying, range(2)), (staying, range(2, 4))]


def test_whose_server_is_lost_meanwhile_is_at_home_where_it_was_to_go(serve: ServerFactory, make: Make) -> None:
    first = server(serve)
    stage = make(first)
    stage.addresses[:] = [second := server(serve)]
    stage.mover.balance()
    wait_until(stage.mover.has_news, PATIENCE)
    rows = range(4)
    stage.lose()
    assert stage.adopt(rows) == [(second, rows)] and not stage.fleet.layout.leaving
    wait_until(no_mover_left, PATIENCE)
    assert not stage.mover.has_news(), "once"


def test_what_was_to_take_rows_is_lost(serve: ServerFactory, make: Make) -> None:
    stage = make(server(serve))
    stage.addresses += [second := server(serve), third := server(serve)]
    stage.mover.balance()
    assert leaving(stage, 2).keys() == {second, third}
    lost = next(shard for shard in stage.fleet.shards if shard.name == second)
    stage.addresses.remove(second)
    stage.fleet.remove(lost)
    stage.mover.lose((), lost.hosted, "it is gone")
    assert leaving(stage, 2) == {third: [2, 3]}, "the others share what it was to have"


def test_a_mover_that_nobody_has_does_not_outlive_its_fleet(serve: ServerFactory, make: Make) -> None:
    stage = make(server(serve))
    session = stage.fleet.shards[0].session
    stage.mover.close()
    mover = weakref.ref(stage.mover)
    del stage.mover
    gc.collect()
    assert mover() is None
    session._protocol.on_draining()  # type: ignore[misc]
    stage.mover = Mover(stage.settings, stage.fleet)
