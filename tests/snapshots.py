"""Snapshots of a server, as `Watch` tells them, for tests of those who show them."""

from __future__ import annotations

import math
from typing import Any

from remote_gym.figures import (
    Episode,
    HistogramFigures,
    ServerFigures,
    SessionFigures,
    Snapshot,
    Totals,
    WorkerFigures,
    WorkerLoss,
)

BOUNDS = (0.001, 0.01, 0.1, math.inf)


def session(number: int = 1, second: float = 0.0, steps_per_second: int = 1_000, **fields: Any) -> SessionFigures:
    """Return a session that has stepped for `second` seconds."""
    usual = {
        "id": bytes([number]) * 16, "principal": "anonymous", "peer": f"ipv4:127.0.0.1:{50_000 + number}", "envs": 64,
        "state": "attached", "lease_seconds": 300.0, "age_seconds": second, "autoreset_mode": "NextStep",
        "totals": Totals(env_steps=int(steps_per_second * second)),
    }  # fmt: skip
    return SessionFigures(**{**usual, **fields})


def worker(index: int = 0, second: float = 0.0, busy: float = 0.5, **fields: Any) -> WorkerFigures:
    """Return a worker that was busy for a share of `second` seconds, with 100 steps of a millisecond in each."""
    counts = (0, int(100 * second), 0, 0)
    usual = {
        "index": index, "process": 4_000 + index, "principal": "anonymous", "envs": 32, "busy_seconds": busy * second,
        "steps": int(100 * second), "step_seconds": HistogramFigures(BOUNDS, counts, 0.005 * second),
    }  # fmt: skip
    return WorkerFigures(**{**usual, **fields})


def loss(number: int = 1, **fields: Any) -> WorkerLoss:
    return WorkerLoss(**{"number": number, "time": 1_000.0, "process": 3_999, "reason": "signal 9", **fields})


def snapshot(
    second: float = 0.0,
    sessions: Any = None,
    workers: Any = None,
    losses: Any = (),
    **fields: Any,
) -> Snapshot:
    """Return what a server tells that was started at 900 and has served since 1,000 for `second` seconds."""
    sessions = [session(1, second), session(2, second, 500)] if sessions is None else sessions
    workers = [worker(0, second), worker(1, second)] if workers is None else workers
    steps = sum(one.totals.env_steps for one in sessions)
    usual = {
        "version": "1.0.0", "entrypoint": "CartPole-v1", "server_epoch": b"e" * 16, "started": 900.0,
        "sessions": len(sessions), "max_sessions": 1_024, "envs": sum(one.envs for one in sessions), "max_envs": 16_384,
        "num_workers": len(workers), "totals": Totals(env_steps=steps), "received_bytes": int(2_048 * second),
        "sent_bytes": int(4_096 * second), "cpu_seconds": 0.25 * second, "memory_bytes": 2**27,
        "loop_lag_seconds": 0.0003,
    }  # fmt: skip
    return Snapshot(1_000.0 + second, ServerFigures(**{**usual, **fields}), sessions, workers, losses)


def episodes(*returns: float) -> list[Episode]:
    return [Episode(0, one, 20, 0.1, 1_000.0) for one in returns]
