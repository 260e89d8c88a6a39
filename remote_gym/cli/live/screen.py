"""The user's terminal: the live screen of ``remote-gym top``, in Textual (extra `top`). In the terminal's own colours.

Nothing is told by colour alone. What others have said reaches the screen as text that `board` and `columns` have made
printable, never as markup.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.screen import ModalScreen
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input, Static

from remote_gym.cli.live import columns
from remote_gym.cli.live.board import WATCHED, Board, View
from remote_gym.cli.live.columns import Column
from remote_gym.cli.live.feed import Lost, News, Told
from remote_gym.cli.quantities import counted

LOOK_SECONDS = 0.2
"""How often the screen looks for news."""

HELP = """\
q       quit
p       pause: the screen stands still; p again goes on
tab     the next table
s, S    sort the table by its next column, by the one before
r       the other way round
/       show only lines that hold a text; escape shows all again
e       ends of workers: when, why, and the last lines of their environments
arrows, page up and down, home, end: scroll
?       this

ON is the number of the server in the first table. STEPS/S, BUSY and the
step times P50 to P99 are of the last 5 seconds. RETURN and LENGTH are means
of the last 100 episodes; RETURNS are the last ones, the newest to the right.
LEASE says whether a client is there, or for how long it is waited for.
"""

KEYS = "q quit  p pause  tab table  s sort  r reverse  / filter  e ends  ? help"

Row = TypeVar("Row")


class Table(ScrollView, Generic[Row]):
    """Rows under a heading that stays. Only what is seen is drawn, so that thousands of rows are no matter.

    Attributes:
        shown: How many rows there are after the filter.
    """

    can_focus = True

    def __init__(self, name: str, kinds: Sequence[Column[Row]], none: str, key: str = "") -> None:
        """Begin empty, sorted by the column titled `key`; without one, as the rows come.

        Args:
            name: Of the table, its id as well.
            kinds: Its columns.
            none: What it says without rows.
            key: A title.
        """
        super().__init__(id=name)
        self._kinds, self._none = kinds, none
        self._titles = [column.title for column in kinds]
        self._key, self._reverse, self._filter = key, False, ""
        self._rows: list[Row] = []
        self._fitting: list[tuple[Column[Row], int]] = []
        self._given: Sequence[Row] = ()
        self.shown = 0

    def take(self, rows: Sequence[Row], filtered: str) -> None:
        """Show `rows`, those that hold the text `filtered`."""
        self._given, self._filter = rows, filtered
        self._lay_out()

    def sort(self, step: int) -> None:
        """Sort by the next column of those that are seen, or by the one before."""
        seen = [column.title.rstrip("↓↑") for column, _ in self._fitting] or self._titles
        at = seen.index(self._key) if self._key in seen else -1 if step > 0 else 0
        self._key, self._reverse = seen[(at + step) % len(seen)], False
        self._lay_out()

    def turn(self) -> None:
        """Sort the other way round."""
        self._reverse = not self._reverse
        self._lay_out()

    def on_resize(self) -> None:
        """Choose columns that fit."""
        self._lay_out()

    def _lay_out(self) -> None:
        rows = [row for row in self._given if columns.matches(self._filter, self._kinds, row)]
        key = next((column for column in self._kinds if column.title == self._key), None)
        kinds = self._kinds
        if key is not None:
            rows = columns.in_order(rows, key, self._reverse)
            sign = "↓" if key.falling is not self._reverse else "↑"
            kinds = [replace(one, title=one.title + sign) if one is key else one for one in kinds]
        self._rows, self.shown = rows, len(rows)
        self._fitting = columns.chosen(kinds, rows, max(10, self.scrollable_content_region.width))
        self.virtual_size = Size(self.scrollable_content_region.width, len(rows) + 1)
        self.refresh()

    @property
    def _said(self) -> str:
        """What there is to say where there are no rows."""
        return f"none holds {self._filter!r}" if self._given else self._none

    def render_line(self, y: int) -> Strip:
        """Return one line of what is seen; the first is the heading, wherever the rest is scrolled to."""
        width = self.size.width
        if y == 0:
            marked = "bold reverse" if self.has_focus else "bold"
            return _strip(columns.heading(self._fitting), width, marked)
        at = y - 1 + int(self.scroll_offset.y)
        if at < len(self._rows):
            return _strip(columns.line(self._fitting, self._rows[at]), width)
        return _strip(self._said if y == 1 and not self._rows else "", width, "dim")


def _strip(text: str, width: int, style: str = "") -> Strip:
    return Strip([Segment(columns.fitted(text, width), Style.parse(style))], width)


class Page(ModalScreen[None]):
    """Text over the whole screen, until a key closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,e,enter", "dismiss", "back"),
    ]

    def __init__(self, title: str, lines: Sequence[str]) -> None:
        """Show printable lines."""
        super().__init__()
        self._title, self._lines = title, lines

    def compose(self) -> ComposeResult:
        """Return a heading, and what scrolls."""
        yield Static(f"{self._title} (escape: back)", markup=False, id="title")
        yield Lines(self._lines)

    def on_mount(self) -> None:
        """Let keys scroll at once."""
        self.query_one(Lines).focus()


