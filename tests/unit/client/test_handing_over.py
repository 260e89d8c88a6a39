"""What becomes of rows that leave for another server: the table of docs/how-to/fleet.md, on fake carriers."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from faking import ADDRESS, FakeConnection
from fleet_stage import DISABLED, NEXT_STEP, SAME_STEP, Stage, fresh, mode_of, truncated
from helpers import wait_until

from remote_gym import TimedOut, values
from remote_gym.client.exchange import Exchange
from remote_gym.info_blocks import pack_infos
from remote_gym.messages import Failure, FailureKind, Lost, Refused, Reset, Step

WHY = "the shares were brought into proportion"


def ends(rows: int, over: Any, first: int = 0) -> dict[str, Any]:
    """Return what answers a step of so many rows, of which those at `over` end their episodes."""
    flags = np.zeros(rows, np.bool_)
    flags[list(over)] = True
    infos = [{"final_obs": np.full(2, 7, np.float32), "final_info": {"last": at}, "begun": 1} for at in over]
    packed = pack_infos([first + at for at in over], infos)
    said = [values.pack([packed, None, None, None])] if over else []
    return {"terminations": flags.tobytes(), "rewards": np.full(rows, 2.0).tobytes(), "infos": said}


def leave(stage: Stage, first: int = 3, count: int = 2) -> FakeConnection:
    """Let rows, of the second server, be about to leave: a session is ready for them, and a step has passed."""
    new = stage.arrive(first, count, WHY)
    stage.step()
    for server in stage.servers[:2]:
        server.answer()
    stage.rows(range(5))
    assert stage.fleet.layout.leaving.keys() == set(range(first, first + count)) and not new.session.highest
    return new


def end(stage: Stage, *rows: int) -> dict[int, tuple[Any, Any, int]]:
    """Let episodes of the second server's rows end; return what has come by then."""
    stage.step()
    stage.servers[0].answer()
    over = [row - 2 for row in rows]
    infos = ends(3, over) if mode_of(stage) is SAME_STEP else {**ends(3, over), "infos": []}
    stage.servers[1].answer(**infos)
    moving = rows if mode_of(stage) is SAME_STEP else ()
    found = stage.rows([row for row in range(5) if row not in moving])
    while moving and not stage.fleet.layout.leaving.keys().isdisjoint(moving):
        with contextlib.suppress(TimedOut):  # an answer of which nothing is left
            assert not any(part.indices for part in stage.exchange.receive(0.05))
            stage.exchange.took()
    return found


def seeds_of(request: Any) -> list[int | None]:
    return values.unpack(request.seeds, "seeds")  # type: ignore[no-any-return]


def told(found: dict[int, tuple[Any, Any, int]], row: int) -> dict[str, Any]:
    return found[row][0]["remote_gym"]  # type: ignore[no-any-return]


def test_a_row_leaves_where_its_next_episode_begins(stage: Stage) -> None:
    new, mode = leave(stage), mode_of(stage)
    before = end(stage, 4)
    if mode is NEXT_STEP:
        stage.step()
        stage.servers[0].answer()
        assert stage.servers[1].answer().indices == [0, 1], "row 4 has left, and is never asked for there again"
    elif mode is DISABLED:
        assert not new.session.highest
        stage.reset([4])
    request = new.answer()
    assert isinstance(request, Reset) and request.indices == [1] and seeds_of(request) == [fresh(4)]
    found = stage.rows(range(5) if mode is NEXT_STEP else [4])
    assert told(found, 4) == {"lost": False, "reason": WHY, "generation": 1, "address": str(ADDRESS)}
    assert not before.get(3, ({},))[0] and not truncated(found, 4)
    _, part, at = found[4]
    if mode is SAME_STEP:
        assert part.rewards[at] == 2.0 and part.terminations[at], "what has ended is told by who has ended it"
        note = found[4][0]
        assert note["final_obs"].tolist() == [7.0, 7.0] and note["final_info"] == {"last": 2} and "begun" not in note
        assert all(row != 4 for _, one, _ in before.values() for block in one.blocks for row in block.indices)
    else:
        assert part.rewards is None and part.terminations is None
    stage.step()
    stage.servers[0].answer()
    assert (
        stage.servers[1].answer().indices == [0, 1] and isinstance(step := new.answer(), Step) and step.indices == [1]
    )
    assert all(note == {} for note, *_ in stage.rows(range(5)).values())
    assert not stage.exchange.busy and not stage.exchange.in_flight.any()


