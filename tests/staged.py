"""Servers that are played: snapshots and pictures in the shape that `Watch` tells them, of any number of sessions.

For what is made of them; what makes them has tests of its own.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from remote_gym.dashboard.settings import Watched
from remote_gym.figures import (
    Episode,
    Frame,
    Frames,
    HistogramFigures,
    ServerFigures,
    SessionFigures,
    Snapshot,
    Totals,
    WorkerFigures,
    WorkerLoss,
)
from remote_gym.png import encode_png

BOUNDS = (1e-5, 1e-4, 1e-3, 1e-2, math.inf)
BEGAN = 1_700_000_000.0


def png(width: int = 6, height: int = 4, shade: int = 128) -> bytes:
    """A picture of one colour."""
    return encode_png(np.full((height, width, 3), (shade, 255 - shade, 90), np.uint8))


def identity(number: int) -> bytes:
    return number.to_bytes(16, "big")[::-1]


def session(number: int, tick: int, **changed: Any) -> SessionFigures:
    """Session `number` after `tick` seconds: 100 steps each, and an episode every second."""
    told = SessionFigures(
        id=identity(number), principal=f"user{number % 7}", peer=f"ipv4:10.0.0.{number % 250}:4{number:04}", envs=8,
        state="attached", lease_seconds=300.0, age_seconds=1_000.0 - number + tick,
        totals=Totals(10 * tick, (100 + number) * tick, tick, 0, 20.0 * tick, 100 * tick, 1.0 * tick),
        mean_return=20.0, mean_length=100.0,
        episodes=[Episode(tick % 8, 20.0 + tick % 5, 100, 1.0, BEGAN + tick)], workers=[number % 2],
        autoreset_mode="NextStep", render_mode="rgb_array",
    )  # fmt: skip
    return told._replace(**changed)


def worker(index: int, tick: int, **changed: Any) -> WorkerFigures:
    """Worker `index`: busy half of the time, 1,000 steps a second."""
    counts = [0, 900 * tick, 90 * tick, 10 * tick, 0]
    told = WorkerFigures(
        index=index, process=4_000 + index, principal="user0", envs=8, busy_seconds=0.5 * tick, steps=1_000 * tick,
        steps_seconds=0.4 * tick, step_seconds=HistogramFigures(BOUNDS, counts, 0.4 * tick), started=BEGAN,
    )  # fmt: skip
    return told._replace(**changed)


def loss(number: int, **changed: Any) -> WorkerLoss:
    told = WorkerLoss(number, BEGAN + number, 1, 4_001, "signal 9", "a line\nthe last line", [identity(0)])
    return told._replace(**changed)


def snapshot(tick: int, sessions: int = 3, losses: tuple[WorkerLoss, ...] = (), **changed: Any) -> Snapshot:
    """What a server says after `tick` seconds."""
    server = ServerFigures(
        version="1.0.0", entrypoint="CartPole-v1", process=4_000, server_epoch=b"epoch", started=BEGAN - 3_700,
        sessions=sessions, max_sessions=1_024, envs=8 * sessions, max_envs=16_384, num_workers=2, is_operator=True,
        frames_allowed=True, principal="uid:0", totals=Totals(10 * tick, 3_000 * tick, 3 * tick),
        received_bytes=50_000 * tick, sent_bytes=200_000 * tick, loop_lag_seconds=0.0003, memory_bytes=80 * 2**20,
        cpu_seconds=0.2 * tick, workers_memory_bytes=120 * 2**20,
    )._replace(**changed)  # fmt: skip
    told = [session(number, tick) for number in range(sessions)]
    return Snapshot(BEGAN + tick, server, told, [worker(0, tick), worker(1, tick)], losses)


class Played:
    """A call whose other side is `tell`, which gets how often it was asked."""

    def __init__(self, tell: Callable[[int], Any], period_seconds: float) -> None:
        self._tell, self._period_seconds = tell, period_seconds
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[Any]:
        tick = 0
        while not self.closed.is_set():
            tick += 1
            yield self._tell(tick)
            self.closed.wait(self._period_seconds)

    def close(self) -> None:
        self.closed.set()


class Stage:
    """What stands in for `Watch` calls: `ask` begins one, and each is kept in `calls`."""

    def __init__(self, tell: Callable[[int], Any] = snapshot, period_seconds: float = 0.05) -> None:
        self.tell, self.period_seconds = tell, period_seconds
        self.calls: list[tuple[Watched, dict[str, Any], Played]] = []

    def ask(self, watched: Watched, arguments: dict[str, Any]) -> Played:
        tell = self.tell
        if arguments.get("frames_only"):
            wanted = arguments["frames"]

            def tell(tick: int) -> Frames:
                return Frames([
                    Frame(one.session, one.env, "image/png", png(90, 60, 20 * tick % 256), 90, 60, float(tick), tick,
                          "", BEGAN + tick)
                    for one in wanted
                ])  # fmt: skip

        call = Played(tell, self.period_seconds)
        self.calls.append((watched, arguments, call))
        return call
