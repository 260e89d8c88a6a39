"""When are compressed observations worth it? Environment steps per second by codec, content and speed of the link.

Links slower than loopback are made in network namespaces of their own (Linux, as root, with `ip` and `tc`); without
that, loopback alone is measured.

    python benchmarks/compressed.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from replay import RECORDINGS, record
from report import Report, parse, parser, table
from serving import certificates, client_paths, started

HERE = Path(__file__).resolve().parent
LINKS = {"loopback": None, "1gbit": 1_000, "100mbit": 100}
"""Megabits per second; both directions share them. None: as fast as the machine copies."""
CODECS = (None, "lz4", "zstd")
TRAFFIC = Path("/proc/net/dev")
"""Counters of this network namespace's interfaces, where there are such."""


def shape(megabits: int | None) -> None:
    """Bring up this namespace's loopback, as slow as that."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    if megabits is None:
        return
    burst_bytes = max(64_000, megabits * 1_000)  # what may leave at once: 8 ms of it, more than the kernel's tick
    limit = ["rate", f"{megabits}mbit", "burst", str(burst_bytes), "latency", "200ms"]
    subprocess.run(["ip", "link", "set", "lo", "mtu", "1500"], check=True)
    subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "tbf", *limit], check=True)


@contextmanager
def served(recording: Path, workers: int, directory: Path) -> Iterator[str]:
    """Serve a recording over mutual TLS, in a process of its own; give the address."""
    command = [
        sys.executable, "-m", "remote_gym", "serve", str(HERE / "replay.py"), "--port", "0",
        "--entrypoint-kwargs", json.dumps({"path": str(recording)}), "--num-workers", str(workers),
        "--server_certificate", str(directory / "server.pem"),
        "--server_private_key", str(directory / "server-key.pem"), "--root_certificate", str(directory / "ca.pem"),
    ]  # fmt: skip
    with started(command, "remote-gym ready on ") as (_, address):
        yield address


def sent_bytes() -> int:
    """Return how much has gone over loopback, both ways; 0 where nobody counts."""
    if not TRAFFIC.exists():
        return 0
    counters = next(line for line in TRAFFIC.read_text().splitlines() if line.strip().startswith("lo:"))
    return int(counters.split(":")[1].split()[8])


def rate(envs: Any, seconds: float) -> tuple[float, float]:
    """Step for at least `seconds`; return environment steps per second, and bytes on the wire for each."""
    envs.action_space.seed(0)
    actions = envs.action_space.sample()
    rounds, traffic, began = 0, sent_bytes(), time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds or rounds < 3:
        envs.step(actions)
        rounds += 1
    steps = rounds * envs.num_envs
    return steps / elapsed, (sent_bytes() - traffic) / steps


def measure(name: str, recording: Path, directory: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one content over the link this process is on; the codecs take turns."""
    from remote_gym import RemoteVectorEnv

    num_envs = RECORDINGS[name][1]
    figures: dict[Any, list[tuple[float, float]]] = {codec: [] for codec in CODECS}
    with ExitStack() as stack:
        address = stack.enter_context(served(recording, arguments.workers, directory))
        clients = {}
        for codec in CODECS:
            clients[codec] = stack.enter_context(
                RemoteVectorEnv(
                    address, num_envs=num_envs, client_credentials_paths=client_paths(directory), compression=codec
                )
            )
            clients[codec].reset(seed=0)
            rate(clients[codec], 0.0)
        row_bytes = clients[None].single_observation_space.sample().nbytes
        for _ in range(arguments.repeats):
            for codec, envs in clients.items():
                figures[codec].append(rate(envs, arguments.seconds))
    return {
        "content": name,
        "num_envs": num_envs,
        "row_bytes": row_bytes,
        "steps_per_second": {str(codec): round(statistics.median(f[0] for f in figures[codec]), 1) for codec in CODECS},
        "wire_bytes_per_step": {str(codec): round(statistics.median(f[1] for f in figures[codec])) for codec in CODECS},
        "all_steps_per_second": {str(codec): [round(f[0], 1) for f in figures[codec]] for codec in CODECS},
    }


def inside(link: str, arguments: argparse.Namespace) -> None:
    """Measure every content over one link, in a namespace of our own; a line of JSON each."""
    if arguments.namespaces:
        shape(LINKS[link])
    with certificates() as directory:
        for name in arguments.contents:
            result = {"link": link, **measure(name, arguments.recordings / f"{name}.npy", directory, arguments)}
            print(json.dumps(result), flush=True)


def over(link: str, arguments: argparse.Namespace, recordings: Path) -> Iterator[dict[str, Any]]:
    """Run `inside` in a process of its own and yield its results."""
    prefix = ["unshare", "--net"] if arguments.namespaces else []
    command = [
        *prefix, sys.executable, str(HERE / "compressed.py"), "--inside", link, "--recordings", str(recordings),
        "--seconds", str(arguments.seconds), "--repeats", str(arguments.repeats), "--workers", str(arguments.workers),
        "--contents", *arguments.contents, *(["--namespaces"] if arguments.namespaces else []),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"measuring over {link} failed with exit code {process.returncode}")


def can_make_namespaces() -> bool:
    """Whether slow links can be made here."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return False
    try:
        script = "ip link set lo up && tc qdisc add dev lo root tbf rate 1mbit burst 64kb latency 50ms"
        return subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True).returncode == 0
    except OSError:
        return False


def row(result: dict[str, Any]) -> list[str]:
    """Return a line of the table: steps per second, and how many of an observation's bytes travel."""
    rates, sizes = result["steps_per_second"], result["wire_bytes_per_step"]
    best = max(rates, key=rates.__getitem__)
    cells = [
        ("**{}**" if codec == best else "{}").format(f"{rates[codec]:,.0f}") + f" ({sizes[codec] / 1_000:,.1f} kB)"
        for codec in map(str, CODECS)
    ]
    return [result["content"], result["link"], f"{result['row_bytes'] / 1_000:,.1f} kB", *cells]


def main() -> None:
    """Measure and tell."""
    made = parser(__doc__, "compressed")
    made.add_argument("--contents", nargs="+", default=list(RECORDINGS), choices=RECORDINGS)
    made.add_argument("--links", nargs="+", default=list(LINKS), choices=LINKS)
    made.add_argument("--workers", type=int, default=2, help="of the server (default: %(default)s)")
    made.add_argument("--inside", choices=LINKS, help=argparse.SUPPRESS)
    made.add_argument("--recordings", type=Path, help=argparse.SUPPRESS)
    made.add_argument("--namespaces", action="store_true", help=argparse.SUPPRESS)
    arguments = parse(made)
    if arguments.inside:
        inside(arguments.inside, arguments)
        return
    arguments.namespaces = can_make_namespaces()
    links = arguments.links if arguments.namespaces else ["loopback"]
    if links != arguments.links:
        print("slow links need Linux, root, ip and tc: measuring loopback only", file=sys.stderr)
    report = Report("compressed", arguments, workers=arguments.workers, links={link: LINKS[link] for link in links})
    results = []
    with tempfile.TemporaryDirectory(prefix="remote_gym-benchmark-") as folder:
        record(arguments.contents, Path(folder))
        for link in links:
            for result in over(link, arguments, Path(folder)):
                report.add(result)
                results.append(result)
                print(*row(result), sep="  ", file=sys.stderr, flush=True)
    results.sort(key=lambda result: arguments.contents.index(result["content"]))
    print(table(["content", "link", "observation", "uncompressed", "lz4", "zstd"], map(row, results)))
    report.done()


if __name__ == "__main__":
    main()
