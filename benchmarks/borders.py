"""Where does the time of a step go? Between the borders of client, server and workers, by what they record themselves.

    python benchmarks/borders.py

Over mutual TLS on loopback, with two workers. One step in twenty is recorded, as `docs/how-to/tracing.md` has it:
spans are made when a step is over, so what they take falls on the next one, which is hardly ever recorded. The parts of
a step follow one another and cover all of it; of each the median is shown, so they add up to about the median step.
Needs the extra ``otel``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import report
import serving

CASES = (("CartPole-v1", 1), ("CartPole-v1", 8), ("CartPole-v1", 64), ("CartPole-v1", 256), ("image", 64))
RATIO = "0.05"
"""Of steps, that are recorded."""
WORKERS = 2

PARTS = (
    "client: checks, encoding", "to the server", "server: decode, checks, ledger, rows", "hop to the worker",
    "workers, first to last", "hop back", "server: gather, pack, store", "back to the client", "client: decode",
)  # fmt: skip

VARIABLES = {
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": RATIO,
    "OTEL_BSP_SCHEDULE_DELAY": "600000",  # in the end: nothing is written while steps are timed
    "OTEL_BSP_MAX_QUEUE_SIZE": "1000000",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100000",
}


def step(address: str, num_envs: int, seconds: float, file: str, credentials: Sequence[str]) -> None:
    """Step for a while, in a process of its own, and record it in `file`."""
    from opentelemetry import trace

    from remote_gym import RemoteVectorEnv
    from remote_gym.otel import to_file

    provider = to_file(file, "client")
    trace.set_tracer_provider(provider)
    with RemoteVectorEnv(address, num_envs=num_envs, client_credentials_paths=tuple(credentials)) as envs:
        envs.reset(seed=0)
        actions = envs.action_space.sample()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            envs.step(actions)
    provider.shutdown()


def spans(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the spans in a file."""
    for line in file.read_text().splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                yield from scope["spans"]


def marks(trace: Sequence[dict[str, Any]]) -> list[int] | None:
    """Return the ends of the parts of one step, and its beginning before them; None if this is no whole step."""
    began: dict[str, list[int]] = {}
    ended: dict[str, list[int]] = {}
    for span in trace:
        began.setdefault(span["name"], []).append(int(span["startTimeUnixNano"]))
        ended.setdefault(span["name"], []).append(int(span["endTimeUnixNano"]))
    names = {"RemoteVectorEnv.step", "encode", "request", "admit", "round", "step", "gather", "decode"}
    if not names <= began.keys():
        return None
    # The server may begin before the system call that has sent the request returns to the client.
    sent = min(ended["encode"][0], began["request"][0])
    return [
        began["RemoteVectorEnv.step"][0], sent, began["request"][0], ended["admit"][0], min(began["step"]),
        max(ended["step"]), max(ended["round"]), max(ended["gather"]), began["decode"][0], ended["decode"][0],
    ]  # fmt: skip


def measure(env: str, num_envs: int, seconds: float, directory: Path) -> dict[str, Any]:
    """Return the median of each part, in microseconds, and of how many steps."""
    with tempfile.TemporaryDirectory() as folder:
        client, server = Path(folder, "client.jsonl"), Path(folder, "server.jsonl")
        with serving.served(env, WORKERS, directory, "--trace-file", str(server)) as (_, address):
            config = [address, str(num_envs), str(seconds), str(client), *serving.client_paths(directory)]
            subprocess.run([sys.executable, __file__, "--step", *config], check=True)
        traces: dict[str, list[dict[str, Any]]] = {}
        for file in (client, server):
            for span in spans(file):
                traces.setdefault(span["traceId"], []).append(span)
    found = [one for one in map(marks, traces.values()) if one is not None]
    if not found:
        raise RuntimeError(f"not one of the steps of {num_envs} {env} was recorded: let it run for longer")
    parts = [[(after - before) / 1e3 for before, after in pairwise(one)] for one in found]
    medians = [statistics.median(column) for column in zip(*parts, strict=True)]
    whole = statistics.median([(one[-1] - one[0]) / 1e3 for one in found])
    figures = {name: round(median, 1) for name, median in zip(PARTS, medians, strict=True)}
    return {"env": env, "num_envs": num_envs, "steps": len(found), "microseconds": figures, "step": round(whole, 1)}


def as_table(results: Sequence[dict[str, Any]]) -> str:
    """Return the parts of a step, a column per case."""
    heads = [f"{one['num_envs']} {'images' if one['env'] == 'image' else 'CartPoles'}" for one in results]
    rows = [[name, *(f"{one['microseconds'][name]:,.0f}" for one in results)] for name in PARTS]
    rows.append(["the step", *(f"{one['step']:,.0f}" for one in results)])
    rows.append(["recorded steps", *(f"{one['steps']:,}" for one in results)])
    return report.table(["median, microseconds", *heads], rows)


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure and report."""
    words = sys.argv[1:] if command_line is None else list(command_line)
    if words[:1] == ["--step"]:
        address, num_envs, seconds, file, *credentials = words[1:]
        step(address, int(num_envs), float(seconds), file, credentials)
        return
    arguments = report.parse(report.parser(__doc__, "borders", 10.0), words)
    os.environ.update(VARIABLES)
    if arguments.quick:
        os.environ["OTEL_TRACES_SAMPLER_ARG"] = "1"
    written = report.Report("borders", arguments, ratio=os.environ["OTEL_TRACES_SAMPLER_ARG"], workers=WORKERS)
    results = []
    with serving.certificates() as directory:
        for env, num_envs in CASES[:1] if arguments.quick else CASES:
            results.append(measure(env, num_envs, arguments.seconds, directory))
            written.add(results[-1])
    print(as_table(results))
    written.done()


if __name__ == "__main__":
    main()
