"""Is `RemoteVectorEnv.local` faster than what one would pick for a single machine? One table, one run.

    python benchmarks/local.py                              with the peers that are installed; five minutes
    python benchmarks/local.py --peers sb3 puffer ray       installs these first, each in a virtual environment
    python benchmarks/local.py --work cartpole-64 --peers none

Peers are what steps Python environments in other processes of this machine. `SyncVectorEnv`, in the trainer's own
process, and remote over mutual TLS stand beside them. All contenders of a line took turns; one that does not start is
left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import quiet
import report
import serving
from throughput import CASES, TITLES, measure, wanted_peers

WORK = {f"{case}-{num_envs}": (case, num_envs) for case, num_envs in (
    ("cartpole", 8), ("cartpole", 64), ("cartpole", 256), ("images", 64), ("halfcheetah", 64),
)}  # fmt: skip
OURS = ("local", "remote")
INSTALLABLE = ("sb3", "puffer", "ray")
PEERS = ("async", *INSTALLABLE)
HEADER = {
    "local": "`local`", "async": "`AsyncVectorEnv`", "sb3": "SB3 `SubprocVecEnv`", "puffer": "PufferLib", "ray": "Ray",
    "sync": "`SyncVectorEnv`", "remote": "remote",
}  # fmt: skip


def best_peer(median: dict[str, float]) -> str | None:
    """Return which peer was the fastest."""
    return max((name for name in PEERS if name in median), key=lambda name: median[name], default=None)


def as_table(results: Iterable[dict[str, Any]]) -> str:
    """Return the medians of all works, environment steps per second, and how many times its best peer `local` is."""
    rows = []
    for one in results:
        median = one["median"]
        best = best_peer(median)
        ratio = f"{median['local'] / median[best]:.2f} ({best})" if best and "local" in median else ""
        cells = [f"{median[name]:,.0f}" if name in median else "" for name in HEADER]
        rows.append([f"{CASES[one['case']].words}, {one['num_envs']} envs", *cells, ratio])
    return report.table(["work", *HEADER.values(), "`local` × best peer"], rows)


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = report.parser(__doc__, "local")
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument(
        "--peers", nargs="+", default=["installed"], choices=("installed", "all", "none", *INSTALLABLE), metavar="PEER",
        help=f"installed (default), all (installs them first), none, or names of {', '.join(INSTALLABLE)}",
    )  # fmt: skip
    arguments = report.parse(parser, command_line)
    peers = wanted_peers(arguments.peers, INSTALLABLE)
    left_out = {name: why for name, why in peers.items() if why is not None}
    names = [*OURS, "sync", "async", *(name for name in peers if name not in left_out)]
    written = report.Report("local", arguments, peers_left_out=left_out)
    kept = []
    with serving.certificates() as directory:
        keeper = quiet.Keeper(written, directory, arguments.quick)
        for work in arguments.work:
            case, num_envs = WORK[work]
            result = keeper.keep(partial(measure, case, CASES[case], names, num_envs, directory, arguments))
            if result is not None:
                kept.append(result)
    print(f"\n{as_table(kept)}\n")
    for one in kept:
        for name, reason in one["failed"].items():
            print(f"left out of {one['case']}, {one['num_envs']}: {TITLES[name]}: {reason}")
    for name, reason in left_out.items():
        print(f"left out: {TITLES[name]}: {reason}")
    written.done()


if __name__ == "__main__":
    main()
