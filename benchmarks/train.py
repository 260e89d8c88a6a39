"""How long until PPO has solved CartPole? Local `SyncVectorEnv` against remote over mutual TLS.

    python benchmarks/train.py          needs PyTorch: pip install "remote-gym-pool[torch]"

Runs `exploration/train_ppo.py` as a user would. Equal seeds give the same returns, to the last bit, so both train for
exactly as many steps and only the time differs. Local and remote take turns.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import quiet
import report
import serving
from watch import Watch

SCRIPT = Path(__file__).resolve().parents[1] / "exploration" / "train_ppo.py"
RUN_SECONDS = 1_800.0
QUICK_STEPS = 1_000


def train(is_local: bool, seed: int, num_envs: int, max_steps: int) -> dict[str, Any]:
    """Run the script; return what it says of itself."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, str(SCRIPT), "--seed", str(seed), "--num_envs", str(num_envs), "--steps", str(max_steps),
            "--plot", f"{folder}/curve.png", *(["--local"] if is_local else []),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2_000:]}")
    steps, episodes, seconds = re.search(
        r"^([\d,]+) environment steps, (\d+) episodes, ([\d.]+) s$", done.stdout, re.MULTILINE
    ).groups()  # type: ignore[union-attr]
    digest = re.search(r"hash of all returns: (\w+)", done.stdout)
    return {
        "solved": done.stdout.startswith("solved"), "steps": int(steps.replace(",", "")), "episodes": int(episodes),
        "seconds": float(seconds), "hash": digest[1] if digest else None,
    }  # fmt: skip


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = report.parser(__doc__, "train")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--num-envs", type=int, nargs="+", default=[16], help="environments (default: 16)")
    arguments = report.parse(parser, command_line)
    missing = [name for name in ("torch", "matplotlib", "tqdm") if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(f'this needs {", ".join(missing)}: pip install "remote-gym-pool[torch]"')
    written = report.Report("train", arguments, seed=arguments.seed)
    with serving.certificates() as directory:
        keeper = quiet.Keeper(written, directory, arguments.quick)
        for num_envs in arguments.num_envs:
            result = keeper.keep(partial(measure, num_envs, arguments))
            if result is not None:
                print_table(result)
    written.done()


def measure(num_envs: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train locally and remotely in turn; return the times, and whether the returns were the same."""
    runs: dict[str, list[dict[str, Any]]] = {"local": [], "remote": []}
    watch = Watch()
    max_steps = QUICK_STEPS if arguments.quick else 300_000
    for _ in range(arguments.repeats):
        for name, ones in runs.items():
            ones.append(train(name == "local", arguments.seed, num_envs, max_steps))
    medians = {name: statistics.median(one["seconds"] for one in ones) for name, ones in runs.items()}
    equal = len({one["hash"] for ones in runs.values() for one in ones}) == 1
    return {
        "num_envs": num_envs, "runs": runs, "median_seconds": medians, "equal_returns": equal,
        "others_cores": watch.others,
    }  # fmt: skip


def print_table(result: dict[str, Any]) -> None:
    """Print the medians of one number of environments."""
    medians = result["median_seconds"]
    rows = [
        [name, "yes" if ones[0]["solved"] else "no", f"{ones[0]['steps']:,}", f"{medians[name]:.1f}"]
        for name, ones in result["runs"].items()
    ]
    print(f"\nPPO on CartPole-v1, {result['num_envs']} environments\n")
    print(report.table(["environments", "solved", "environment steps", "wall time, s"], rows))
    print(f"remote / local: {medians['remote'] / medians['local']:.2f}")
    print("the same returns in all runs, to the last bit" if result["equal_returns"] else "THE RETURNS DIFFER")


if __name__ == "__main__":
    main()
