"""Rows on two servers, on fake carriers, with a mover that finds what a test tells it to."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
from faking import OBSERVATION, FakeConnection, fleet_of
from gymnasium.vector import AutoresetMode

from remote_gym import SessionLost, TimedOut
from remote_gym.client.actions import Actions
from remote_gym.client.exchange import Exchange
from remote_gym.client.observations import Observations
from remote_gym.client.parts import Part
from remote_gym.client.shards import Moved
from remote_gym.client.transitions import TransitionReader
from remote_gym.messages import Lost

NEXT_STEP, SAME_STEP, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
HOLD = 0.5


class FakeMover:
    """Finds what it is told to."""

    def __init__(self) -> None:
        self.lost: list[range] = []
        self.arrived: deque[Moved] = deque()
        self.failure: SessionLost | None = None

    def lose(self, rows: range, _hosted: Any, _reason: str) -> None:
        self.lost.append(rows)

    def has_news(self) -> bool:
        return bool(self.arrived) or self.failure is not None

    def peek(self) -> Moved | None:
        return self.arrived[0] if self.arrived else None

    def took(self, _moved: Moved) -> None:
        self.arrived.popleft()

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure


class Stage:
    """An exchange over a server of rows 0 and 1 and one of rows 2, 3 and 4, all reset."""

    def __init__(self, mode: AutoresetMode, seed: int | None = 7) -> None:
        self.fleet, self.servers = fleet_of(2, 3)
        reader, observations = TransitionReader(OBSERVATION, 5), Observations(OBSERVATION, 5)
        settings: Any = SimpleNamespace(
            mode=mode, on_worker_failure="truncate", on_session_lost="move", move_timeout_seconds=HOLD
        )
        self.mover = FakeMover()
        self.exchange = Exchange(self.fleet, reader, observations, settings, self.mover)  # type: ignore[arg-type]
        self.exchange.counts = True
        observations.put_rows(range(5), [np.arange(10, dtype=np.float32).reshape(5, 2)])
        self.reset(range(5), None if seed is None else [seed + row for row in range(5)])
        for server in self.servers:
            server.answer()
        self.rows(range(5))

    def step(self, indices: Any = None) -> None:
        rows = 5 if indices is None else len(indices)
        self.exchange.step(indices, Actions([np.zeros(rows, np.int64)]))

    def reset(self, indices: Any, seeds: Any = None) -> None:
        self.exchange.reset(list(indices), seeds or [None] * len(indices), b"")

    def lose(self, server: int = 1, reason: str = "EXPIRED") -> None:
        connection = self.servers[server]
        connection.carrier.bring(Lost(reason, "it is gone"))
        while connection.session._protocol.lost is None:
            time.sleep(0.001)

    def arrive(self, first: int, count: int, reason: str = "") -> FakeConnection:
        self.servers.append(connection := FakeConnection(count))
        self.mover.arrived.append(Moved(connection, first, reason))  # type: ignore[arg-type]
        self.fleet.ring()
        return connection

    def until_sent(self, server: FakeConnection) -> None:
        """Look for answers until `server` has been sent something."""
        while not server.session.highest:
            with contextlib.suppress(TimedOut):
                assert not self.exchange.receive(0.01)

    def rows(self, wanted: Any) -> dict[int, tuple[Any, Part, int]]:
        """Receive until these rows are here: row -> (note, part, position)."""
        found: dict[int, tuple[Any, Part, int]] = {}
        while not found.keys() >= set(wanted):
            parts = list(self.exchange.receive(5.0))
            self.exchange.took()
            for part in parts:
                indices = range(5) if part.indices is None else part.indices
                for at, row in enumerate(indices):
                    assert row not in found, "once"
                    found[row] = part.notes.get(row, {}), part, at
        assert found.keys() == set(wanted)
        return found


def mode_of(stage: Stage) -> AutoresetMode:
    return stage.exchange._mode


def truncated(found: dict[int, tuple[Any, Part, int]], row: int) -> bool:
    _, part, at = found[row]
    return part.truncations is not None and bool(part.truncations[at])


def is_last(found: dict[int, tuple[Any, Part, int]], row: int, last: Any) -> bool:
    _, part, at = found[row]
    return bool((part.leaves[0][at] == last[row]).all())


def fresh(row: int, generation: int = 1) -> int:
    return int(np.random.SeedSequence([7 + row, row, generation]).generate_state(1)[0])
