"""A server, a victim, a neighbour of either kind, each a process of its own over mutual TLS; and what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from siege import people
from siege.attacker import Record
from siege.hosted import FOLDER
from siege.victim import HARM, STEPS

from remote_gym.texts import printable

HERE = Path(__file__).parent

OPTIONS: dict[str, Any] = {
    "num_workers": 2,
    "max_sessions": 64,
    "max_envs": 256,
    "lease_seconds": 5.0,
    "step_timeout_seconds": 3.0,
    "reset_timeout_seconds": 3.0,
    "build_timeout_seconds": 5.0,
    "metrics_port": 0,
    "allow_client_kwargs": ["journal", "build_milliseconds", "task"],
    "allow_set": ["gain"],
    "limits": {
        "*": {
            "sessions": 16,
            "envs": 64,
            "workers": 2,
            "bytes": 16 << 20,
            "opens_per_minute": 3_000,
            "lease_seconds": 3,
        }
    },
}
"""What the owner of a shared lab says."""

SERVE = """
import json, logging, sys
from remote_gym import create_remote_environment_server
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
with create_remote_environment_server(**json.loads(sys.argv[1])) as server:
    print(server.address, f"127.0.0.1:{server.metrics_port}", flush=True)
    sys.stdin.read()
"""

NOTICED_SECONDS = 0.05
"""How long after an attack its harm may be noticed and is not put down to the next one."""

LAST_SECONDS = 60.0
"""How long who was told to end may take."""


@dataclass
class Watched:
    """What came of one neighbour.

    Attributes:
        steps: (when begun, seconds) of each of the victim's steps; steps that failed are among them.
        harm: What was not as it is locally: ``{"time", "what"}``.
        attacks: What was done, if the neighbour attacked.
    """

    steps: Any
    harm: list[dict[str, Any]]
    attacks: list[Record] = field(default_factory=list)

    def p99(self, began: float = 0.0, ended: float = float("inf")) -> float | None:
        """Return the seconds that all but one in a hundred of the steps at this time took at most; None: no steps."""
        when, took = self.steps[:, 0], self.steps[:, 1]
        chosen = took[(when + took >= began) & (when <= ended)]
        return float(np.quantile(chosen, 0.99, method="higher")) if len(chosen) else None


@dataclass
class Siege:
    """A running server."""

    process: subprocess.Popen[str]
    address: str
    metrics: str
    folder: Path

    def log(self) -> str:
        """Return what the server has logged."""
        return (self.folder / "server.log").read_text(errors="replace")

    def victim(self, transport: str) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        """Run the victim, which steps already."""
        return running("victim", self.address, self.folder, transport, waits=True)

    def beside_a_benign_one(self, transport: str, seconds: float) -> Watched:
        """Watch the victim beside a neighbour who works."""
        with self.victim(transport), running("benign", self.address, self.folder):
            time.sleep(seconds)
        return self.watched()

    def beside_an_attacker(
        self, transport: str, seed: int, seconds: float, many: int, patience: float, names: Any = (), turns: int = 0
    ) -> Watched:
        """Watch the victim beside one who attacks, for so long or so many turns, whichever is first."""
        numbers = map(str, (seed, many, patience, turns))
        path = self.folder / "attacks.jsonl"
        end = time.monotonic() + seconds
        with self.victim(transport), path.open("w") as out:
            with running("attacker", self.address, self.metrics, self.folder, *numbers, *names, out=out) as attacker:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    attacker.wait(max(0.0, end - time.monotonic()))
                assert attacker.poll() in (None, 0), "the attacker has fallen over its own feet"
            time.sleep(0.5)  # what was left behind has its time, too
        attacks = [Record(**json.loads(line)) for line in path.read_text().splitlines()]
        return self.watched(attacks)

    def watched(self, attacks: Any = ()) -> Watched:
        """Return what the victim has left."""
        harm = [json.loads(line) for line in (self.folder / HARM).read_text().splitlines()]
        return Watched(np.load(self.folder / STEPS), harm, list(attacks))


@contextlib.contextmanager
def running(script: str, *arguments: Any, waits: bool = False, out: Any = None) -> Iterator[subprocess.Popen[str]]:
    """Run a module of this folder; it is told to end by the end of its input. `waits`: until it says a line."""
    command = [sys.executable, "-m", f"siege.{script}", *map(str, arguments)]
    output = subprocess.PIPE if out is None else out
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, text=True, env=environment()) as process:
        assert process.stdin is not None
        try:
            if waits:
                assert process.stdout is not None
                assert process.stdout.readline(), f"{script} has not begun"
            yield process
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait(LAST_SECONDS)
        finally:
            process.kill()


def environment() -> dict[str, str]:
    """Return the variables with which a process finds the modules of the tests."""
    paths = [str(HERE.parent), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@contextlib.contextmanager
def besieged(folder: Path, **changed: Any) -> Iterator[Siege]:
    """Serve as `OPTIONS` say, but for what is `changed`; the server must live to the end."""
    people.certify(folder)
    options = {
        "default_args": {"entrypoint": str(HERE / "hosted.py")}, "port": 0,
        "server_credentials_paths": people.server_paths(folder), **OPTIONS, **changed,
    }  # fmt: skip
    command = [sys.executable, "-c", SERVE, json.dumps(options)]
    with (
        (folder / "server.log").open("w") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**environment(), FOLDER: str(folder)},
        ) as process,
    ):
        assert process.stdout is not None
        try:
            address, metrics = process.stdout.readline().split()
            siege = Siege(process, address, metrics, folder)
            yield siege
            assert process.poll() is None, f"the server ended with {process.returncode}:\n{siege.log()[-3_000:]}"
        finally:
            process.kill()


def table(watched: Watched) -> list[dict[str, Any]]:
    """Return for each attack and carrier: how often, what became of it last, and how the victim fared beside it."""
    runs: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in watched.attacks:
        runs[record.attack, record.carrier].append(record)
    rows = []
    for (name, carrier), records in sorted(runs.items()):
        p99s = [p99 for record in records if (p99 := watched.p99(record.began, record.ended)) is not None]
        rows.append({
            "attack": name, "carrier": carrier, "times": len(records), "outcome": records[-1].outcome,
            "victim_p99_ms": round(1e3 * max(p99s), 2) if p99s else None,
            "harm": [one["what"] for one in watched.harm if blamed(watched, one["time"]) in records],
        })  # fmt: skip
    return rows


def blamed(watched: Watched, when: float) -> Record | None:
    """Return the attack that was going on when harm was noticed, or had just ended; None: before all of them."""
    before = [record for record in watched.attacks if record.began <= when]
    if len(before) > 1 and before[-2].ended + NOTICED_SECONDS > when:
        return before[-2]
    return before[-1] if before else None


def printed(rows: list[dict[str, Any]]) -> str:
    """Return the table to be read."""
    lines = [f"{'attack':36} {'over':6} {'times':>5} {'p99 ms':>8}  what happened to it"]
    for row in rows:
        harm = f"  HARM: {row['harm'][0]}" if row["harm"] else ""
        p99 = "-" if row["victim_p99_ms"] is None else f"{row['victim_p99_ms']:.2f}"
        outcome = printable(row["outcome"], 200)
        lines.append(f"{row['attack']:36} {row['carrier']:6} {row['times']:5} {p99:>8}  {outcome}{harm}")
    return "\n".join(lines)
