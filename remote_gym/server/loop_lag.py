"""Server process: how late the event loop is. All sessions share it, so what blocks it delays everybody."""

from __future__ import annotations

import asyncio

from remote_gym.server.counters import Counters

INTERVAL_SECONDS = 0.25
"""Between measurements: a loop that is blocked for longer is always seen, and four wake-ups a second cost nothing."""


async def watch_loop_lag(counters: Counters) -> None:
    """Measure for ever."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL_SECONDS
        await asyncio.sleep(INTERVAL_SECONDS)
        counters.observe_loop_lag(max(0.0, loop.time() - due))
