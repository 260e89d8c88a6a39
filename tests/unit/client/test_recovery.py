"""What becomes of rows whose server was lost: the table of docs/how-to/fleet.md, on fake carriers."""

from __future__ import annotations

import time
from typing import Any

import pytest
from faking import ADDRESS, transition
from fleet_stage import DISABLED, HOLD, NEXT_STEP, SAME_STEP, Stage, fresh, is_last, mode_of, truncated
from helpers import wait_until

from remote_gym import SessionLost, values
from remote_gym.messages import Refused, Reset, Step


def test_a_step_in_flight(stage: Stage) -> None:
    last = stage.exchange._observations.leaves()[0].copy()
    stage.step()
    stage.servers[0].answer()
    stage.lose()
    if mode_of(stage) is SAME_STEP:  # waits for the next episode
        others = stage.rows([0, 1])
        new = stage.arrive(2, 3)
        stage.until_sent(new)
        assert isinstance(request := new.answer(), Reset) and request.indices is None
        assert values.unpack(request.seeds, "seeds") == [fresh(row) for row in (2, 3, 4)]
        found = stage.rows([2, 3, 4])
        for row in (2, 3, 4):
            note, part, at = found[row]
            assert note["remote_gym"]["address"] == str(ADDRESS) and (note["final_obs"] == last[row]).all()
            assert truncated(found, row) and not is_last(found, row, last)
    else:
        found = stage.rows(range(5))
        others = found
        for row in (2, 3, 4):
            note, part, at = found[row]
            assert note["remote_gym"]["lost"] and truncated(found, row) and is_last(found, row, last)
            assert part.rewards is not None and part.rewards[at] == 0
    assert not truncated(others, 0) and not truncated(others, 1) and others[0][0] == {}
    assert stage.mover.lost == [range(2, 5)] and not stage.exchange.in_flight.any() and not stage.exchange.busy


def test_the_step_after_with_a_server(stage: Stage) -> None:
    if mode_of(stage) is SAME_STEP:
        return  # its episode has begun already
    stage.step()
    stage.servers[0].answer()
    stage.lose()
    stage.rows(range(5))
    new = stage.arrive(2, 3)
    if mode_of(stage) is DISABLED:
        stage.reset([2, 3, 4])
    else:
        stage.step()
        stage.servers[0].answer()
    assert isinstance(request := new.answer(), Reset)
    assert values.unpack(request.seeds, "seeds") == [fresh(row) for row in (2, 3, 4)]
    found = stage.rows([2, 3, 4] if mode_of(stage) is DISABLED else range(5))
    for row in (2, 3, 4):
        told = found[row][0]["remote_gym"]
        assert not told["lost"] and told["address"] == str(ADDRESS) and told["generation"] == 1
        assert not truncated(found, row)
    stage.step()
    stage.servers[0].answer()
    assert isinstance(new.answer(), Step)
    assert all(note == {} for note, *_ in stage.rows(range(5)).values())


def test_without_a_server_a_placeholder_comes_in_time(stage: Stage) -> None:
    last = stage.exchange._observations.leaves()[0].copy()
    stage.step()
    stage.servers[0].answer()
    stage.lose()
    found = stage.rows(range(5))  # in SAME_STEP: the placeholder
    for again in range(3):
        began = time.monotonic()
        if mode_of(stage) is DISABLED and again % 2 == 0:
            stage.reset([2, 3, 4])
            found = stage.rows([2, 3, 4])
            assert time.monotonic() - began >= HOLD
        else:
            stage.step()
            stage.servers[0].answer()
            found = stage.rows(range(5))
            assert (time.monotonic() - began >= HOLD) is (mode_of(stage) is not DISABLED)
        for row in (2, 3, 4):
            note, part, at = found[row]
            told = note["remote_gym"]
            assert told["lost"] and told["generation"] == 1 and truncated(found, row) and is_last(found, row, last)
            assert part.rewards is not None and part.rewards[at] == 0
            assert ("final_obs" in note) is (mode_of(stage) is SAME_STEP)
            if mode_of(stage) is not DISABLED or again % 2 == 0:
                assert told["homeless"]
    new = stage.arrive(2, 3)
    if mode_of(stage) is DISABLED:
        stage.step()  # after the placeholder of a reset
        stage.servers[0].answer()
        assert all(truncated(stage.rows(range(5)), row) for row in (2,))
        stage.reset([2, 3, 4])
    else:
        stage.step()
        stage.servers[0].answer()
    request = new.answer()
    assert values.unpack(request.seeds, "seeds") == [fresh(row) for row in (2, 3, 4)], "however often it was tried"


