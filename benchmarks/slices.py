"""Benchmark's own process: contenders in processes of their own, run in turn, a slice of time each.

A figure means something only beside another one taken at nearly the same moment. So all contenders of a case are
started first, and then run round after round; what is reported is the median over the rounds.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watch import Watch

CHILD = Path(__file__).resolve().parent / "contenders" / "slice.py"
START_SECONDS = 180.0
"""How long a contender may take to be ready: 256 processes of `AsyncVectorEnv` start on two cores."""
SLACK_SECONDS = 60.0
"""How much longer than asked a slice may take: one step of 4,096 environments, on a busy machine."""
STOP_SECONDS = 15.0


class ContenderFailed(RuntimeError):
    """A contender ended, or hangs; the text is what it wrote last."""


@dataclass
class Contender:
    """What is measured: `kind` is ``module:function`` in `contenders/`, `config` its argument.

    `python` is the interpreter, of a virtual environment of its own if dependencies collide. `attempts`: how often to
    start it if it hangs. `environment`: variables in place of our own.
    """

    kind: str
    config: dict[str, Any]
    python: str = sys.executable
    prefix: tuple[str, ...] = ()
    start_seconds: float = START_SECONDS
    attempts: int = 1
    environment: dict[str, str] = field(default_factory=dict)


class Slice:
    """A running contender; `run` has it work for a while. Ended by `close`, with all processes it started."""

    def __init__(self, contender: Contender) -> None:
        """Start it; `wait_until_ready` waits."""
        self._contender = contender
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `close`
        command = [*contender.prefix, contender.python, str(CHILD), contender.kind, json.dumps(contender.config)]
        own = contender.python == sys.executable  # another environment's path is not for it
        environment = {name: value for name, value in os.environ.items() if own or name != "PYTHONPATH"}
        environment.update(contender.environment)
        # In a session of its own: what it starts is ended with it, whatever it is.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            start_new_session=True, env=environment,
        )  # fmt: skip
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    @property
    def pid(self) -> int:
        """Of the contender's process."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Return when it can run."""
        self._answer(self._contender.start_seconds)

    def run(self, seconds: float) -> dict[str, Any]:
        """Have it work for `seconds`; return its account, which has ``steps`` and ``seconds`` at least."""
        assert self._process.stdin is not None
        try:
            print(json.dumps({"seconds": seconds}), file=self._process.stdin, flush=True)
        except OSError as error:
            raise ContenderFailed(self._last_words(f"it ended: {error}")) from error
        return self._answer(seconds + SLACK_SECONDS)

    def _answer(self, timeout_seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=timeout_seconds)
        except queue.Empty:
            raise ContenderFailed(self._last_words(f"no answer within {timeout_seconds:.0f} s")) from None
        if not line:
            raise ContenderFailed(self._last_words("it ended"))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self, what: str) -> str:
        self._errors.seek(0)
        lines = [line for line in self._errors.read().splitlines() if line.strip()]
        return f"{what}; {' | '.join(lines[-3:])[-500:]}" if lines else what

    def close(self) -> None:
        """End it and all that it started."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(STOP_SECONDS)  # nobody is left who could write
        self._process.stdout.close()  # type: ignore[union-attr]
        self._errors.close()


@dataclass
class Account:
    """What the rounds gave for one contender: `answers` of each, or why there are none.

    `others_cores`: what others took of the machine during all rounds of all contenders; None: unknown.
    """

    answers: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    others_cores: float | None = None

    @property
    def rates(self) -> list[float]:
        """Steps per second of each round."""
        return [answer["steps"] / answer["seconds"] for answer in self.answers]

    @property
    def median(self) -> float | None:
        """Of the rates; None if there are none."""
        return statistics.median(self.rates) if self.answers else None


def interleave(contenders: dict[str, Contender], repeats: int, seconds: float) -> dict[str, Account]:
    """Start all contenders, run them in turn for `repeats` rounds of `seconds` each, and end them.

    One that fails is left out of the rest, and its account says why; the others go on.
    """
    accounts = {name: Account() for name in contenders}
    with contextlib.ExitStack() as stack:
        running: dict[str, Slice] = {}
        for name, contender in contenders.items():
            with _noting_failure(accounts[name], f"{name} does not start"):
                running[name] = _start(contender, stack)
        watch = Watch()
        for round_number in range(repeats + 1):
            for name in list(running):
                with _noting_failure(accounts[name], f"{name} stopped"):
                    answer = running[name].run(seconds if round_number else min(seconds, 0.25))
                    if round_number:  # the first one warms up
                        accounts[name].answers.append(answer)
                if accounts[name].error is not None:
                    running.pop(name)
        others = watch.others
        for account in accounts.values():
            account.others_cores = others
    return accounts


def others_cores(accounts: dict[str, Account]) -> float | None:
    """Return what others took while these were made; None: unknown."""
    return max((one.others_cores for one in accounts.values() if one.others_cores is not None), default=None)


def _start(contender: Contender, stack: contextlib.ExitStack) -> Slice:
    for attempts_left in reversed(range(contender.attempts)):
        running = Slice(contender)
        try:
            running.wait_until_ready()
        except BaseException as error:
            running.close()
            if attempts_left and isinstance(error, ContenderFailed):
                continue
            raise
        break
    stack.callback(running.close)
    return running


@contextlib.contextmanager
def _noting_failure(account: Account, what: str) -> Iterator[None]:
    try:
        yield
    except (ContenderFailed, OSError) as error:
        account.error = str(error)
        print(f"{what}: {error}", file=sys.stderr)
