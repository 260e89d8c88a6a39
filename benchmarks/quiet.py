"""Benchmark's own process: is the machine quiet, and how fast is it just now? Printed with every figure.

A figure taken beside other work is thrown away: nobody can tell afterwards what it would have been. Every
benchmark but `compressed.py` keeps its figures through `Keeper`.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import report
import serving
from slices import Contender, Slice

MAX_OTHERS = 0.1
"""Of a core, that processes other than the benchmark's own, or the host, may take while a figure is taken."""

PR_SET_CHILD_SUBREAPER = 36
"""Of Linux's `prctl`."""

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


class Watch:
    """How much of the machine others take while this one watches. Linux tells; elsewhere nobody knows."""

    def __init__(self) -> None:
        """Begin."""
        self._before = _now()

    @property
    def others(self) -> float | None:
        """Cores that processes other than ours and our descendants, and the host, have taken; None: unknown."""
        now = _now()
        if now is None or self._before is None:
            return None
        machine, ours, when = (after - before for after, before in zip(now, self._before, strict=True))
        return max(0.0, (machine - ours) / when) if when > 0 else 0.0


def _now() -> tuple[float, float, float] | None:
    """Return seconds: of all processes and the host, of ours, and the time."""
    try:
        user, nice, system, _, _, _, _, steal = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
        ours = sum(_ticks(pid) for pid in [os.getpid(), *descendants(os.getpid())])
    except (OSError, ValueError):
        return None
    second = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + steal) / second, ours / second, time.monotonic()


def _ticks(pid: int) -> int:
    """Return what a process has taken, with those of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return 0
    return sum(map(int, fields[11:15]))


def descendants(pid: int) -> list[int]:
    """Return the processes that `pid` has started, and theirs; none where the kernel does not tell."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found += [child, *descendants(child)]
    return found


def adopt_orphans() -> None:
    """Make this process the parent of what its descendants leave behind, so that `Watch` still sees it. Linux only.

    Ray's processes lose their parent before they end; what they have taken would look like somebody else's work.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


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
        adopt_orphans()

    def keep(self, measure: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Return what `measure` has found, and keep it; None if others took too much meanwhile, which is said."""
        self._calibrations.append(calibrate(self._directory))
        print(f"\n{in_words(self._calibrations[-1])}", flush=True)
        self._written.note(calibrations=self._calibrations)
        watch = Watch()
        result = measure()
        others = watch.others
        if others is not None and others > MAX_OTHERS and not self._quick:
            print(f"others took {others:.2f} cores meanwhile: these figures are thrown away", flush=True)
            return None
        self._written.add({**result, "others_cores": None if others is None else round(others, 3)})
        return result


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


def calibrate(directory: Path, seconds: float = 0.5) -> dict[str, Any]:
    """Return how fast the machine is: plain Python, and a round trip of bare gRPC and of a bare TLS socket."""
    watch = Watch()
    found: dict[str, Any] = {"python_loops_per_second": round(loops_per_second())}
    with ExitStack() as stack:
        for kind, running in echoes(directory, stack, REQUEST_BYTES, ANSWER_BYTES):
            running.run(seconds)
            found[f"{kind}_echo_microseconds"] = round(statistics.median(running.run(seconds)["microseconds"]), 1)
    others = watch.others
    return {**found, "others_cores": None if others is None else round(others, 3)}


def in_words(found: dict[str, Any]) -> str:
    """Return a calibration as one line."""
    others = found["others_cores"]
    return (
        f"calibration: {found['python_loops_per_second'] / 1e6:.1f} million loops of plain Python a second, bare gRPC "
        f"{found['grpc_echo_microseconds']:,.0f} us, bare TLS socket {found['tls_echo_microseconds']:,.0f} us; others "
        f"take {'?' if others is None else others} cores"
    )