def test_rows_that_were_idle_are_told_of_by_the_next_step(stage: Stage) -> None:
    stage.step([0, 2])
    stage.servers[0].answer()
    stage.lose()
    first = stage.rows([0, 2])
    assert truncated(first, 2)
    new = stage.arrive(2, 3)
    stage.step([3])
    if mode_of(stage) is SAME_STEP:
        stage.until_sent(new)
        new.answer()
    found = stage.rows([3])
    assert truncated(found, 3) and found[3][0]["remote_gym"]["generation"] == 1


def test_a_reset_waits_and_keeps_its_seed(stage: Stage) -> None:
    stage.lose()
    stage.reset(range(5), [30 + row for row in range(5)])
    stage.servers[0].answer()
    stage.rows([0, 1])
    new = stage.arrive(2, 3)
    stage.until_sent(new)
    assert values.unpack(new.answer().seeds, "seeds") == [32, 33, 34]
    found = stage.rows([2, 3, 4])
    assert found[2][0]["remote_gym"]["lost"] and not truncated(found, 2)


def test_new_servers_may_be_several(stage: Stage) -> None:
    if mode_of(stage) is not NEXT_STEP:
        return
    stage.step()
    stage.servers[0].answer()
    stage.lose()
    stage.rows(range(5))
    stage.step()
    stage.servers[0].answer()
    right = stage.arrive(3, 2)
    left = stage.arrive(2, 1)
    stage.rows([0, 1])
    for server, rows in ((right, [3, 4]), (left, [2])):
        stage.until_sent(server)
        assert values.unpack(server.answer().seeds, "seeds") == [fresh(row) for row in rows]
    stage.rows([2, 3, 4])
    assert [block.rows for block in stage.fleet.blocks()] == [range(2), range(2, 3), range(3, 5)]
    stage.step([4, 2, 0])
    assert [server.answer().indices for server in (stage.servers[0], left, right)] == [[0], None, [1]]
    stage.rows([0, 2, 4])


def test_a_new_server_may_be_lost_at_once(stage: Stage) -> None:
    if mode_of(stage) is not NEXT_STEP:
        return
    stage.step()
    stage.servers[0].answer()
    stage.lose()
    stage.rows(range(5))
    new = stage.arrive(2, 3)
    stage.lose(2)
    stage.step()
    stage.servers[0].answer()
    found = stage.rows([0, 1])
    assert found and stage.mover.lost == [range(2, 5), range(2, 5)] and new.closes == 0
    newer = stage.arrive(2, 3)
    stage.until_sent(newer)
    newer.answer()
    assert stage.rows([2, 3, 4])[2][0]["remote_gym"]["generation"] == 2


def test_the_others_are_received_meanwhile(stage: Stage) -> None:
    stage.step()
    stage.lose()
    for _ in range(3):
        stage.servers[0].answer()
        began = time.monotonic()
        rest = [2, 3, 4] if stage.exchange.in_flight[2:].any() and mode_of(stage) is not SAME_STEP else []
        stage.rows([0, 1, *rest])
        assert time.monotonic() - began < HOLD + 1
        stage.step([0, 1])


def test_a_placeholder_comes_also_where_others_are_always_ready(stage: Stage) -> None:
    if mode_of(stage) is not SAME_STEP:
        return
    stage.step()
    stage.servers[0].answer()
    stage.lose()
    stage.rows([0, 1])
    seen: set[int] = set()
    deadline = time.monotonic() + 20
    while not seen and time.monotonic() < deadline:
        stage.step([0, 1])
        stage.servers[0].answer()
        while not stage.servers[0].session.unread():
            time.sleep(0.001)
        left = {0, 1}
        while left:
            for part in stage.exchange.receive(5.0):
                left -= set(part.indices or ())
                seen |= set(part.indices or ()) - {0, 1}
            stage.exchange.took()
    assert seen == {2, 3, 4}


