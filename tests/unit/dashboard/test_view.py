"""What a page is told: rows it has asked for, what is new of their curves, and text that is nothing but text."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from staged import identity, loss, session, snapshot, worker

from remote_gym.dashboard.records import ServerRecord
from remote_gym.dashboard.settings import Watched
from remote_gym.dashboard.view import MAX_OUTPUT_LINES, SORTS, Viewer, view

ONE = Watched("unix:/run/a", "a:1", ("/run/a.admin",))


def told(*snapshots: Any, viewer: Viewer | None = None) -> dict[str, Any]:
    record = ServerRecord()
    for one in snapshots:
        record.see(one)
    return view([(ONE, record)], viewer or Viewer())


def test_a_server_that_was_not_reached_says_why() -> None:
    record = ServerRecord()
    (row,) = view([(ONE, record)], Viewer())["servers"]
    assert (row["up"], row["error"], row["label"]) == (False, "", "a:1")
    record.lose("nobody\nlistens")
    (row,) = view([(ONE, record)], Viewer())["servers"]
    assert (row["up"], row["error"]) == (False, "nobody\\nlistens")


def test_figures_of_a_server() -> None:
    shown = told(snapshot(1), snapshot(2))
    (row,) = shown["servers"]
    assert (row["up"], row["rate"], row["sessions"], row["admin"]) == (True, 3_000.0, 3, True)
    assert row["curves"]["rate"] == [None, 3_000.0]
    assert shown["workers"]["busy"] == 0.5
    assert [one["key"] for one in shown["workers"]["rows"]] == ["0.0", "0.1"]


def test_curves_come_once_then_only_what_is_new() -> None:
    record, viewer = ServerRecord(), Viewer()
    record.see(snapshot(1, 1))
    record.see(snapshot(2, 1))
    (row,) = view([(ONE, record)], viewer)["sessions"]["rows"]
    assert (len(row["curves"]["rate"]), len(row["curves"]["return"])) == (2, 2)
    record.see(snapshot(3, 1))
    (row,) = view([(ONE, record)], viewer)["sessions"]["rows"]
    assert (row["curves"]["rate"], len(row["curves"]["return"])) == ([100.0], 1)
    (row,) = view([(ONE, record)], viewer)["sessions"]["rows"]
    assert row["curves"] == {"rate": [], "return": [], "length": []}


def test_a_row_that_comes_back_has_all_of_its_curves() -> None:
    """The page has dropped them with the row."""
    record, viewer = ServerRecord(), Viewer(rows=1)
    record.see(snapshot(1, 2))
    record.see(snapshot(2, 2))
    view([(ONE, record)], viewer)
    viewer.find = "user1"
    (other,) = view([(ONE, record)], viewer)["sessions"]["rows"]
    assert (other["principal"], len(other["curves"]["rate"])) == ("user1", 2)
    viewer.find = ""
    (row,) = view([(ONE, record)], viewer)["sessions"]["rows"]
    assert (row["principal"], len(row["curves"]["rate"])) == ("user0", 2)


def test_rows_are_as_many_as_were_asked_for_and_the_page_knows_how_many_there_are() -> None:
    shown = told(snapshot(1, 1_000), viewer=Viewer(rows=50))["sessions"]
    assert (shown["total"], shown["found"], len(shown["rows"])) == (1_000, 1_000, 50)
    shown = told(snapshot(1, 1_000), viewer=Viewer(find="USER3", rows=50))["sessions"]
    assert (shown["total"], shown["found"], len(shown["rows"])) == (1_000, 143, 50)


@pytest.mark.parametrize("find", [identity(5).hex()[:8], "10.0.0.5:"])
def test_a_session_is_found_by_whatever_is_shown_of_it(find: str) -> None:
    (row,) = told(snapshot(1, 40), viewer=Viewer(find=find))["sessions"]["rows"]
    assert row["id"] == identity(5).hex()


@pytest.mark.parametrize("sort", SORTS)
def test_every_order_takes_every_figure(sort: str) -> None:
    odd = [session(number, 1, mean_return=(math.nan, math.inf, -math.inf, 3.0)[number % 4]) for number in range(8)]
    shown = told(snapshot(1)._replace(sessions=odd), viewer=Viewer(sort=sort))
    assert len(shown["sessions"]["rows"]) == 8
    json.dumps(shown, allow_nan=False)


def test_the_oldest_come_first_and_the_fastest_if_asked() -> None:
    rows = told(snapshot(1, 9), snapshot(2, 9))["sessions"]["rows"]
    assert [row["id"] for row in rows] == [identity(number).hex() for number in range(9)]
    rows = told(snapshot(1, 9), snapshot(2, 9), viewer=Viewer(sort="rate"))["sessions"]["rows"]
    assert rows[0]["id"] == identity(8).hex()


def test_losses_come_once() -> None:
    record, viewer = ServerRecord(), Viewer()
    record.see(snapshot(1, losses=(loss(1),)))
    assert [one["key"] for one in view([(ONE, record)], viewer)["losses"]] == ["0/1"]
    assert view([(ONE, record)], viewer)["losses"] == []
    record.see(snapshot(2, losses=(loss(2),)))
    assert [one["key"] for one in view([(ONE, record)], viewer)["losses"]] == ["0/2"]


def test_texts_have_no_controls_and_an_end() -> None:
    wild = "\x1b[31m\u202e<img src=x onerror=alert(1)>\x00" + "x" * 10_000
    hostile = [session(0, 1, principal=wild, peer=wild, state=wild, render_mode=wild)]
    lost = loss(1, reason=wild, output="\n".join([wild] * 500))
    shown = told(
        snapshot(1, losses=(lost,), version=wild, entrypoint=wild, principal=wild)._replace(
            sessions=hostile, workers=[worker(0, 1, principal=wild)]
        )
    )
    text = json.dumps(shown, ensure_ascii=False)
    assert not set("\x1b\u202e\x00") & set(text)
    assert len(text) < 20_000 + 500 * MAX_OUTPUT_LINES
    assert shown["losses"][0]["output"].count("\n") == MAX_OUTPUT_LINES - 1


def test_no_number_is_one_that_json_lacks() -> None:
    odd = [session(0, 1, mean_return=math.nan, mean_length=math.inf)]
    (row,) = told(snapshot(1)._replace(sessions=odd))["sessions"]["rows"]
    assert (row["mean_return"], row["mean_length"]) == (None, None)
