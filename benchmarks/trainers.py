"""Is remote_gym faster than what a trainer brings along? Its own local vectorisation beside our adapter, in its loop.

    python benchmarks/trainers.py                                   the trainers that are installed here
    python benchmarks/trainers.py --trainers sb3 --work cartpole-64
    python benchmarks/trainers.py --python torchrl=~/venvs/torchrl/bin/python

A trainer's libraries may be in an interpreter of their own, with remote_gym: the one that `--python` names, this one,
or that of its tox environment, `tox run -e trainers-NAME --notest`. One that is nowhere is left out, by name. Ours are
measured over mutual TLS on loopback, and as `local`. All contenders of a line took turns.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import quiet
import report
import serving
from slices import Contender, interleave
from throughput import CASES, USED_SECONDS, figures

ROOT = Path(__file__).resolve().parents[1]
LOOK_SECONDS = 120.0
"""How long it may take to import a trainer, to see whether it is there: PyTorch from a cold disk."""

NUM_WORKERS = 2
WORK = {
    f"{case}-{num_envs}": (case, num_envs) for case in ("cartpole", "images", "halfcheetah") for num_envs in (16, 64)
}
OURS = ("remote", "local")


@dataclass(frozen=True)
class Trainer:
    """One of them.

    Attributes:
        words: What the table calls it.
        own: Its vectorisation in processes, which ours is measured against: its name.
        contenders: Name -> ``module:function`` in `contenders/`; ``"own"``, ``"remote"``, ``"local"``, and for
            information others.
        needs: What must be importable.
        distribution: Whose version is kept with the figures.
    """

    words: str
    own: str
    contenders: dict[str, str]
    needs: tuple[str, ...]
    distribution: str


TRAINERS = {
    "sb3": Trainer(
        "Stable-Baselines3", "SubprocVecEnv",
        {"own": "trainers:sb3_subproc", "remote": "trainers:sb3_remote", "local": "trainers:sb3_local",
         "DummyVecEnv": "trainers:sb3_dummy"},
        ("stable_baselines3", "remote_gym.sb3"), "stable-baselines3",
    ),
    "torchrl": Trainer(
        "TorchRL", "ParallelEnv",
        {"own": "trainers:torchrl_parallel", "remote": "trainers:torchrl_remote", "local": "trainers:torchrl_local"},
        ("torchrl", "remote_gym.torchrl"), "torchrl",
    ),
    "tianshou": Trainer(
        "Tianshou", "SubprocVectorEnv",
        {"own": "trainers:tianshou_subproc", "remote": "trainers:tianshou_remote", "local": "trainers:tianshou_local"},
        ("tianshou", "remote_gym.tianshou"), "tianshou",
    ),
    "gymnasium": Trainer(
        "Gymnasium (CleanRL, RLlib, skrl)", "AsyncVectorEnv",
        {"own": "local:asynchronous", "remote": "remote:step", "local": "remote:local", "SyncVectorEnv": "local:sync"},
        ("gymnasium", "remote_gym"), "gymnasium",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A trainer's interpreter and version, or why there is none."""

    python: str = ""
    version: str = ""
    missing: str = ""


def look_for(name: str, given: str | None = None) -> Found:
    """Return where a trainer is: in the interpreter that is `given`, or else in this one or its tox environment's."""
    trainer = TRAINERS[name]
    code = f"import importlib.metadata, {', '.join(trainer.needs)}; "
    code += f"print(importlib.metadata.version({trainer.distribution!r}))"
    places = (
        [os.path.expanduser(given)] if given else [sys.executable, str(ROOT / ".tox" / f"trainers-{name}/bin/python")]
    )
    reasons = []
    for python in places:
        if not os.path.exists(python):
            continue
        own = python == sys.executable
        environment = {key: value for key, value in os.environ.items() if own or key != "PYTHONPATH"}
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, env=environment, timeout=LOOK_SECONDS
        )
        if done.returncode == 0:
            return Found(python, done.stdout.split()[-1])
        reasons.append((done.stderr.strip().splitlines() or ["it ended without a word"])[-1][:200])
    return Found(missing=reasons[0] if reasons else f"there is no {places[0]}")