def test_a_session_that_all_have_left_is_closed(stage: Stage) -> None:
    new = leave(stage, 2, 3)
    before = end(stage, 2, 3, 4)
    assert mode_of(stage) is not SAME_STEP or before.keys() == {0, 1}
    if mode_of(stage) is DISABLED:
        stage.reset([2, 3, 4])
    elif mode_of(stage) is NEXT_STEP:
        stage.step()
        stage.servers[0].answer()
    assert (request := new.answer()).indices is None and seeds_of(request) == [fresh(row) for row in (2, 3, 4)]
    stage.rows(range(5) if mode_of(stage) is NEXT_STEP else [2, 3, 4])
    stage.step()
    stage.servers[0].answer()
    new.answer()
    stage.rows(range(5))
    assert stage.servers[1].session._protocol.closing and len(stage.fleet.shards) == 2
    assert not stage.fleet.layout.restless


def test_a_reset_is_an_end_and_its_seed_is_taken(stage: Stage) -> None:
    new = leave(stage)
    stage.reset(range(5), [None, None, None, 40, None])
    for server in stage.servers[:2]:
        server.answer()
    assert seeds_of(new.answer()) == [40, fresh(4)]
    found = stage.rows(range(5))
    assert told(found, 3)["generation"] == 1 and 2 in found and not found[2][0]


def test_what_goes_on_stays(stage: Stage) -> None:
    new = leave(stage)
    for _ in range(3):
        end(stage)
    assert not new.session.highest and stage.fleet.layout.leaving.keys() == {3, 4}
    assert [block[1:3] for block in stage.fleet.blocks()] == [
        (range(2), "there"), (range(2, 3), "there"), (range(3, 5), "leaving"),
    ]  # fmt: skip


@pytest.mark.parametrize("reason", ["EXPIRED", "ENDED"])
def test_a_session_that_is_lost_before_anybody_comes_is_forgotten(stage: Stage, reason: str) -> None:
    new = leave(stage)
    new.carrier.bring(Lost(reason, "it is gone"))
    while new.session._protocol.lost is None:
        pass
    stage.step()
    for server in stage.servers[:2]:
        server.answer()
    found = stage.rows(range(5))
    assert all(note == {} for note, *_ in found.values()) and not stage.fleet.layout.restless
    assert stage.mover.lost == [range(0)], "it is to know"


def test_who_cannot_be_reached_just_now_gets_nobody(stage: Stage) -> None:
    new = leave(stage)
    new.dialer.refuses = True
    new.carrier.end()
    wait_until(lambda: not new.session.attached)
    stage.step()
    stage.servers[0].answer()
    stage.servers[1].answer(**{**ends(3, [2]), "infos": []})
    stage.rows(range(5))
    if mode_of(stage) is DISABLED:
        stage.reset([4])
    else:
        stage.step()
        stage.servers[0].answer()
    stage.servers[1].answer()
    found = stage.rows([4] if mode_of(stage) is DISABLED else range(5))
    assert not found[4][0] and not new.session.highest, "it stays for another episode"
    assert stage.fleet.layout.leaving.keys() == {3, 4}


def test_rows_whose_server_is_lost_go_at_once(stage: Stage) -> None:
    new = leave(stage)
    stage.step()
    stage.servers[0].answer()
    stage.lose()
    if mode_of(stage) is SAME_STEP:
        stage.rows([0, 1])
        while not new.session.highest:
            assert not stage.exchange.receive(0.05)
        assert seeds_of(new.answer()) == [fresh(3), fresh(4)]
        found = stage.rows([3, 4])
    else:
        found = stage.rows(range(5))
    assert told(found, 3)["lost"] and truncated(found, 4)
    assert stage.mover.lost == [range(2, 3)] and stage.fleet.homeless.keys() == {2}
    assert stage.fleet.layout.at(stage.fleet.shards[-1]) == range(3, 5)


