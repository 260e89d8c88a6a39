"""Benchmark's own process: is the machine quiet, and how fast is it just now? Printed with every figure.

A figure taken beside other work is thrown away: nobody can tell afterwards what it would have been. Every
benchmark but `compressed.py` keeps its figures through `Keeper`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import report
import serving
from slices import Contender, Slice
from watch import Watch

MAX_OTHERS = 0.1
"""Of a core, that processes other than the benchmark's own, or the host, may take while a figure is taken."""

ATTEMPTS = 2
"""How often a case is measured until others are quiet; a moment's work should not cost a long run its table."""

SECONDS, QUICK_SECONDS = 0.5, 0.1
"""How long a calibration runs each echo, twice."""

LOOPS = 1_000_000
REQUEST_BYTES, ANSWER_BYTES = 24, 62
"""What one step of one CartPole is on the wire."""

ECHOES = {"grpc": "echo", "tls": "sockets"}
"""Kind and module in `contenders/`: bare gRPC, and a bare TLS socket."""


def loops_per_second() -> float:
    """Return how fast this machine runs plain Python just now: whether two runs were made on the same terms."""
    began, total = time.perf_counter(), 0
    for number in range(LOOPS):
        total += number & 7
    return LOOPS / (time.perf_counter() - began)


class Keeper:
    """Keeps what is measured while nobody else works, each case with a calibration taken just before it."""

    def __init__(self, written: report.Report, directory: Path, quick: bool) -> None:
        """Begin.

        Args:
            written: Where results are kept.
            directory: Of the certificates, for the calibration.
            quick: Keep all: only to see that it runs.
        """
        self._written, self._directory, self._quick = written, directory, quick
        self._calibrations: list[dict[str, Any]] = []

    def keep(self, measure: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Return what `measure` has found, and keep it; None if others took too much each time, which is said.

        Args:
            measure: Its result has `others_cores`: what a `Watch` has seen while the figures were taken.
        """
        for _ in range(ATTEMPTS):
            self._calibrate()
            result = measure()
            others = result["others_cores"]
            if others is None or others <= MAX_OTHERS or self._quick:
                self._written.add(result)
                return result
            print(f"others took {others:.2f} cores meanwhile: these figures are thrown away", flush=True)
        return None

    def show(self, measure: Callable[[], dict[str, Any]], as_table: Callable[[dict[str, Any]], str]) -> None:
        """Do what `keep` does, and print what was kept, and what was left out of it and why."""
        if (result := self.keep(measure)) is not None:
            print(as_table(result), flush=True)
            for name, reason in result["failed"].items():
                print(f"left out: {name}: {reason}")

    def _calibrate(self) -> None:
        seconds = QUICK_SECONDS if self._quick else SECONDS
        self._calibrations.append(calibrate(self._directory, seconds))
        print(f"\n{in_words(self._calibrations[-1])}", flush=True)
        self._written.note(calibrations=self._calibrations)


def echoes(directory: Path, stack: ExitStack, request_bytes: int, answer_bytes: int) -> Iterator[tuple[str, Slice]]:
    """Start bare gRPC and a bare TLS socket, that exchange so many bytes; they end with `stack`."""
    for kind, module in ECHOES.items():
        address = stack.enter_context(serving.echoing(answer_bytes, directory, module))
        config = {
            "addresses": [address], "credentials": serving.client_paths(directory), "num_envs": 1,
            "request_bytes": request_bytes,
        }  # fmt: skip
        running = Slice(Contender(f"{module}:client", config))
        stack.callback(running.close)
        running.wait_until_ready()
        yield kind, running


def calibrate(directory: Path, seconds: float = SECONDS) -> dict[str, Any]:
    """Return how fast the machine is: plain Python, and a round trip of bare gRPC and of a bare TLS socket."""
    watch = Watch()
    found: dict[str, Any] = {"python_loops_per_second": round(loops_per_second())}
    with ExitStack() as stack:
        for kind, running in echoes(directory, stack, REQUEST_BYTES, ANSWER_BYTES):
            running.run(seconds)
            found[f"{kind}_echo_microseconds"] = round(statistics.median(running.run(seconds)["microseconds"]), 1)
    return {**found, "others_cores": watch.others}


def in_words(found: dict[str, Any]) -> str:
    """Return a calibration as one line."""
    others = found["others_cores"]
    return (
        f"calibration: {found['python_loops_per_second'] / 1e6:.1f} million loops of plain Python a second, bare gRPC "
        f"{found['grpc_echo_microseconds']:,.0f} us, bare TLS socket {found['tls_echo_microseconds']:,.0f} us; others "
        f"take {'?' if others is None else others} cores"
    )
