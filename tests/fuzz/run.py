"""Fuzz every reader: ``tox run -e fuzz -- --minutes 30 [--target NAME] [--inputs N] [--requests N]``.

The corpus grows in ``.fuzz/corpus``, from the committed one, and is taken up again by the next run. What is found lies
in ``.fuzz/findings/TARGET``: copy it to ``tests/fuzz/findings/TARGET``, mend the fault, and it stays a test.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from fuzz import hostile_client, replay  # noqa: E402 - needs the path
from fuzz.targets import TARGETS, Finding, Target  # noqa: E402

FOLDER = Path(".fuzz")
MADE = 200
"""Inputs made at random that an engine begins with, besides the corpus."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="in all, shared by the targets (default 10)")
    parser.add_argument("--inputs", type=int, help="for each target, instead of a time")
    parser.add_argument("--requests", type=int, help="of a hostile client to a live server, instead of readers")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="may repeat; default: all")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of everything (default: the time)")
    parser.add_argument("--plain", action="store_true", help="without atheris, as where it has no wheel")
    return parser.parse_args()


def folders(target: Target) -> tuple[Path, Path, Path]:
    """Return where the corpus grows, where findings go, and what an engine begins with, all there."""
    paths = FOLDER / "corpus" / target.name, FOLDER / "findings" / target.name, FOLDER / "made" / target.name
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
    return paths


def fuzz_plainly(target: Target, options: argparse.Namespace, seconds: float) -> int:
    """Return how many inputs were read."""
    _, findings, _ = folders(target)
    reading, found = replay.run(target, options.seed, options.inputs, seconds), 0
    while True:
        try:
            data, finding = next(reading)
        except StopIteration as end:
            return int(end.value)
        found += 1
        if found <= 20:
            (findings / f"plain-{options.seed}-{found}").write_bytes(data)
            print(f"FINDING {str(finding)[:500]}", flush=True)


def fuzz_with_atheris(target: Target, options: argparse.Namespace, seconds: float) -> int:
    """Return how many inputs were read; a process that died is followed by another."""
    corpus, findings, made = folders(target)
    for path, data in zip((made / str(number) for number in range(MADE)), replay.inputs(target, options.seed)):  # noqa: B905
        path.write_bytes(data)
    committed = HERE / "corpus" / target.name
    given = [str(path) for path in (corpus, made, committed) if path.is_dir()]
    began, done, deaths = time.monotonic(), 0, 0
    while True:
        left, missing = seconds - (time.monotonic() - began), (options.inputs or 0) - done
        if (missing <= 0 if options.inputs else left < 1) or deaths > 20:
            return done
        limit = f"-runs={missing}" if options.inputs else f"-max_total_time={int(left)}"
        command = [sys.executable, str(HERE / "engine.py"), target.name, str(findings), *given, limit]
        ended = subprocess.run(
            [*command, f"-seed={(options.seed + deaths) % 2**31 or 1}"], capture_output=True, text=True
        )
        said = ended.stdout + ended.stderr
        done += sum(map(int, re.findall(r"number_of_executed_units: +(\d+)", said)))
        for line in said.splitlines():
            if line.startswith("FINDING"):
                print(line, flush=True)
        if ended.returncode:
            deaths += 1
            print(f"the process ended with {ended.returncode}:\n{said[-3_000:]}", flush=True)
        elif options.inputs and not re.search("number_of_executed_units", said):
            return done


def confirm(target: Target) -> list[str]:
    """Return what the findings still show, here, where nothing is instrumented; forget those that show nothing."""
    shown = []
    for path in sorted((FOLDER / "findings" / target.name).glob("*")):
        if path.name.startswith(("crash-", "timeout-", "oom-")):
            shown.append(f"{path}: see above")
            continue
        data = path.read_bytes()
        try:
            target.run(data)
            target.weigh(data)
            path.unlink()
        except Finding as finding:
            shown.append(f"{path}: {str(finding)[:500]}")
    return shown


def main() -> int:
    """Fuzz; return 1 if anything was found."""
    options = arguments()
    if options.requests:
        return hostile_client.attack(options.requests, options.seed)
    targets = [TARGETS[name] for name in options.target or TARGETS]
    plain = options.plain or importlib.util.find_spec("atheris") is None
    fuzz = fuzz_plainly if plain else fuzz_with_atheris
    seconds = float("inf") if options.inputs else 60 * options.minutes / len(targets)
    print(f"{'plain mutations' if plain else 'atheris'}, seed {options.seed}", flush=True)
    found = []
    for target in targets:
        began = time.monotonic()
        done = fuzz(target, options, seconds)
        took = time.monotonic() - began
        shown = confirm(target)
        print(f"{target.name}: {done:,} inputs, {done / took:,.0f} a second, {len(shown)} findings", flush=True)
        found += shown
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
