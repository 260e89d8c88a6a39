"""How many environment steps per second? Remote over TLS, side by side with Gymnasium's local vector envs.

All contenders run interleaved in one go, because absolute figures drift: compare within one run. The server is a
process of its own, as users have it, with mutual TLS over loopback.

    python benchmarks/throughput.py --env CartPole-v1 image --num-envs 1 8 64 256
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from environments import create_environment

HERE = Path(__file__).parent
CONTENDERS = ("sync", "async", "remote", "remote-views", "vector", "remote-vector")
DEFAULT = CONTENDERS[:4]
TITLES = {
    "sync": "SyncVectorEnv (in-process)",
    "async": "AsyncVectorEnv (local)",
    "remote": "RemoteVectorEnv (TLS)",
    "remote-views": "RemoteVectorEnv (TLS, copy=False)",
    "vector": "the id's own vector env (in-process)",
    "remote-vector": "RemoteVectorEnv on the id's own vector env (TLS)",
}

ActionBatches = list[Any]


@contextmanager
def served(name: str, num_workers: int, directory: Path, vector: bool = False) -> Iterator[str]:
    """Run ``remote-gym serve`` over mutual TLS and yield its address."""
    what = [str(HERE / "environments.py"), "--entrypoint-kwargs", json.dumps({"name": name})]
    if vector:
        what = [name, "--vectorization-mode", "vector_entry_point"]
    command = [
        sys.executable, "-m", "remote_gym", "serve", *what, "--port", "0", "--num-workers", str(num_workers),
        "--server_certificate", str(directory / "server.pem"),
        "--server_private_key", str(directory / "server-key.pem"), "--root_certificate", str(directory / "ca.pem"),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line.startswith("remote-gym ready on "):
            raise SystemExit(f"the server did not start; try by hand: {' '.join(command)}")
        try:
            yield line.split()[-1]
        finally:
            server.terminate()


def make_contenders(
    names: list[str], env: str, num_envs: int, serve: Callable[[bool], str], directory: Path, stack: ExitStack
) -> dict[str, Any]:
    """Return the vector envs to compare. Those that fork come first: gRPC must not be loaded yet."""

    def fn() -> gym.Env[Any, Any]:
        return create_environment(env)

    contenders: dict[str, Any] = {}
    if "async" in names:
        contenders["async"] = gym.vector.AsyncVectorEnv([fn] * num_envs)
    if "sync" in names:
        contenders["sync"] = gym.vector.SyncVectorEnv([fn] * num_envs)
    if "vector" in names:
        contenders["vector"] = gym.make_vec(env, num_envs, vectorization_mode="vector_entry_point")
    addresses: dict[bool, str] = {}
    for name in ("remote", "remote-views", "remote-vector"):
        if name in names:
            from remote_gym import RemoteVectorEnv

            vector_server = name == "remote-vector"
            address = addresses.setdefault(vector_server, addresses.get(vector_server) or serve(vector_server))

            credentials = [directory / file for file in ("ca.pem", "client.pem", "client-key.pem")]
            contenders[name] = RemoteVectorEnv(
                address, num_envs=num_envs, client_credentials_paths=credentials, copy=name != "remote-views"
            )
    for vector in contenders.values():
        stack.callback(vector.close)
        vector.reset(seed=0)
    return contenders


def steps_per_second(step: Callable[[Any], Any], batches: ActionBatches, num_envs: int, seconds: float) -> float:
    """Step for at least `seconds` and return environment steps per second."""
    rounds, began = 0, time.perf_counter()
    while True:
        for batch in batches:
            step(batch)
        rounds += len(batches)
        elapsed = time.perf_counter() - began
        if elapsed >= seconds:
            return rounds * num_envs / elapsed


def measure(arguments: argparse.Namespace, env: str, num_envs: int, directory: Path) -> dict[str, Any]:
    """Return the rates of every contender for one environment and number of environments."""
    with ExitStack() as stack:

        def serve(vector: bool) -> str:
            return stack.enter_context(served(env, arguments.num_workers, directory, vector))

        contenders = make_contenders(arguments.contenders, env, num_envs, serve, directory, stack)
        space = next(iter(contenders.values())).action_space
        space.seed(0)
        batches = [space.sample() for _ in range(10)]
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for vector in contenders.values():
            steps_per_second(vector.step, batches, num_envs, arguments.seconds / 4)  # warm up
        for _ in range(arguments.repeats):
            for name, vector in contenders.items():
                rates[name].append(steps_per_second(vector.step, batches, num_envs, arguments.seconds))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {"env": env, "num_envs": num_envs, "steps_per_second": rates, "median": medians}


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("gymnasium", "grpcio", "protobuf", "numpy", "msgpack")},
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def table(results: list[dict[str, Any]]) -> str:
    """Return the medians as a Markdown table, with ratios to the local peers."""
    lines = []
    for result in results:
        median = result["median"]
        lines.append(f"\n{result['env']}, {result['num_envs']} envs\n")
        lines.append("| contender | env steps/s | × AsyncVectorEnv | × SyncVectorEnv |")
        lines.append("|---|---:|---:|---:|")
        for name, rate in median.items():
            ratios = [f"{rate / median[peer]:.2f}" if peer in median else "" for peer in ("async", "sync")]
            lines.append(f"| {TITLES[name]} | {rate:,.0f} | {ratios[0]} | {ratios[1]} |")
    return "\n".join(lines)


def run_case(arguments: argparse.Namespace, env: str, num_envs: int, directory: Path) -> dict[str, Any]:
    """Measure one case in a fresh process: a process that has used gRPC must not fork any more."""
    command = [
        sys.executable, __file__, "--one-case", "--env", env, "--num-envs", str(num_envs),
        "--num-workers", str(arguments.num_workers), "--seconds", str(arguments.seconds),
        "--repeats", str(arguments.repeats), "--certificates", str(directory),
        "--contenders", *arguments.contenders,
    ]  # fmt: skip
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--env", nargs="+", default=["CartPole-v1", "image"], help="Gymnasium ids, or 'image'")
    parser.add_argument("--num-envs", nargs="+", type=int, default=[1, 8, 64, 256])
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0, help="per contender and repeat")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved; medians are reported")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(DEFAULT))
    parser.add_argument("--output", type=Path, help="JSON file (default: benchmarks/results/throughput-<date>.json)")
    parser.add_argument("--certificates", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one-case", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one_case:
        print(json.dumps(measure(arguments, arguments.env[0], arguments.num_envs[0], arguments.certificates)))
        return
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        subprocess.run([sys.executable, "-m", "remote_gym", "certs", folder], check=True, stdout=subprocess.DEVNULL)
        results = []
        for env in arguments.env:
            for num_envs in arguments.num_envs:
                results.append(run_case(arguments, env, num_envs, directory))
                print(table(results[-1:]), flush=True)
    now = datetime.datetime.now(datetime.timezone.utc)
    output = arguments.output or HERE / "results" / f"throughput-{now:%Y-%m-%d}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    settings = {name: getattr(arguments, name) for name in ("num_workers", "seconds", "repeats")}
    report = {"when": now.isoformat(timespec="seconds"), "machine": machine(), "settings": settings, "results": results}
    output.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nraw results: {output}")


if __name__ == "__main__":
    np.set_printoptions(threshold=20)
    main()