def test_who_has_no_time_left_goes_at_once(stage: Stage) -> None:
    new = leave(stage, 2, 3)
    stage.step()
    stage.servers[0].answer()
    request = stage.servers[1].request()
    stage.servers[1].carrier.bring(Refused(request.number, "draining", "it is going away"))
    if mode_of(stage) is SAME_STEP:
        stage.rows([0, 1])
        while not new.session.highest:
            assert not stage.exchange.receive(0.05)
        new.answer()
        found = stage.rows([2, 3, 4])
    else:
        found = stage.rows(range(5))
    assert all("DRAINING" in told(found, row)["reason"] and truncated(found, row) for row in (2, 3, 4))
    assert not stage.fleet.homeless and stage.mover.lost == [range(0)]


def test_an_end_is_told_though_the_new_server_is_lost(stage: Stage) -> None:
    if mode_of(stage) is not SAME_STEP:
        return
    new = leave(stage)
    end(stage, 4)
    new.request()
    stage.lose(2)
    while not stage.fleet.homeless:
        assert not stage.exchange.receive(0.05)
    newest = stage.arrive(4, 1)
    stage.until_sent(newest)
    assert seeds_of(newest.answer()) == [fresh(4)], "the reset that was lost is made again"
    found = stage.rows([4])
    _, part, at = found[4]
    assert told(found, 4)["lost"] and found[4][0]["final_info"] == {"last": 2}
    assert part.terminations[at] and not part.truncations[at] and part.rewards[at] == 2.0


def test_what_a_placeholder_stands_for_has_ended(stage: Stage) -> None:
    if mode_of(stage) is not SAME_STEP:
        return
    new = leave(stage)
    end(stage, 4)
    new.request()
    stage.lose(2)
    found = stage.rows([4])
    _, part, at = found[4]
    assert told(found, 4)["homeless"] and part.terminations[at] and part.rewards[at] == 2.0


def test_what_failed_has_not_ended(stage: Stage) -> None:
    new = leave(stage)
    stage.step()
    stage.servers[0].answer()
    over = {**ends(3, [2]), "infos": []}
    stage.servers[1].answer(**over, failures=[Failure(2, FailureKind.RAISED, "ValueError", "no")])
    parts = stage.rows(range(5))
    assert parts[4][1].failures and not new.session.highest
    assert 4 in stage.fleet.layout.leaving


@pytest.mark.parametrize("at", ["moved", "_place", "_reset_parts", "_send", "took"])
def test_an_interrupt_loses_nothing_and_doubles_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    if mode_of(stage) is not SAME_STEP:
        return
    new = leave(stage)
    stage.step()
    stage.servers[0].answer()
    stage.servers[1].answer(**ends(3, [2]))
    target: Any = stage.exchange.losses if at == "moved" else stage.exchange
    real = Exchange.took if at == "took" else getattr(target, at)
    struck: list[int] = []

    def strike(*args: Any) -> Any:
        result = real(stage.exchange) if at == "took" else real(*args)
        if not struck and (stage.fleet.layout.leaving.keys() != {3, 4} or at == "moved"):
            struck.append(1)
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(target, at, strike)
    found: dict[int, Any] = {}
    answered = False
    while found.keys() != set(range(5)):
        if new.session.highest and not answered:
            answered = True
            assert seeds_of(new.answer()) == [fresh(4)]
        try:
            for part in stage.exchange.receive(5.0):
                for position, row in enumerate(part.indices or range(5)):
                    found[row] = part.notes.get(row, {}), part, position
            stage.exchange.took()
        except KeyboardInterrupt:
            continue
    assert struck and new.session.highest == 1 and told(found, 4)["generation"] == 1
    stage.step()
    stage.servers[0].answer()
    assert stage.servers[1].answer().indices == [0, 1] and new.answer().indices == [1]
