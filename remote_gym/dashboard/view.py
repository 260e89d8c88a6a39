"""Dashboard process, no I/O: records of servers -> what the page draws, as values of JSON, for one page at a time.

Curves go to a page once, then only what is new of them. Rows are bounded by what the page asks for; it is told how many
there are. Texts come from peers and environments: no control characters, no more than the page has room for, and the
page makes text of them, never markup.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from remote_gym.dashboard.records import ServerRecord, SessionRecord, Tail, WorkerRecord
from remote_gym.dashboard.settings import Watched
from remote_gym.figures import SessionFigures, WorkerLoss
from remote_gym.texts import printable

MAX_ROWS = 500
MAX_FIND = 100
"""Characters of what is looked for."""

MAX_OUTPUT_LINES = 40
NAME, TEXT = 120, 400
"""Characters that are shown of a name, and of a sentence."""

PERCENTILES = (0.5, 0.9, 0.99)

SORTS: dict[str, Callable[[SessionRecord], Any]] = {
    "age": lambda one: one.began,
    "rate": lambda one: -one.rate,
    "envs": lambda one: -one.figures.envs,
    "episodes": lambda one: -one.figures.totals.episodes,
    "return": lambda one: -_finite(one.figures.mean_return),
    "principal": lambda one: one.figures.principal,
}
"""What sessions may be ordered by; equal ones by age."""


@dataclass
class Viewer:
    """One page that is open, and what it has got.

    Attributes:
        sort: A name of `SORTS`.
        find: What principal, peer, id or server of a session must hold.
        rows: Of sessions, and of workers, at most.
    """

    sort: str = "age"
    find: str = ""
    rows: int = 50
    _seen: dict[str, int] = field(default_factory=dict)  # by curve: how many items
    _drawn: set[str] = field(default_factory=set)  # curves of this view

    def news(self, key: str, tail: Tail[Any]) -> list[Any]:
        """Return what the page lacks of a curve, and take it as told."""
        new = tail.since(self._seen.get(key, 0))
        self._seen[key] = tail.count
        self._drawn.add(key)
        return new

    def end_view(self) -> None:
        """Forget the curves that the page does not have any more: it drops what was not in its last view."""
        self._seen = {key: count for key, count in self._seen.items() if key in self._drawn}
        self._drawn = set()


def view(servers: Iterable[tuple[Watched, ServerRecord]], viewer: Viewer) -> dict[str, Any]:
    """Return what the page of `viewer` shows now.

    Returns:
        A dict: `servers`, `sessions` and `workers` (each `total`, how many there are, and `rows`), and `losses` that
        the page has not got, the oldest first. A row has a `key`; `curves` hold what is new since the last view, and
        all of it for a row that was not in that.
    """
    servers = list(servers)
    shown = {
        "servers": [_server(str(number), *one, viewer) for number, one in enumerate(servers)],
        "sessions": _sessions(servers, viewer),
        "workers": _workers(servers, viewer),
        "losses": [
            _loss(f"{number}/{loss.number}", watched, loss)
            for number, (watched, record) in enumerate(servers)
            for loss in viewer.news(f"losses/{number}", record.losses)
        ],
    }
    viewer.end_view()
    return shown


def _server(key: str, watched: Watched, record: ServerRecord, viewer: Viewer) -> dict[str, Any]:
    row: dict[str, Any] = {
        "key": key, "label": printable(watched.label, NAME), "error": printable(record.error, TEXT),
        "admin": bool(watched.admin_sockets), "up": False,
    }  # fmt: skip
    figures = record.figures
    if figures is None or record.error:
        return row
    steps, episodes, received, sent, cpu = (record.rate(index) for index in range(5))
    totals = figures.totals
    return {
        **row,
        "up": True,
        "version": printable(figures.version, NAME),
        "entrypoint": printable(figures.entrypoint, NAME),
        "principal": printable(figures.principal, NAME),
        "operator": figures.is_operator,
        "frames": figures.frames_allowed,
        "draining": figures.draining,
        "uptime": number_or_none(record.time - figures.started),
        "sessions": figures.sessions,
        "max_sessions": figures.max_sessions,
        "envs": figures.envs,
        "max_envs": figures.max_envs,
        "workers": len(record.workers),
        "restarts": figures.worker_restarts,
        "refusals": figures.refusals,
        "rate": number_or_none(steps),
        "episode_rate": number_or_none(episodes),
        "steps": totals.env_steps,
        "episodes": totals.episodes,
        "received": number_or_none(received),
        "sent": number_or_none(sent),
        "cpu": number_or_none(cpu),
        "lag": number_or_none(figures.loop_lag_seconds),
        "memory": figures.memory_bytes,
        "workers_memory": figures.workers_memory_bytes,
        "curves": {"rate": [number_or_none(one) for one in viewer.news(f"server/{key}", record.rates)]},
    }


def _sessions(servers: list[tuple[Watched, ServerRecord]], viewer: Viewer) -> dict[str, Any]:
    find = viewer.find.lower()
    every = [
        (number, watched, one) for number, (watched, record) in enumerate(servers) for one in record.sessions.values()
    ]
    found = [each for each in every if not find or find in _findable(each[1], each[2].figures)]
    found.sort(key=lambda each: SORTS["age"](each[2]))
    found.sort(key=lambda each: SORTS[viewer.sort](each[2]))
    return {
        "total": len(every),
        "found": len(found),
        "rows": [_session(number, watched, one, viewer) for number, watched, one in found[: viewer.rows]],
    }


def _findable(watched: Watched, figures: SessionFigures) -> str:
    return "\n".join((figures.principal, figures.peer, figures.id.hex(), watched.label, figures.state)).lower()


def session_key(number: int, identity: bytes) -> str:
    """Return what the page calls a session of the server `number`."""
    return f"{number}.{identity.hex()}"


def _session(number: int, watched: Watched, record: SessionRecord, viewer: Viewer) -> dict[str, Any]:
    figures, key = record.figures, session_key(number, record.figures.id)
    episodes = viewer.news(f"episodes/{key}", record.episodes)
    return {
        "key": key,
        "server": printable(watched.label, NAME),
        "id": figures.id.hex(),
        "principal": printable(figures.principal, NAME),
        "peer": printable(figures.peer, NAME),
        "envs": figures.envs,
        "state": printable(figures.state, NAME),
        "kept": number_or_none(figures.kept_seconds) if figures.state == "detached" else None,
        "lease": number_or_none(figures.lease_seconds),
        "age": number_or_none(figures.age_seconds),
        "running": figures.running,
        "rate": number_or_none(record.rate),
        "steps": figures.totals.env_steps,
        "episodes": figures.totals.episodes,
        "lost": figures.totals.lost_episodes,
        "mean_return": number_or_none(figures.mean_return) if figures.totals.episodes else None,
        "mean_length": number_or_none(figures.mean_length) if figures.totals.episodes else None,
        "workers": list(figures.workers)[:64],
        "render_mode": printable(figures.render_mode, NAME),
        "curves": {
            "rate": [number_or_none(one) for one in viewer.news(f"rates/{key}", record.rates)],
            "return": [number_or_none(one) for one, _ in episodes],
            "length": [number_or_none(one) for _, one in episodes],
        },
    }


def _workers(servers: list[tuple[Watched, ServerRecord]], viewer: Viewer) -> dict[str, Any]:
    every = [
        (number, watched, one) for number, (watched, record) in enumerate(servers) for one in record.workers.values()
    ]
    busy = [share for _, _, one in every if (share := one.busy) is not None]
    return {
        "total": len(every),
        "busy": number_or_none(sum(busy) / len(busy) if busy else None),
        "rows": [_worker(*each) for each in every[: viewer.rows]],
    }


def _worker(number: int, watched: Watched, record: WorkerRecord) -> dict[str, Any]:
    figures = record.figures
    return {
        "key": f"{number}.{figures.index}",
        "server": printable(watched.label, NAME),
        "index": figures.index,
        "process": figures.process,
        "principal": printable(figures.principal, NAME),
        "envs": figures.envs,
        "busy": number_or_none(record.busy),
        "rate": number_or_none(record.rate),
        "step": [number_or_none(record.step_seconds(share)) for share in PERCENTILES],
        "restarts": figures.restarts,
    }


def _loss(key: str, watched: Watched, loss: WorkerLoss) -> dict[str, Any]:
    lines = loss.output.splitlines()[-MAX_OUTPUT_LINES:]
    return {
        "key": key,
        "server": printable(watched.label, NAME),
        "time": number_or_none(loss.time),
        "worker": loss.worker,
        "process": loss.process,
        "reason": printable(loss.reason, TEXT),
        "output": "\n".join(printable(line, TEXT) for line in lines),
        "sessions": [one.hex() for one in loss.sessions][:8],
    }


def _finite(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def number_or_none(value: float | None) -> float | int | None:
    """Return a number that JSON has, of as many digits as anybody reads; None: there is none."""
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.6g}")
