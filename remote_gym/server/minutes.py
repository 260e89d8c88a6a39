"""Server process: a line of the log each minute in which something has happened: how fast, for whom, how well."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from remote_gym.server.json_lines import FIELDS
from remote_gym.server.sessions import Sessions

logger = logging.getLogger("remote_gym.server")

INTERVAL_SECONDS = 60.0


class _Counted(NamedTuple):
    """What rises while something happens."""

    env_steps: int
    episodes: int
    finite_returns: int
    return_sum: float
    worker_restarts: int
    refusals: int


class Minutes:
    """Tells the log of one server's sessions, together."""

    def __init__(self, sessions: Sessions, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to count."""
        self._sessions = sessions
        self._clock = clock
        self._since, self._before = clock(), self._counted()

    def _counted(self) -> _Counted:
        counters = self._sessions.counters
        returns, restarts = counters.episode_return, self._sessions.pool.restarts
        refusals = sum(counters.refusals.values())
        return _Counted(counters.env_steps, counters.episodes, returns.count, returns.total, restarts, refusals)

    async def tell(self) -> None:
        """Tell for ever."""
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            for session in list(self._sessions.by_id.values()):
                session.episodes.settle()
            self.look()

    def look(self) -> None:
        """Tell of what has happened since the last time, if anything has."""
        now, counted = self._clock(), self._counted()
        seconds, new = now - self._since, _Counted._make(a - b for a, b in zip(counted, self._before, strict=True))
        self._since, self._before = now, counted
        if not any(new):
            return
        held = self._sessions.describe()
        mean = new.return_sum / new.finite_returns if new.finite_returns else None
        fields: dict[str, Any] = {
            "event": "figures", "seconds": round(seconds, 3), "steps_per_second": round(new.env_steps / seconds, 1),
            "sessions": held.sessions, "envs": held.envs, "episodes": new.episodes,
            "mean_return": None if mean is None else round(mean, 6), "worker_restarts": new.worker_restarts,
            "refusals": new.refusals,
        }  # fmt: skip
        logger.info(
            "last %.0f s: %s steps/s, %s, %s, %s%s%s",
            seconds,
            f"{new.env_steps / seconds:,.0f}",
            _number(held.sessions, "session"),
            _number(held.envs, "env"),
            _number(new.episodes, "episode"),
            "" if mean is None else f" of mean return {mean:.4g}",
            "".join(
                f", {_number(count, what)}"
                for count, what in ((new.worker_restarts, "worker restart"), (new.refusals, "refusal"))
                if count
            ),
            extra={FIELDS: fields},
        )


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
