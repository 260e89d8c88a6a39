"""Server process: one server's figures, gathered. The event loop's thread only: they belong together then."""

from __future__ import annotations

from typing import Any

from remote_gym.server.counters import Histogram
from remote_gym.server.registry import Registry


def collect(registry: Registry) -> dict[str, Any]:
    """Return what `RemoteEnvironmentServer.statistics` documents."""
    description, counters, pool = registry.describe(), registry.counters, registry.pool
    return {
        "sessions": description.sessions,
        "envs": description.envs,
        "workers": len(pool.workers),
        "max_sessions": description.max_sessions,
        "max_envs": description.max_envs,
        "draining": description.draining,
        "worker_processes": [worker.pid for worker in pool.workers],
        "stored_reply_bytes": sum(session.ledger.stored_bytes for session in registry.sessions.values()),
        "held_bytes": dict(registry.holdings.bytes),
        "max_held_bytes": registry.holdings.limit_bytes,
        "event_loop_lag_last_seconds": counters.last_loop_lag_seconds,
        "opened_sessions": counters.opened_sessions,
        "requests": dict(counters.requests),
        "env_steps": counters.env_steps,
        "worker_restarts": pool.restarts,
        "attaches": counters.attaches,
        "replayed_answers": counters.replayed_answers,
        "refusals": dict(counters.refusals),
        "received_bytes": counters.received_bytes,
        "sent_bytes": counters.sent_bytes,
        "step_seconds": _histogram(counters.step_seconds),
        "event_loop_lag_seconds": _histogram(counters.loop_lag_seconds),
    }


def _histogram(histogram: Histogram) -> dict[str, Any]:
    return {"buckets": histogram.cumulative(), "sum": histogram.total}
