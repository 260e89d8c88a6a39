"""Calls made at once begin one after the other; those made one after another wait for nothing."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

from remote_gym.server.carriers.turns import AT_ONCE, Turns, client_key
from remote_gym.server.principals import ANONYMOUS, Principal

GAP = 0.01


class Context:
    """A call."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[Any], None]] = []

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def end(self) -> None:
        for callback in self._callbacks:
            callback(self)


def test_one_call_after_another_waits_for_nothing() -> None:
    async def main() -> None:
        turns = Turns(60.0)  # whoever waited would wait for the test's end
        for _ in range(50):
            context = Context()
            await turns.wait("alice", context)
            context.end()
        assert not turns._under_way
        assert not turns._latest

    asyncio.run(asyncio.wait_for(main(), 5.0))


def test_calls_made_at_once_begin_one_after_the_other() -> None:
    begun: list[float] = []

    async def call(turns: Turns) -> None:
        await turns.wait("alice", Context())
        begun.append(time.monotonic())

    async def main() -> None:
        turns = Turns(GAP)
        await asyncio.gather(*(call(turns) for _ in range(AT_ONCE + 9)))

    asyncio.run(main())
    assert begun[-1] - begun[0] >= 0.9 * 9 * GAP  # sleeping is as exact as the clock
    assert all(after > before for before, after in itertools.pairwise(begun[AT_ONCE:]))


def test_calls_that_last_count_while_they_begin() -> None:
    async def main() -> float:
        turns, began = Turns(GAP), time.monotonic()
        await asyncio.gather(*(turns.wait("alice") for _ in range(AT_ONCE + 2)))
        took = time.monotonic() - began
        while turns._under_way:
            await asyncio.sleep(GAP)
        return took

    assert asyncio.run(asyncio.wait_for(main(), 5.0)) >= 0.9 * 2 * GAP


def test_clients_do_not_wait_for_each_other() -> None:
    async def main() -> None:
        turns = Turns(60.0)
        for client in ["alice"] * AT_ONCE + ["bob"] * AT_ONCE:
            await turns.wait(client, Context())

    asyncio.run(asyncio.wait_for(main(), 5.0))


def test_who_leaves_while_waiting_is_forgotten() -> None:
    async def main() -> None:
        turns, contexts = Turns(60.0), [Context() for _ in range(AT_ONCE + 1)]
        waiting = [asyncio.ensure_future(turns.wait("alice", context)) for context in contexts]
        await asyncio.sleep(0)
        assert [one.done() for one in waiting] == [True] * AT_ONCE + [False]
        waiting[-1].cancel()
        await asyncio.wait(waiting)
        for context in contexts:
            context.end()
        assert not turns._under_way
        assert not turns._latest

    asyncio.run(asyncio.wait_for(main(), 5.0))


def test_whose_turn_it_is() -> None:
    assert client_key(Principal("alice"), "ipv4:10.0.0.1:5") == client_key(Principal("alice"), "ipv4:10.0.0.2:6")
    assert client_key(ANONYMOUS, "ipv4:10.0.0.1:5") == client_key(ANONYMOUS, "ipv4:10.0.0.1:6")
    assert client_key(ANONYMOUS, "ipv4:10.0.0.1:5") != client_key(ANONYMOUS, "ipv4:10.0.0.2:5")
