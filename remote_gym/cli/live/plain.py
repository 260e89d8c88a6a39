"""No I/O: what there is to see, as plain text and as JSON, for scripts and pipes."""

from __future__ import annotations

import json
import math
from typing import Any

from remote_gym.cli.live import columns
from remote_gym.cli.live.board import View
from remote_gym.figures import Snapshot


def text(view: View, width: int, blocks: str = columns.BLOCKS) -> str:
    """Return three tables, lines of at most `width` cells where that can be."""
    tables = [
        columns.table(columns.SERVERS, view.servers, width),
        columns.table(columns.sessions(blocks), view.sessions, width) if view.sessions else ["no sessions"],
        columns.table(columns.WORKERS, view.workers, width) if view.workers else ["no workers"],
    ]
    made = "\n\n".join("\n".join(lines) for lines in tables)
    return made.replace("µ", "u") if blocks == columns.ASCII_BLOCKS else made


def json_line(address: str, snapshot: Snapshot) -> str:
    """Return what a server tells as one line of JSON: ASCII alone, so that nothing in it is obeyed by a terminal.

    Names are those of `protos/remote_gym/wire/watch.proto`; ids are hexadecimal, what is no finite number is null.
    """
    return json.dumps({"address": address, **_plain(snapshot)}, allow_nan=False)


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
