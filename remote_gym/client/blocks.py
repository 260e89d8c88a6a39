"""Trainer process, no I/O: which rows are on which server, for logs and notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from remote_gym.client.pace import Judged
from remote_gym.html_facts import facts_html

COLUMNS = ("server", "rows", "environments", "state")


class Block(NamedTuple):
    """Environments side by side.

    Attributes:
        address: Of their server; empty while they have none.
        rows: Env indices.
        state: ``"there"``; ``"leaving"`` if they go to another server when their episodes end; or ``"moving"`` while
            they have no server.
        step_seconds: How long their server's steps usually take, as seen from here; None: not known.
        straggling: Whether that is so long that it keeps the others waiting; see `pace`.
    """

    address: str
    rows: range
    state: str
    step_seconds: float | None = None
    straggling: bool = False


class Blocks(tuple[Block, ...]):
    """All environments of a client, in the order of rows."""

    __slots__ = ()

    def lines(self) -> list[tuple[str, ...]]:
        """Return a line of a table for each block, below `COLUMNS`."""
        return [(block.address, _shown(block.rows), f"{len(block.rows):,}", block.state) for block in self]

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return facts_html("fleet", (), COLUMNS, self.lines())


def with_pace(blocks: Iterable[Block], paces: Mapping[str, Judged]) -> Blocks:
    """Return `blocks` with what there is to say of their servers, by address."""
    unknown = Judged(None, False)
    return Blocks(Block(*block[:3], *paces.get(block.address, unknown)) for block in blocks)


def _shown(rows: range) -> str:
    return str(rows.start) if len(rows) == 1 else f"{rows.start} to {rows.stop - 1}"
