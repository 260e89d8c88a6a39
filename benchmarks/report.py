"""Benchmark's own process: what the figures depend on, kept as JSON with the figures, and tables to read."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import signal
import statistics
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("gymnasium", "grpcio", "protobuf", "numpy", "msgpack")


def parser(description: str | None, name: str, seconds: float = 1.0) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes."""
    lines = (description or "").splitlines()
    made = argparse.ArgumentParser(description=lines[0] if lines else None)
    made.add_argument("--quick", action="store_true", help="see that it runs: small, short, and not to be quoted")
    made.add_argument("--seconds", type=float, default=seconds, help="per contender and repeat (default: %(default)s)")
    made.add_argument("--repeats", type=int, default=5, help="interleaved; medians are reported (default: %(default)s)")
    made.add_argument("--output", type=Path, help=f"JSON file (default: benchmarks/results/{name}-<date>.json)")
    return made


def parse(made: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``--quick`` means one short repeat."""
    parsed = made.parse_args(arguments)
    # Also when it is ended from outside, servers and contenders end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if parsed.quick:
        parsed.seconds, parsed.repeats = min(parsed.seconds, 0.1), 1
    return parsed


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def load_average() -> list[float] | None:
    """Return how busy the machine was over the last 1, 5 and 15 minutes; None where it does not tell."""
    return [round(one, 2) for one in os.getloadavg()] if hasattr(os, "getloadavg") else None


class Report:
    """Results of one run of one benchmark; written after every case, so that an interrupted run keeps what it has."""

    def __init__(self, name: str, arguments: argparse.Namespace, **settings: Any) -> None:
        """Begin.

        Args:
            name: Of the benchmark.
            arguments: Of the command line: `quick`, `seconds`, `repeats`, `output`.
            settings: What else the figures depend on.
        """
        now = datetime.datetime.now(datetime.timezone.utc)
        suffix = "-quick" if arguments.quick else ""
        self.path = arguments.output or RESULTS / f"{name}-{now:%Y-%m-%d}{suffix}.json"
        self._report = {
            "benchmark": name,
            "when": now.isoformat(timespec="seconds"),
            "machine": {**machine(), "load_average": load_average()},
            "settings": {
                "quick": arguments.quick, "seconds": arguments.seconds, "repeats": arguments.repeats, **settings,
            },
            "results": [],
        }  # fmt: skip

    def add(self, result: dict[str, Any]) -> None:
        """Keep the result of a case."""
        self._report["results"].append(result)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self._report, indent=1) + "\n")

    def note(self, **facts: Any) -> None:
        """Keep what belongs to no case."""
        self._report.update(facts)

    def done(self) -> None:
        """Tell where everything is; the exit code tells if there is nothing.

        Raises:
            SystemExit: All was thrown away.
        """
        if not self._report["results"]:
            raise SystemExit("nothing was kept: measure again when nobody else uses this machine")
        print(f"\nraw results: {self.path}")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are figures."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p90 and p99 of many values."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {f"p{cut}": round(cuts[cut - 1], 1) for cut in (50, 90, 99)}
