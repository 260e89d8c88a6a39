"""Trainer process, no I/O: which rows are where, as `RemoteVectorEnv.fleet` tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from remote_gym.client.pace import Judged


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


def with_pace(blocks: Iterable[Block], paces: Mapping[str, Judged]) -> tuple[Block, ...]:
    """Return `blocks` with what there is to say of their servers, by address."""
    unknown = Judged(None, False)
    return tuple(Block(*block[:3], *paces.get(block.address, unknown)) for block in blocks)