def test_a_server_that_drains_is_left_at_once(stage: Stage) -> None:
    stage.step()
    request = stage.servers[1].request()
    stage.servers[1].carrier.bring(Refused(request.number, "draining", "it is going away"))
    stage.servers[0].answer()
    if mode_of(stage) is SAME_STEP:
        stage.rows([0, 1])
        assert stage.mover.lost == [range(2, 5)] or not stage.exchange.receive(1.0)
    else:
        found = stage.rows(range(5))
        assert "DRAINING" in found[3][0]["remote_gym"]["reason"]
    assert stage.mover.lost == [range(2, 5)] and stage.fleet.homeless.keys() == {2, 3, 4}


def test_everything_that_a_draining_server_has_refused_is_made_up_for(stage: Stage) -> None:
    for rows in ([2], [3, 4]):
        stage.step(rows)
    for _ in range(2):
        request = stage.servers[1].request()
        stage.servers[1].carrier.bring(Refused(request.number, "draining", "it is going away"))
    wait_until(lambda: len(stage.servers[1].session.unread()) == 2)
    found = stage.rows([2, 3, 4])
    assert all("DRAINING" in found[row][0]["remote_gym"]["reason"] for row in (2, 3, 4))
    assert stage.fleet.homeless.keys() == {2, 3, 4} and not stage.exchange.in_flight.any()


def test_what_is_not_to_be_made_up_for_raises(stage: Stage) -> None:
    stage.step()
    stage.servers[0].answer()
    stage.lose(reason="FENCED")
    with pytest.raises(SessionLost, match="FENCED"):
        stage.rows(range(5))
    assert not stage.mover.lost


def test_the_mover_gives_up_for_now(stage: Stage) -> None:
    stage.step()
    stage.servers[0].answer()
    stage.lose()
    stage.rows([0, 1] if mode_of(stage) is SAME_STEP else range(5))
    while not stage.fleet.homeless:
        stage.exchange.receive(1.0)
    stage.mover.failure = SessionLost("UNREACHABLE", "no server took 3 environments")
    stage.fleet.ring()
    with pytest.raises(SessionLost, match="no server took"):
        stage.exchange.receive(5.0)
    stage.mover.failure = None
    new = stage.arrive(2, 3)
    if mode_of(stage) is not SAME_STEP:
        stage.reset([2, 3, 4])
    stage.until_sent(new)
    new.answer()
    stage.rows([2, 3, 4])


def test_what_an_interrupt_has_left_is_not_sent_twice(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    if mode_of(stage) is not NEXT_STEP:
        return
    stage.step()
    stage.servers[0].answer()
    stage.lose()
    stage.rows(range(5))
    stage.step()
    stage.servers[0].answer()
    stage.rows([0, 1])
    new = stage.arrive(2, 3)

    def strike(_gone: Any) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(stage.exchange._homeless, "drop", strike)  # it was sent, and is not taken note of
    with pytest.raises(KeyboardInterrupt):
        stage.exchange.receive(5.0)
    new.answer()
    stage.rows([2, 3, 4])
    assert new.session.highest == 1 and not stage.exchange.busy


def test_transition_of_a_part_is_kept(stage: Stage) -> None:
    if mode_of(stage) is not NEXT_STEP:
        return
    stage.step()
    request = stage.servers[1].request()
    stage.servers[1].carrier.bring(transition(request.number, [1], 3))  # row 3 has stepped
    while not stage.servers[1].session.unread():
        time.sleep(0.001)
    stage.lose()
    stage.servers[0].answer()
    found = stage.rows(range(5))
    assert not truncated(found, 3) and truncated(found, 2) and truncated(found, 4)
    stage.step([3])
    assert truncated(stage.rows([3]), 3), "it is gone all the same"
