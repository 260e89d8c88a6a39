"""Trainer process, no I/O: which rows are where, as `RemoteVectorEnv.fleet` tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from remote_gym.client.pace import judged
from remote_gym.client.tallies import Counted, took_by_server


class Block(NamedTuple):
    """Environments side by side.

    Attributes:
        address: Of their server; empty while they have none.
        rows: Env indices.
        state: ``"there"``, or ``"moving"`` while they have no server.
        step_seconds: How long their server's steps usually take, as seen from here; None: not known.
        straggling: Whether that is so long that it keeps the others waiting; see `pace`.
    """

    address: str
    rows: range
    state: str
    step_seconds: float | None = None
    straggling: bool = False


class Placed(Counted, Protocol):
    """Environments on one server.

    Attributes:
        first: Env index of the first.
    """

    first: int


def blocks(there: Sequence[Placed], homeless: Mapping[int, str]) -> tuple[Block, ...]:
    """Return where environments are that have a server, and those that have none, in the order of rows."""
    paces = judged(took_by_server(there))
    found = [Block(one.name, range(one.first, one.first + one.count), "there", *paces[one.name]) for one in there]
    away: list[Block] = []
    for index in sorted(homeless):
        if away and away[-1].rows.stop == index:
            away[-1] = Block("", range(away[-1].rows.start, index + 1), "moving")
        else:
            away.append(Block("", range(index, index + 1), "moving"))
    return tuple(sorted([*found, *away], key=lambda block: block.rows.start))
