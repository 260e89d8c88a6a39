"""The live screen, driven by Textual's pilot: keys, sizes, what is shown and what is not obeyed.

The program itself, in a terminal, is tested in `tests/unit/cli/test_top.py`.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from snapshots import episodes, loss, session, snapshot, worker

pytest.importorskip("textual")

from remote_gym.cli.live.board import Board
from remote_gym.cli.live.feed import Lost, Told
from remote_gym.cli.live.screen import LOOK_SECONDS, Lines, Page, Table, Top

Script = Callable[[Any], Coroutine[Any, Any, None]]


class Stage:
    """An app that nobody sees, and its news."""

    def __init__(self, pilot: Any, app: Top, news: queue.SimpleQueue[Any]) -> None:
        self.pilot, self.app, self.news = pilot, app, news

    async def tell(self, *snapshots: Any, address: str = "a:1") -> None:
        for one in snapshots:
            self.news.put(one if isinstance(one, Lost) else Told(address, one))
        await self.pilot.pause(2 * LOOK_SECONDS)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip) for strip in strips]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def column(self, name: str, title: str) -> list[str]:
        """Return what a table says in a column, from top to bottom."""
        table = self.app.query_one(f"#{name}", Table)
        ((column, _),) = [one for one in table._fitting if one[0].title.rstrip("↓↑") == title]
        return [column.text(row) for row in table._rows]


def play(script: Script, size: tuple[int, int] = (80, 24), addresses: tuple[str, ...] = ("a:1",)) -> None:
    async def run() -> None:
        news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        app = Top(Board(addresses), news)
        async with app.run_test(size=size) as pilot:
            await script(Stage(pilot, app, news))

    asyncio.run(run())


def test_at_80_by_24_it_is_all_there() -> None:
    async def script(stage: Stage) -> None:
        assert "connecting" in stage.text
        await stage.tell(snapshot(1.0), snapshot(2.0))
        lines = stage.lines
        assert len(lines) == 24 and all(len(line) == 80 for line in lines)
        assert lines[0].split() == ["remote-gym", "top", "1", "of", "1", "server", "1.5k", "steps/s", "128", "envs"]
        assert any(line.startswith("a:1 ") and " up " in line for line in lines)
        assert sum("attached" in line for line in lines) == 2
        assert sum("50%" in line for line in lines) == 2
        assert lines[23].startswith("q quit")

    play(script)


@pytest.mark.parametrize("size", [(80, 24), (20, 6), (40, 10), (250, 70)])
def test_sizes_and_resizes(size: tuple[int, int]) -> None:
    async def script(stage: Stage) -> None:
        many = [session(number, 2.0, principal="環境" * 9) for number in range(200)]
        await stage.tell(snapshot(1.0), snapshot(2.0, many))
        for width, height in (size, (83, 25), (10, 3), size):
            await stage.pilot.resize_terminal(width, height)
            await stage.pilot.pause()
            assert len(stage.lines) == height
        table = stage.app.query_one("#sessions", Table)
        assert table.shown == 200

    play(script, size)


def test_sorting() -> None:
    async def script(stage: Stage) -> None:
        speeds = [(1, 100, 5), (2, 300, 1), (3, 200, 3)]
        for second in (1.0, 2.0):
            await stage.tell(snapshot(second, [session(n, second, speed, envs=envs) for n, speed, envs in speeds]))
        assert stage.column("sessions", "STEPS/S") == ["300", "200", "100"]
        await stage.press("r")
        assert stage.column("sessions", "STEPS/S") == ["100", "200", "300"]
        await stage.press("S")
        assert stage.column("sessions", "ENVS") == ["5", "3", "1"]
        assert "ENVS↓" in stage.text
        await stage.press("s", "s", "s", "s", "s")
        await stage.tell(snapshot(3.0, [session(n, 3.0, speed, envs=envs) for n, speed, envs in speeds]))
        assert "↑" in stage.text or "↓" in stage.text

    play(script)


def test_the_focus_says_which_table_keys_are_for() -> None:
    async def script(stage: Stage) -> None:
        await stage.tell(snapshot(1.0, workers=[worker(0, restarts=2), worker(1)]))
        await stage.press("tab")
        assert stage.app.focused is stage.app.query_one("#workers")
        await stage.press("r")
        assert stage.column("workers", "WORKER")[0] == "1"

    play(script)


def test_a_filter_while_it_is_typed() -> None:
    async def script(stage: Stage) -> None:
        await stage.tell(snapshot(1.0, [session(1, principal="alice"), session(2, principal="bob")]))
        await stage.press("slash", "b", "o")
        assert stage.app.query_one("#sessions", Table).shown == 1
        assert "filter: 'bo'" in stage.lines[0]
        await stage.press("q")
        assert stage.app.query_one("#sessions", Table).shown == 0, "q is a letter here"
        assert "none holds 'boq'" in stage.text
        await stage.press("backspace", "enter")
        assert stage.app.query_one("#sessions", Table).shown == 1
        await stage.press("escape")
        assert stage.app.query_one("#sessions", Table).shown == 2

    play(script)


def test_a_pause_stands_still_and_loses_nothing() -> None:
    async def script(stage: Stage) -> None:
        await stage.tell(snapshot(1.0), snapshot(2.0))
        await stage.press("p")
        assert "PAUSED" in stage.lines[0]
        before = stage.lines
        await stage.tell(*(snapshot(second, [session(9, second)]) for second in (9.0, 10.0)))
        assert stage.lines == before
        await stage.press("p")
        assert "09090909" in stage.text and "64 envs" in stage.lines[0]

    play(script)


def test_a_server_that_is_lost_says_so_and_comes_back() -> None:
    async def script(stage: Stage) -> None:
        await stage.tell(snapshot(1.0), snapshot(2.0), Lost("b:1", "connection refused"))
        assert "1 of 2 servers" in stage.lines[0]
        assert "connecting: connection refused" in stage.text
        await stage.tell(Lost("a:1", "connection reset"))
        assert "0 of 2 servers" in stage.lines[0] and "away: connection reset" in stage.text
        assert "01010101" in stage.text, "what was told last is still there"
        await stage.tell(snapshot(9.0))
        assert "1 of 2 servers" in stage.lines[0]

    play(script, addresses=("a:1", "b:1"))


def test_ends_of_workers_and_help() -> None:
    async def script(stage: Stage) -> None:
        await stage.tell(snapshot(1.0, losses=[loss(output="boom\x1b[2J\n[bold]last[/]")]))
        assert "signal 9" in stage.text
        await stage.press("e")
        assert r"boom\x1b[2J" in stage.text and "[bold]last[/]" in stage.text
        await stage.press("escape", "question_mark")
        assert "stands still" in stage.text
        await stage.press("q")
        assert "SESSION" in stage.text

    play(script)


def test_a_long_page_scrolls_and_folds() -> None:
    async def script(stage: Stage) -> None:
        await stage.tell(snapshot(1.0, losses=[loss(n, output="x" * 150 + "\nlast") for n in range(50)]))
        await stage.press("e")
        assert "(escape: back)" in stage.lines[0]
        lines = stage.app.screen.query_one(Lines)
        assert lines.virtual_size.height == 50 * 4
        await stage.press("end")
        await stage.pilot.pause(0.5)
        assert "last" in stage.lines[-1]
        assert isinstance(stage.app.screen, Page)

    play(script)


def test_nothing_that_others_say_is_markup_or_is_obeyed() -> None:
    evil = "\x1b]0;title\x07\x1b[2J[bold red]x[/]\u202e\n[@click=app.quit]y[/]"

    async def script(stage: Stage) -> None:
        sessions = [session(1, principal=evil, peer=evil, state=evil, episodes=episodes(1.0))]
        told = snapshot(1.0, sessions, [worker(0, principal=evil)], [loss(reason=evil, output=evil)], entrypoint=evil)
        await stage.tell(told, Lost("b:1", evil))
        for keys in ((), ("e",), ("escape",)):
            await stage.press(*keys)
            assert "[bold red]x[/]" in stage.text
            assert all(char.isprintable() or char == "\n" for char in stage.text)

    play(script, (250, 40), ("a:1", "b:1"))


def test_thousands_of_sessions_are_no_matter() -> None:
    async def script(stage: Stage) -> None:
        for second in (1.0, 2.0):
            await stage.tell(snapshot(second, [session(n % 256, second, id=n.to_bytes(16)) for n in range(3_000)]))
        assert stage.app.query_one("#sessions", Table).shown == 3_000
        await stage.press("end")
        await stage.pilot.pause(0.5)
        assert len(stage.lines) == 24

    play(script)


def test_quitting() -> None:
    for key in ("q", "ctrl+c"):

        async def script(stage: Stage, key: str = key) -> None:
            await stage.press(key)
            assert not stage.app.is_running

        play(script)
