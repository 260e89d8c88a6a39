"""What the results say: the README's table, what was aimed at, and where somebody else is faster.

    python benchmarks/summary.py [RESULTS.json ...]        default: the newest of each benchmark

Every ratio is between contenders of one run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import local
import report
import trainers
from throughput import CASES, REMOTE, TITLES

NAMES = ("throughput", "local", "trainers", "latency", "network", "scale", "fleet", "train")

Results = dict[str, list[dict[str, Any]]]
"""Name of the benchmark -> its cases."""

WHY = {
    "sync": "one process, no way between: a Python call for each environment, nothing else",
    "own-vector": "the same arithmetic on whole arrays, in the trainer's process",
    "remote-own-vector": "the same arithmetic on whole arrays, in one worker",
    "async": "processes that share memory with the trainer: nothing is encrypted, framed or copied twice",
    "sb3": "a pipe to each environment and no server between; ahead as long as environments are few",
    "puffer": "shared memory and workers that wait busily, in the trainer's machine",
    "ray": "shared memory on the trainer's machine, half a batch per call",
    "envpool": "the environment itself is C++: no Python at all in a step; local only",
    "rlmesh": "Rust on both ends of the wire, and no TLS",
    "local": "the same without TLS, on the trainer's machine",
    "echo": "gRPC alone: no environment, no session, no encoding",
    "tls": "TLS alone: no environment, no session, no encoding",
}


@dataclass(frozen=True)
class Target:
    """A ratio that is aimed at: `at_most` tells that less is better."""

    work: str
    measured: float | None
    least: float
    goal: float
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.measured is None:
            return "not measured"
        sign = -1 if self.at_most else 1
        if sign * self.measured >= sign * self.goal:
            return "goal"
        return "yes" if sign * self.measured >= sign * self.least else "NO"


def load(paths: Sequence[Path]) -> Results:
    """Return the cases of each benchmark."""
    results: Results = {}
    for path in paths:
        written = json.loads(path.read_text())
        results.setdefault(written["benchmark"], []).extend(written["results"])
    return results


def newest() -> list[Path]:
    """Return the newest results of each benchmark, quick ones left out; the date is in the name."""
    found = (sorted(report.RESULTS.glob(f"{name}-????-??-??.json"))[-1:] for name in NAMES)
    return [path for paths in found for path in paths]


def _ratio(results: Results, case: str, num_envs: int, ours: Sequence[str], theirs: str) -> float | None:
    """Return how many times the rate of `theirs` the best of `ours` has."""
    for one in results.get("throughput", []):
        if (one["case"], one["num_envs"]) == (case, num_envs) and theirs in one["median"]:
            rates = [one["median"][name] for name in ours if name in one["median"]]
            return max(rates) / one["median"][theirs] if rates else None
    return None


def _latency(results: Results, name: str, theirs: str) -> float | None:
    for one in results.get("latency", []):
        times = one["microseconds"]
        if name in times and theirs in times:
            return times[name]["p50"] / times[theirs]["p50"]  # type: ignore[no-any-return]
    return None


def _least_of_local(results: Results) -> float | None:
    medians = [one["median"] for one in results.get("local", []) if "local" in one["median"]]
    ratios = [median["local"] / median[best] for median in medians if (best := local.best_peer(median))]
    return min(ratios, default=None)


def _far(results: Results) -> float | None:
    for one in results.get("network", []):
        median = one["median"]
        far, near = median.get("send/recv | 20 ms round trip"), median.get("send/recv | 0 ms round trip")
        if one["case"] == "delay" and far and near:
            return far / near  # type: ignore[no-any-return]
    return None


def _part(results: Results, name: str) -> dict[str, Any]:
    return next((one for one in results.get("scale", []) if one["part"] == name), {})


def _servers(results: Results) -> float | None:
    median = _part(results, "servers").get("median", {})
    return median["8"] / median["1"] if {"8", "1"} <= set(median) else None


def _of_4096(results: Results, read: Callable[[dict[str, Any]], float]) -> float | None:
    part = _part(results, "environments")
    return read(part) if "4096" in part.get("median", {}) else None


def _open_seconds(part: dict[str, Any]) -> float:
    return part["open_seconds"]["4096"]  # type: ignore[no-any-return]


def _against_256(part: dict[str, Any]) -> float:
    return part["median"]["4096"] / part["median"]["256"]  # type: ignore[no-any-return]


def _overhead_megabytes(part: dict[str, Any]) -> float:
    few, many = part["memory"]["64"], part["memory"]["4096"]
    growth: float = max(many["worker_bytes"]) - max(few["worker_bytes"]) - many["bare_growth_bytes"]
    return growth / 1e6


def targets(results: Results) -> list[Target]:
    """Return what is aimed at, with what was measured."""
    cartpole, images, heavy_tail = (partial(_ratio, results, case) for case in ("cartpole", "images", "heavy-tail"))
    return [
        Target("one env: our time / bare gRPC echo's", _latency(results, "single", "echo"), 1.1, 0.8, at_most=True),
        Target("one env: original 0.7.3's time / ours", _latency(results, "original 0.7.3", "single"), 3, 4),
        Target("CartPole, 8 envs, step() / AsyncVectorEnv", cartpole(8, ["remote"], "async"), 1.5, 3),
        Target("CartPole, 64 envs, step() / SyncVectorEnv", cartpole(64, ["remote"], "sync"), 0.55, 0.8),
        Target("the same, two in flight", cartpole(64, ["halves", "two"], "sync"), 0.75, 1.1),
        Target("CartPole, 256 envs, step() / SyncVectorEnv", cartpole(256, ["remote"], "sync"), 1.05, 1.5),
        Target("64 images, copied / AsyncVectorEnv", images(64, ["remote"], "async"), 1.3, 1.8),
        Target("the same / bare TLS socket", images(64, ["remote"], "tls"), 0.45, 0.9),
        Target("heavy tail, batch_size=32 / step()", heavy_tail(64, ["batch"], "remote"), 3, 5),
        Target("local / the best peer, where that is least", _least_of_local(results), 1, 2),
        Target("20 ms round trip, send/recv / no delay", _far(results), 0.9, 0.97),
        Target("8 servers / 1 server", _servers(results), 5.5, 7),
        Target("4,096 envs: open after, s", _of_4096(results, _open_seconds), 20, 5, at_most=True),
        Target("4,096 envs: MB a worker beyond envs'", _of_4096(results, _overhead_megabytes), 60, 60, at_most=True),
        Target("4,096 envs / 256 envs, steps/s", _of_4096(results, _against_256), 1, 1),
    ]  # fmt: skip


def target_table(results: Results) -> str:
    """Return what is aimed at as a table."""
    rows = []
    for one in targets(results):
        sign = "≤" if one.at_most else "≥"
        measured = "" if one.measured is None else f"{one.measured:.2f}"
        rows.append([one.work, measured, f"{sign} {one.least:g}", f"{sign} {one.goal:g}", one.verdict])
    return report.table(["work", "measured", "at least", "goal", "reached"], rows)


def losses(results: Results) -> Iterator[tuple[str, str, float, str]]:
    """Yield every case in which somebody is faster than the best of ours: case, who, how many times, why.

    Ours is what is remote; in the runs of `local.py`, it is `local`.
    """
    for benchmark, names in (("throughput", (*REMOTE, "remote-own-vector")), ("local", ("local",))):
        for one in results.get(benchmark, []):
            ours = [one["median"][name] for name in names if name in one["median"]]
            for name, rate in sorted(one["median"].items(), key=lambda item: -item[1]):
                if ours and name in WHY and name not in names and rate > max(ours):
                    work = f"{one['case']}, {one['num_envs']:,} envs"
                    yield (
                        work if benchmark == "throughput" else f"local, {work}",
                        TITLES[name],
                        rate / max(ours),
                        WHY[name],
                    )


def loss_table(results: Results) -> str:
    """Return where others are faster as a table."""
    rows = [[case, who, f"{times:.1f}", why] for case, who, times, why in losses(results)]
    return report.table(["work", "faster than the best of ours", "times", "why"], rows)


def headline(results: Results) -> str:
    """Return the README's table: `step()` of each work and, where measured, what keeps two batches in flight."""
    rows = []
    for one in results.get("throughput", []):
        median, num_envs = one["median"], one["num_envs"]
        ways = {
            "remote": f"{CASES[one['case']].words}, {num_envs} envs",
            "two": f"… two vector envs of {num_envs} in flight",
            "batch": f"… `batch_size={one.get('batch_size')}`, {one.get('num_workers')} workers",
        }
        for name, work in ways.items():
            if name in median:
                times = [_times(median[name] / median[peer]) if peer in median else "" for peer in ("async", "sync")]
                beside = f"{median['local']:,.0f}" if name == "remote" and "local" in median else ""
                rows.append([work, f"{median[name]:,.0f}", *times, beside])
    header = ["work", "remote", "× `AsyncVectorEnv`", "× `SyncVectorEnv`", "`RemoteVectorEnv.local`"]
    return report.table(header, rows)


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 1 else f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def main(command_line: Sequence[str] | None = None) -> None:
    """Read results, print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("results", nargs="*", type=Path)
    paths = parser.parse_args(command_line).results or newest()
    results = load(paths)
    print("From:", *(f"- {path.name}" for path in paths), sep="\n")
    print(f"\n## Environment steps per second\n\n{headline(results)}\n")
    print(f"## `local` beside its peers\n\n{local.as_table(results.get('local', []))}\n")
    beside = trainers.as_table(results.get("trainers", []))
    print(f"## Each trainer's own vectorisation, and ours in its place\n\n{beside}\n")
    print(f"## What was aimed at\n\n{target_table(results)}\n")
    print(f"## Where others are faster\n\n{loss_table(results)}")


if __name__ == "__main__":
    main()
