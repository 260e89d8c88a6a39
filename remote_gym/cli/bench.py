"""The user's terminal: ``remote-gym bench``. How many workers and environments for the user's own environment?"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import shlex
import sys
import time
from collections.abc import Iterator
from typing import Any

from remote_gym.cli.entrypoints import add_entrypoint, check_file
from remote_gym.cli.kinds import COUNT, SECONDS, integer
from remote_gym.cli.sizing import Choices, Profile, Trial, best, choices, reasons, search, seconds
from remote_gym.errors import RemoteGymError
from remote_gym.processes import usable_cores

DESCRIPTION = (
    "Serve an environment here, over loopback, with different numbers of workers and environments and batch sizes; "
    "print how fast each was, the best, and why. Nothing else should run on the machine meanwhile."
)

DEFAULT_SECONDS = 60.0
MEASURING_SHARE = 0.6
"""Of the time there is, what is spent stepping; the rest starts servers and builds environments."""
LOCAL_SHARE = 0.03
SHORTEST_TRIAL_SECONDS, LONGEST_TRIAL_SECONDS = 0.1, 1.5
"""More makes the figure no better: what drifts, drifts in minutes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_entrypoint(parser)
    parser.add_argument(
        "--seconds", type=SECONDS.argument, default=DEFAULT_SECONDS, metavar=SECONDS.metavar,
        help="how long it may take, about (default: %(default)g)",
    )  # fmt: skip
    for flag, kind, told in (
        ("--num-workers", COUNT, "try these only"),
        ("--num-envs", COUNT, "try these only"),
        ("--batch-size", integer(0), "of send/recv; try these only (0: step() alone)"),
    ):
        parser.add_argument(flag, type=kind.argument, nargs="+", metavar=kind.metavar, help=told)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, and return the exit code."""
    check_file(arguments.entrypoint, "ENTRYPOINT")
    from remote_gym.cli import trials
    from remote_gym.worker.entrypoint import Recipe

    deadline = time.monotonic() + arguments.seconds
    recipe = Recipe(arguments.entrypoint, arguments.entrypoint_kwargs, None)
    profile = trials.profile(recipe, LOCAL_SHARE * arguments.seconds)
    local = _local_rate(recipe, LOCAL_SHARE * arguments.seconds)
    cores = usable_cores()
    print(
        f"{arguments.entrypoint}: a step takes {seconds(profile.step_seconds)} (one in a hundred "
        f"{seconds(profile.slow_step_seconds)}), {profile.busy_share:.0%} of it work; {cores} cores"
    )
    rates = _try(arguments, _chosen(arguments, profile, cores), deadline)
    _print_table(rates, local)
    _print_best(arguments, rates, reasons(profile, rates, cores, local))
    return 0


def _local_rate(recipe: Any, time_seconds: float) -> float | None:
    from remote_gym.cli import trials

    try:
        return trials.local_rate(recipe, time_seconds)
    except RemoteGymError as error:
        print(f"no local SyncVectorEnv to compare with: {error}", file=sys.stderr)
        return None


def _chosen(arguments: argparse.Namespace, profile: Profile, cores: int) -> Choices:
    made = choices(profile, cores, arguments.seconds)
    made.workers = arguments.num_workers or made.workers
    made.envs = arguments.num_envs or made.envs
    if arguments.batch_size is not None:
        made.batch_sizes = [size for size in arguments.batch_size if size]
        made.asynchronous = made.asynchronous and bool(made.batch_sizes)
    return made


def _try(arguments: argparse.Namespace, chosen: Choices, deadline: float) -> dict[Trial, float]:
    """Return the rates of what could be tried in time."""
    from remote_gym.cli import trials

    rates: dict[Trial, float] = {}
    with contextlib.ExitStack() as stack:
        servers = trials.Servers(arguments.entrypoint, arguments.entrypoint_kwargs)
        stack.callback(servers.close)
        advance = stack.enter_context(_progress(chosen.most_trials))

        def measure(trial: Trial) -> float:
            left = deadline - time.monotonic()
            share = MEASURING_SHARE * left / max(1, chosen.most_trials - len(rates))
            each = min(max(SHORTEST_TRIAL_SECONDS, share), LONGEST_TRIAL_SECONDS)
            if rates and each > left:
                raise _OutOfTime
            rates[trial] = trials.measure(servers.address(trial.num_workers), trial, each)
            advance(_words(trial))
            return rates[trial]

        with contextlib.suppress(_OutOfTime):
            search(chosen, measure)
            return rates
    print("out of time before everything was tried: --seconds gives more", file=sys.stderr)
    return rates


class _OutOfTime(Exception):
    """The search ends here."""


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Any]:
    """Give what is to be called after each trial: a bar where `tqdm` is installed, else a line on stderr."""
    if importlib.util.find_spec("tqdm") is None:
        yield lambda words: print(f"tried {words}", file=sys.stderr)
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="trial", file=sys.stderr) as bar:

        def advance(words: str) -> None:
            bar.set_postfix_str(words, refresh=False)
            bar.update()

        yield advance
        bar.total = bar.n  # what was tried already needs no second trial
        bar.refresh()


def _words(trial: Trial) -> str:
    way = "step()" if trial.batch_size is None else f"batch_size={trial.batch_size}"
    return f"{trial.num_workers} workers, {trial.num_envs} envs, {way}"


def _print_table(rates: dict[Trial, float], local: float | None) -> None:
    chosen = best(rates)
    print(f"\n{'workers':>8} {'envs':>6} {'batch_size':>11} {'steps/s':>12}" + (" × local" if local else ""))
    for trial in sorted(rates, key=lambda one: (one.num_workers, one.num_envs, one.batch_size or 0)):
        batch_size = "step()" if trial.batch_size is None else str(trial.batch_size)
        ratio = f"{rates[trial] / local:>8.2f}" if local else ""
        mark = "  <- best" if trial == chosen else ""
        print(f"{trial.num_workers:>8} {trial.num_envs:>6} {batch_size:>11} {rates[trial]:>12,.0f}{ratio}{mark}")
    if local:
        print(f"{'local SyncVectorEnv':>27} {local:>12,.0f}{1:>8.2f}")


def _print_best(arguments: argparse.Namespace, rates: dict[Trial, float], why: list[str]) -> None:
    chosen = best(rates)
    batch_size = "" if chosen.batch_size is None else f", batch_size={chosen.batch_size}"
    print(f"\nbest: {_words(chosen)}: {rates[chosen]:,.0f} steps/s")
    for reason in why:
        print(f"  {reason}")
    what = [arguments.entrypoint]
    if arguments.entrypoint_kwargs:
        what += ["--entrypoint-kwargs", json.dumps(arguments.entrypoint_kwargs)]
    print(
        f"\n  remote-gym serve {shlex.join(what)} --num-workers {chosen.num_workers}\n"
        f'  RemoteVectorEnv("127.0.0.1", num_envs={chosen.num_envs}{batch_size})'
    )