def measure(
    name: str, found: Found, case: str, num_envs: int, directory: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return the figures of one trainer with so many environments."""
    env = CASES[case].env
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(serving.served(env, NUM_WORKERS, directory))[1]
        config = {
            "env": env, "num_envs": num_envs, "num_workers": NUM_WORKERS, "addresses": [address],
            "credentials": serving.client_paths(directory), "entrypoint": str(serving.HERE / "environments.py"),
        }  # fmt: skip
        # It has served before, and knows how long a step takes: that decides how many workers a session is spread over.
        interleave({"before": Contender("remote:step", config)}, 1, USED_SECONDS)
        contenders = {who: Contender(kind, config, found.python) for who, kind in TRAINERS[name].contenders.items()}
        accounts = interleave(contenders, arguments.repeats, arguments.seconds)
    return {
        "trainer": name, "version": found.version, "case": case, "env": env, "num_envs": num_envs,
        "num_workers": NUM_WORKERS, **figures(accounts),
    }  # fmt: skip


def as_table(results: Iterable[dict[str, Any]]) -> str:
    """Return the medians, environment steps per second, and how many times a trainer's own each of ours is."""
    rows = []
    for one in results:
        trainer, median = TRAINERS[one["trainer"]], one["median"]
        own = median.get("own")
        cells = [f"{own:,.0f}" if own else ""]
        for name in OURS:
            cells.append(f"{median[name]:,.0f}" if name in median else "")
            cells.append(f"{median[name] / own:.2f}" if own and name in median else "")
        beside = [f"{who} {rate:,.0f}" for who, rate in median.items() if who not in ("own", *OURS)]
        work = f"{CASES[one['case']].words}, {one['num_envs']} envs"
        rows.append([f"{trainer.words}: `{trainer.own}`", work, *cells, ", ".join(beside)])
    header = ["trainer", "work", "its own", "ours, mutual TLS", "× its own", "`local`", "× its own", "in one process"]
    return report.table(header, rows)


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """Return the interpreters that ``NAME=PATH`` texts name.

    Raises:
        SystemExit: One is no such text, or names no trainer.
    """
    named = dict(text.partition("=")[::2] for text in texts)
    for name, path in named.items():
        if name not in TRAINERS or not path:
            raise SystemExit(f"--python takes NAME=PATH with a NAME of {', '.join(TRAINERS)}; got {name}={path}")
    return named


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = report.parser(__doc__, "trainers")
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    parser.add_argument("--work", nargs="+", choices=WORK, default=[one for one in WORK if "halfcheetah" not in one])
    parser.add_argument("--python", nargs="+", default=[], metavar="NAME=PATH", help="whose libraries are elsewhere")
    arguments = report.parse(parser, command_line)
    given = pairs(arguments.python)
    found = {name: look_for(name, given.get(name)) for name in arguments.trainers}
    left_out = {name: one.missing for name, one in found.items() if not one.python}
    for name, reason in left_out.items():
        print(f"left out: {TRAINERS[name].words}: {reason}", flush=True)
    written = report.Report("trainers", arguments, trainers_left_out=left_out)
    kept = []
    with serving.certificates() as directory:
        keeper = quiet.Keeper(written, directory, arguments.quick)
        for name, one in found.items():
            for work in arguments.work if one.python else ():
                case, num_envs = WORK[work]
                result = keeper.keep(partial(measure, name, one, case, num_envs, directory, arguments))
                if result is not None:
                    kept.append(result)
                    print(as_table([result]), flush=True)
                    for who, reason in result["failed"].items():
                        print(f"left out of {TRAINERS[name].words}, {work}: {who}: {reason}", flush=True)
    print(f"\n{as_table(kept)}\n")
    written.done()


if __name__ == "__main__":
    main()
