"""Trainer process, no I/O: what `RemoteVectorEnv.statistics` tells: figures of each server, and of all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from remote_gym.client.fleet import Fleet
from remote_gym.client.pace import Judged, judged
from remote_gym.client.shards import Shard
from remote_gym.client.tallies import Tally, tallies_by_server, took_by_server
from remote_gym.figures import percentiles
from remote_gym.messages import Load


def collect(fleet: Fleet) -> dict[str, Any]:
    """Return what `RemoteVectorEnv.statistics` documents; dials nothing, asks nobody."""
    layout = fleet.layout  # another thread may be moving some
    shards = layout.shards
    paces, tallies = judged(took_by_server(shards)), tallies_by_server(shards, fleet.gone)
    servers = {
        name: _server({one: len(layout.at(one)) for one in shards if one.name == name}, tally, paces.get(name))
        for name, tally in tallies.items()
    }
    whole = sum(tallies.values(), Tally())
    counted = asdict(whole)
    return {
        "rows": sum(len(rows) for rows in layout.rows.values()),
        "homeless": len(fleet.homeless),
        **{name: counted[name] for name in ("env_steps", "sent_bytes", "received_bytes", "reconnects")},
        "moves": whole.moved_in,
        "stragglers": [name for name, pace in paces.items() if pace.is_straggler],
        "servers": servers,
    }


def _server(shards: Mapping[Shard, int], tally: Tally, pace: Judged | None) -> dict[str, Any]:
    """Return the figures of one server, with `shards` on it, each with so many rows."""
    loads = [load for shard in shards if (load := shard.session.outstanding.load) is not None]
    seen = percentiles(second for shard in shards for second in shard.took.copy())
    workers = [shard.hosted.workers for shard in shards if shard.hosted.workers is not None]
    newest = loads[-1] if loads else None
    return {
        "rows": sum(shards.values()),
        **asdict(tally),
        "straggling": pace is not None and pace.is_straggler,
        "step_seconds": None if seen is None else seen._asdict(),
        "server_step_seconds": None if newest is None else _told_of_steps(loads),
        "env_step_seconds": newest.env_step_seconds if newest is not None and newest.env_step_seconds > 0 else None,
        "workers": newest.num_workers if newest is not None else workers[-1] if workers else None,
        "envs": None if newest is None else newest.envs,
    }


def _told_of_steps(loads: Sequence[Load]) -> dict[str, float]:
    """Return what a server says of the steps of its sessions: of several, of the slowest."""
    return {name: max(getattr(load, f"step_seconds_{name}") for load in loads) for name in ("p50", "p90", "p99")}
