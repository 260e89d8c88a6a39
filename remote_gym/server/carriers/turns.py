"""Server process: calls that one client makes at once begin one after the other; others' steps come in between.

Every call costs the event loop about as much as a step. Who makes hundreds at once would have them all handled before
the next step of anybody else is looked at. Calls that are made one after another, as a probe or a fleet's pings are,
wait for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from functools import partial
from typing import Any

from remote_gym.server.carriers.admission import peer_key
from remote_gym.server.principals import ANONYMOUS, Principal

AT_ONCE = 4
"""Calls of one client that wait for nothing: one that has just ended may still be under way when the next one comes."""

GAP_SECONDS = 0.002
"""Between the beginnings of more: several times what a call costs."""


class Turns:
    """Whose turn it is to be handled. Relies on: the event loop's thread. Knows nobody who has no call under way."""

    def __init__(self, gap_seconds: float = GAP_SECONDS) -> None:
        """Begin with nobody."""
        self._gap_seconds = gap_seconds
        self._under_way: dict[Hashable, int] = {}
        self._latest: dict[Hashable, float] = {}  # when the last of them begins, on the loop's clock

    async def wait(self, client: Hashable, context: Any = None) -> None:
        """Wait until a call of `client` may begin.

        It is under way until the call of `context`, a grpc.aio.ServicerContext, is over; None: it goes on, but costs
        nothing once it has begun.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        others = self._under_way.get(client, 0)
        begins = now if others < AT_ONCE else max(now, self._latest[client] + self._gap_seconds)
        self._under_way[client], self._latest[client] = others + 1, begins
        leave = partial(self._leave, client)
        if context is None:
            loop.call_at(begins + self._gap_seconds, leave)
        else:
            context.add_done_callback(lambda _call: leave())
        if begins > now:
            await asyncio.sleep(begins - now)

    def _leave(self, client: Hashable) -> None:
        self._under_way[client] -= 1
        if not self._under_way[client]:
            del self._under_way[client], self._latest[client]


def client_key(principal: Principal, peer: str) -> Hashable:
    """Return whose turn a call is: its principal's, or its address's where the principal is anybody."""
    return peer_key(peer) if principal == ANONYMOUS else principal.name
