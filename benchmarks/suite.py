"""Everything, one benchmark after the other, then the pictures and the summary. Takes about an hour, `--quick` minutes.

    python benchmarks/suite.py [--quick] [--install-peers] [--only NAME ...]

One that fails does not stop the others; the exit code tells.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCHMARKS = ("latency", "throughput", "local", "network", "scale", "fleet", "train")


def missing_for(name: str) -> list[str]:
    """Return the packages that this benchmark needs and that are not here."""
    needed = {"train": ("torch", "matplotlib", "tqdm"), "plot": ("matplotlib",)}.get(name, ())
    return [package for package in needed if importlib.util.find_spec(package) is None]


def run(name: str, *flags: str) -> bool:
    """Run a script of this folder; return whether it went well."""
    if missing := missing_for(name):
        print(f"{name}: left out, needs {', '.join(missing)}", flush=True)
        return True
    began = time.monotonic()
    print(f"\n=== {name}", flush=True)
    code = subprocess.run([sys.executable, str(HERE / f"{name}.py"), *flags]).returncode
    print(f"=== {name}: {'done' if code == 0 else f'FAILED ({code})'}, {time.monotonic() - began:.0f} s", flush=True)
    return code == 0


def main(command_line: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--quick", action="store_true", help="see that everything runs")
    parser.add_argument("--install-peers", action="store_true", help="first, in virtual environments of their own")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    arguments = parser.parse_args(command_line)
    quick = ["--quick"] if arguments.quick else []
    if arguments.install_peers:
        run("venvs")
    fine = [run(name, *quick) for name in arguments.only]
    if not arguments.quick:
        fine += [run("plot"), run("summary")]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