class Lines(ScrollView):
    """Lines of text, which are folded where they are too long."""

    can_focus = True

    def __init__(self, lines: Sequence[str]) -> None:
        """Show them."""
        super().__init__()
        self._lines, self._folded = lines, list(lines)

    def on_resize(self) -> None:
        """Fold them anew."""
        width = max(10, self.scrollable_content_region.width)
        self._folded = [piece for line in self._lines for piece in _folded(line, width)]
        self.virtual_size = Size(width, len(self._folded))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return one of those that are seen."""
        at = y + int(self.scroll_offset.y)
        return _strip(self._folded[at] if at < len(self._folded) else "", self.size.width)


def _folded(line: str, width: int) -> list[str]:
    pieces, piece = [], ""
    for char in line:
        if columns.width_of(piece + char) > width:
            pieces.append(piece)
            piece = ""
        piece += char
    return [*pieces, piece]


class Top(App[None]):
    """What servers tell, live, until somebody quits."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "remote-gym top"
    CSS = """
    Screen { layout: vertical; }
    Static { height: 1; width: 100%; }
    #summary { text-style: bold; }
    Table, Lines { overflow-x: hidden; scrollbar-gutter: stable; scrollbar-size-vertical: 1; }
    #servers { height: auto; max-height: 20%; min-height: 2; margin-bottom: 1; }
    #sessions { height: 3fr; margin-bottom: 1; }
    #workers { height: 2fr; }
    #filter { height: 1; border: none; padding: 0; display: none; }
    Lines { height: 1fr; }
    Page { background: ansi_default; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        # All before the table with the focus: a key waits for none that is typed right behind it.
        Binding("ctrl+c,ctrl+q", "quit", "quit", priority=True),
        Binding("q", "leave", "quit", priority=True),
        Binding("p,space", "pause", "pause", priority=True),
        Binding("s", "sort(1)", "sort", priority=True),
        Binding("S,upper_s", "sort(-1)", "sort back", priority=True),
        Binding("r", "turn", "reverse", priority=True),
        Binding("slash", "filter", "filter", priority=True),
        Binding("escape", "unfilter", "show all", priority=True),
        Binding("e", "ends", "ends of workers", priority=True),
        Binding("question_mark,h", "help", "help", priority=True),
    ]

    def __init__(self, board: Board, news: queue.SimpleQueue[News], blocks: str = columns.BLOCKS) -> None:
        """Show `board`, into which whatever comes by `news` is taken; sparklines are made of `blocks`."""
        super().__init__()
        self.theme = "ansi-dark"  # the terminal's own colours, whatever they are
        self._board, self._news, self._blocks = board, news, blocks
        self._view: View = board.view()
        self._paused, self._filter = False, ""

    def compose(self) -> ComposeResult:
        """Return the screen's parts, from top to bottom."""
        yield Static("", markup=False, id="summary")
        yield Table("servers", columns.SERVERS, "")
        yield Table("sessions", columns.sessions(self._blocks), "no sessions", "STEPS/S")
        yield Table("workers", columns.WORKERS, "no workers", "WORKER")
        yield Input(placeholder="show lines that hold ...", id="filter", compact=True)
        yield Static(KEYS, markup=False, id="keys")

    def on_mount(self) -> None:
        """Begin to look for news."""
        self.query_one("#sessions").focus()
        self.set_interval(LOOK_SECONDS, self._look)
        self._show()

    def _look(self) -> None:
        came = False
        while not self._news.empty():
            news = self._news.get()
            came = True
            if isinstance(news, Told):
                self._board.take(news.address, news.snapshot)
            elif isinstance(news, Lost):
                self._board.lost(news.address, news.reason)
        if came and not self._paused:
            self._view = self._board.view()
            self._show()

    def _show(self) -> None:
        view = self._view
        for name, rows in (("servers", view.servers), ("sessions", view.sessions), ("workers", view.workers)):
            self._table(name).take(rows, "" if name == "servers" else self._filter)
        self.query_one("#summary", Static).update(self._summary())

    def _table(self, name: str) -> Table[Any]:
        table: Table[Any] = self.query_one(f"#{name}", Table)
        return table

    def _summary(self) -> str:
        servers = self._view.servers
        watched = [one for one in servers if one.state == WATCHED]
        known = [one.steps_per_second for one in watched if one.steps_per_second is not None]
        envs = sum(one.figures.envs for one in watched if one.figures is not None)
        parts = [
            "remote-gym top",
            f"{len(watched)} of {len(servers)} server{'' if len(servers) == 1 else 's'}",
            f"{counted(sum(known) if known else None)} steps/s",
            f"{counted(envs)} envs",
            *([f"filter: {self._filter!r}"] if self._filter else []),
            *(["PAUSED"] if self._paused else []),
        ]
        return "  ".join(parts)

    # Keys

    def action_pause(self) -> None:
        """Stand still, or go on."""
        self._paused = not self._paused
        if not self._paused:
            self._view = self._board.view()
        self._show()

    def _focused(self) -> Table[Any]:
        return self.focused if isinstance(self.focused, Table) else self._table("sessions")

    def action_sort(self, step: int) -> None:
        """Sort the table with the focus."""
        self._focused().sort(step)

    def action_turn(self) -> None:
        """Sort it the other way round."""
        self._focused().turn()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:
        """Tell whether a key of ours does something now: not on a page, and where a filter is typed it is a letter."""
        if action == "quit":
            return True
        if isinstance(self.screen, Page):
            return False
        return action == "unfilter" or not isinstance(self.focused, Input)

    async def action_leave(self) -> None:
        """End it."""
        await self.action_quit()

    def action_filter(self) -> None:
        """Ask for a text."""
        asked = self.query_one("#filter", Input)
        asked.display = True
        self.screen.set_focus(asked)  # at once: the next keys may wait already

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        self._filter = event.value
        self._show()

    def on_input_submitted(self) -> None:
        """Go back to the tables."""
        self._leave_filter()

    def action_unfilter(self) -> None:
        """Show all lines again."""
        self.query_one("#filter", Input).value = ""
        self._leave_filter()

    def _leave_filter(self) -> None:
        self.query_one("#filter").display = False
        self.screen.set_focus(self._table("sessions"))

    def action_ends(self) -> None:
        """Tell of workers that have ended."""
        now = time.time()
        lines = [line for row in reversed(self._view.losses) for line in columns.loss_lines(row, now)]
        self.push_screen(Page("Ends of workers, the last first", lines or ["none since this was started"]))

    def action_help(self) -> None:
        """Tell what the keys do."""
        self.push_screen(Page("Keys", HELP.splitlines()))
