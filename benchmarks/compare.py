"""Is one checkout slower than another? Both in one run, in turns, with intervals; and where the CPU time goes.

First, what this machine can tell apart at all: the same checkout twice (an A/A pair). Its intervals should hold 1.

    python benchmarks/compare.py a=. b=.

Then the question. Ratios are times of a step, to the first checkout's: above 1 is slower.

    git worktree add ../before main
    python benchmarks/compare.py before=../before after=.

"No slower" is a ratio whose interval holds 1, or lies below it, in every case, while the A/A pair's interval is narrow
enough to have shown what matters. Each checkout has a server with two workers and a client in processes of their own,
over mutual TLS on loopback. They take turns, in a new random order each round; what is compared is the median of each
round's steps. The interval is that of the ratio of the medians over the rounds, by resampling rounds (percentile
bootstrap, 95 %). CPU time is what the kernel counts for each process (Linux), per step. The dependencies of all
checkouts are those installed here.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import quiet
import report
import serving
from slices import Contender, Slice
from watch import Watch, descendants

CASES = {
    "one": ("single", "CartPole-v1", 1),
    "cartpole-64": ("timed", "CartPole-v1", 64),
    "cartpole-256": ("timed", "CartPole-v1", 256),
    "images-64": ("timed", "image", 64),
}
"""Contender, environment, how many. The first is a `RemoteEnvironment`, all others are a `RemoteVectorEnv`."""

NUM_WORKERS = 2
WARM_UP_SECONDS = 1.0
RESAMPLES = 2_000
ROLES = ("client", "server", "workers")


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return how long all threads of the processes have run; 0 where the kernel does not tell."""
    total = 0
    for pid in pids:
        for counted in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(counted.read_text().split()[0])
            except OSError:  # the thread has just ended
                continue
    return total / 1e9


@dataclass
class Checkout:
    """A server and a client of one checkout, running, and what each round gave."""

    client: Slice
    processes: dict[str, list[int]]
    microseconds: list[float] = field(default_factory=list)  # the median step of each round
    cpu: dict[str, list[float]] = field(default_factory=lambda: {role: [] for role in ROLES})  # the same, per step

    def run(self, seconds: float) -> None:
        """Run a round."""
        before = {role: cpu_seconds(pids) for role, pids in self.processes.items()}
        answer = self.client.run(seconds)
        self.microseconds.append(statistics.median(answer["microseconds"]))
        for role, pids in self.processes.items():
            self.cpu[role].append((cpu_seconds(pids) - before[role]) * 1e6 / answer["steps"])


def start(path: Path, case: str, directory: Path, stack: ExitStack) -> Checkout:
    """Start server and client of a checkout; they end with `stack`."""
    kind, env, num_envs = CASES[case]
    variables = {"PYTHONPATH": str(path)}
    server, address = stack.enter_context(
        serving.served(env, NUM_WORKERS, directory, environment={**os.environ, **variables})
    )
    config = {"addresses": [address], "credentials": serving.client_paths(directory), "num_envs": num_envs}
    client = Slice(Contender(f"remote:{kind}", config, environment=variables))
    stack.callback(client.close)
    client.wait_until_ready()
    client.run(WARM_UP_SECONDS)
    processes = {"client": [client.pid], "server": [server.pid], "workers": descendants(server.pid)}
    return Checkout(client, processes)


def interval(ours: list[float], theirs: list[float], chance: random.Random) -> tuple[float, float, float]:
    """Return the ratio of the medians, and its 95 % interval over resampled rounds; a round's two belong together."""
    ratios = []
    for _ in range(RESAMPLES):
        chosen = chance.choices(range(len(ours)), k=len(ours))
        ratios.append(statistics.median(ours[at] for at in chosen) / statistics.median(theirs[at] for at in chosen))
    ratios.sort()
    low, high = ratios[int(0.025 * RESAMPLES)], ratios[int(0.975 * RESAMPLES) - 1]
    return statistics.median(ours) / statistics.median(theirs), low, high


def measure(case: str, trees: dict[str, Path], directory: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all checkouts in turn; return the figures of one case."""
    chance = random.Random(arguments.seed)
    with ExitStack() as stack:
        running = {name: start(path, case, directory, stack) for name, path in trees.items()}
        watch = Watch()
        for _ in range(arguments.repeats):
            for checkout in chance.sample(list(running.values()), len(running)):
                checkout.run(arguments.seconds)
        others = watch.others
    first = next(iter(running.values()))
    return {"case": case, "others_cores": others, "num_envs": CASES[case][2], "checkouts": {
        name: {
            "microseconds": statistics.median(one.microseconds),
            **dict(zip(("ratio", "low", "high"), interval(one.microseconds, first.microseconds, chance), strict=True)),
            "cpu_microseconds": {role: statistics.median(one.cpu[role]) for role in ROLES},
            "rounds": one.microseconds,
        }
        for name, one in running.items()
    }}  # fmt: skip


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Return the lines of a case's table."""
    return [
        [
            f"{result['case']}, {name}",
            f"{one['microseconds']:,.0f}",
            f"{one['ratio']:.3f}",
            f"{one['low']:.3f} to {one['high']:.3f}",
            *(f"{one['cpu_microseconds'][role]:,.0f}" for role in ROLES),
        ]
        for name, one in result["checkouts"].items()
    ]


def checkout_of(text: str) -> tuple[str, Path]:
    """Read NAME=PATH; see that what would be measured is what lies there."""
    name, equals, path = text.partition("=")
    folder = Path(path).resolve()
    if not equals or not (folder / "remote_gym" / "__init__.py").exists():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH with a checkout at PATH")
    command = [sys.executable, "-c", "import remote_gym; print(remote_gym.__file__)"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    found = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/").stdout.strip()
    if not Path(found).is_relative_to(folder):
        raise argparse.ArgumentTypeError(f"with PYTHONPATH={folder} Python imports {found or 'nothing'}")
    return name, folder


def version_of(path: Path) -> str | None:
    """Return the commit of a checkout, ``+`` if it was changed since; None if it has none."""
    done = subprocess.run(["git", "-C", str(path), "describe", "--always", "--dirty=+"], capture_output=True, text=True)
    return done.stdout.strip() or None


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure and tell."""
    parser = report.parser(__doc__, "compare", seconds=0.2)
    parser.set_defaults(repeats=40)
    parser.add_argument("checkouts", nargs="+", type=checkout_of, metavar="NAME=PATH", help="first: the base")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--seed", type=int, default=0, help="of the order and of resampling (default: %(default)s)")
    arguments = report.parse(parser, command_line)
    trees = dict(arguments.checkouts)
    if len(trees) < max(2, len(arguments.checkouts)):
        parser.error("two checkouts or more, each by a name of its own")
    written = report.Report(
        "compare", arguments, workers=NUM_WORKERS, seed=arguments.seed,
        checkouts={name: version_of(path) for name, path in trees.items()},
    )  # fmt: skip
    lines = []
    with serving.certificates({**os.environ, "PYTHONPATH": str(next(iter(trees.values())))}) as directory:
        keeper = quiet.Keeper(written, directory, arguments.quick)
        for case in arguments.cases:
            result = keeper.keep(partial(measure, case, trees, directory, arguments))
            if result is not None:
                lines += rows(result)
    header = ["one step", "microseconds", "× first", "95 % interval", *(f"CPU of {role}" for role in ROLES)]
    print(report.table(header, lines))
    written.done()


if __name__ == "__main__":
    main()
