"""How many environment steps per second? Remote over mutual TLS, side by side with what users would pick instead.

    python benchmarks/throughput.py                                   everything; about half an hour
    python benchmarks/throughput.py --cases cartpole --num-envs 64    one question
    python benchmarks/throughput.py --peers all                       and the peers that can be installed here

All contenders of a case run interleaved, each in a process of its own; the server is another one, as users have it.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import quiet
import report
import serving
import venvs
from slices import Account, Contender, interleave, others_cores

IMAGE_BYTES = 84 * 84 * 4
PEER_KINDS = {
    "sb3": "peers:sb3", "puffer": "peers:puffer", "ray": "peers:ray_actors", "envpool": "peers:envpool",
    "rlmesh": "peers:rlmesh",
}  # fmt: skip
TITLES = {
    "sync": "SyncVectorEnv, in-process",
    "async": "AsyncVectorEnv, local processes",
    "own-vector": "the id's own vector env, in-process",
    "remote": "remote, step()",
    "remote-grpc": 'remote, step(), transport="grpc"',
    "local": "RemoteVectorEnv.local, step()",
    "views": "remote, step(), copy=False",
    "halves": "remote, send/recv in halves",
    "two": "remote, two vector envs of as many in flight",
    "batch": "remote, send/recv, batch_size",
    "remote-own-vector": "remote, the id's own vector env hosted",
    "echo": "bare gRPC stream of the same bytes",
    "tls": "bare TLS socket of the same bytes",
    "sb3": "SB3 SubprocVecEnv, local processes",
    "puffer": "PufferLib Multiprocessing, local processes",
    "ray": "Ray, an actor with a SyncVectorEnv per core",
    "envpool": "EnvPool, local, the env itself in C++",
    "rlmesh": "RLMesh over a SyncVectorEnv, plaintext",
}
REMOTE = ("remote", "remote-grpc", "views", "halves", "two", "batch")


@dataclass(frozen=True)
class Case:
    """A kind of work; `words`: what the tables call it."""

    words: str
    env: str
    num_envs: tuple[int, ...]
    contenders: tuple[str, ...]
    num_workers: int = 2
    batch_size: int | None = None  # of the contender "batch"
    peers: tuple[str, ...] = ()


LOCAL_AND_REMOTE = ("sync", "async", "local", "remote", "remote-grpc", "views", "halves")
CASES = {
    "cartpole": Case(
        "CartPole", "CartPole-v1", (1, 8, 64, 256, 1_024, 4_096), (*LOCAL_AND_REMOTE, "two"), peers=tuple(PEER_KINDS)
    ),
    "images": Case(
        "(84, 84, 4) uint8 images",
        "image",
        (1, 8, 64),
        ("sync", "async", "local", "remote", "remote-grpc", "views", "echo", "tls", "two"),
        peers=("sb3", "puffer", "ray", "rlmesh"),
    ),
    "halfcheetah": Case(
        "HalfCheetah", "HalfCheetah-v5", (1, 8, 64, 256), LOCAL_AND_REMOTE, peers=("sb3", "puffer", "ray")
    ),
    "sleeping": Case("5 ms of sleep", "sleep-5", (1, 16, 64, 256), LOCAL_AND_REMOTE, num_workers=32),
    "heavy-tail": Case(
        "a heavy tail", "heavy-tail", (64,), ("sync", "async", "remote", "batch"), num_workers=32, batch_size=32
    ),
    "own-vector": Case(
        "CartPole's own vector env", "CartPole-v1", (256,), ("sync", "own-vector", "remote", "remote-own-vector")
    ),
}  # fmt: skip

MAX_ENVS = {"async": 256, "sb3": 256, "puffer": 1_024, "ray": 1_024, "rlmesh": 1_024}
"""A process for each of a thousand environments is not what anybody would do; the others only save time."""

PEER_START_SECONDS = 90.0
"""How long a peer may take to be ready, twice: Ray and PufferLib hang every now and then."""


USED_SECONDS = 0.5
"""How long a server is used before it is measured."""


def fits(name: str, num_envs: int) -> bool:
    """Whether a contender is measured with so many environments."""
    return num_envs <= MAX_ENVS.get(name, num_envs) and (num_envs >= 2 or name != "halves")


def contenders_of(
    case: Case, names: Sequence[str], num_envs: int, directory: Path, stack: contextlib.ExitStack
) -> dict[str, Contender]:
    """Start the servers that are needed and return what is to be measured."""
    config: dict[str, Any] = {"env": case.env, "num_envs": num_envs, "num_workers": case.num_workers}
    config["credentials"] = serving.client_paths(directory)
    if any(name in REMOTE for name in names):
        config["addresses"] = [stack.enter_context(serving.served(case.env, case.num_workers, directory))[1]]
        # It has served before, and knows how long a step takes: that decides how many workers a session is spread over.
        interleave({"before": Contender("remote:step", config)}, 1, USED_SECONDS)
    made = {}
    for name in names:
        if not fits(name, num_envs):
            continue
        if name in PEER_KINDS:
            python = venvs.find(name).python or ""
            made[name] = Contender(PEER_KINDS[name], config, python, start_seconds=PEER_START_SECONDS, attempts=2)
        else:
            made[name] = _ours(name, case, config, directory, stack)
    return made


def _ours(
    name: str, case: Case, config: dict[str, Any], directory: Path, stack: contextlib.ExitStack
) -> Contender:  # fmt: skip
    num_envs = config["num_envs"]
    if name == "halves":
        return Contender("remote:batches", {**config, "batch_size": num_envs // 2})
    if name == "batch":
        return Contender("remote:batches", {**config, "batch_size": min(case.batch_size or num_envs, num_envs)})
    if name == "two":
        return Contender("remote:in_flight", {**config, "clients": 2})
    if name == "remote-grpc":
        return Contender("remote:step", {**config, "transport": "grpc"})
    if name == "local":
        return Contender("remote:local", {**config, "entrypoint": str(serving.HERE / "environments.py")})
    if name in ("echo", "tls"):
        # As many bytes as remote_gym sends: 8 an action; an image, a reward and two flags an environment.
        module = {"echo": "echo", "tls": "sockets"}[name]
        address = stack.enter_context(serving.echoing(num_envs * (IMAGE_BYTES + 10) + 40, directory, module))
        return Contender(f"{module}:client", {**config, "addresses": [address], "request_bytes": 8 * num_envs + 32})
    if name == "remote-own-vector":
        flags = ("--vectorization-mode", "vector_entry_point")
        address = stack.enter_context(serving.served(case.env, case.num_workers, directory, *flags))[1]
        return Contender("remote:step", {**config, "addresses": [address]})
    kinds = {
        "sync": "local:sync", "async": "local:asynchronous", "own-vector": "local:own_vector",
        "remote": "remote:step", "views": "remote:views",
    }  # fmt: skip
    return Contender(kinds[name], config)


def measure(
    name: str, case: Case, names: Sequence[str], num_envs: int, directory: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return the figures of one case with so many environments."""
    with contextlib.ExitStack() as stack:
        contenders = contenders_of(case, names, num_envs, directory, stack)
        accounts = interleave(contenders, arguments.repeats, arguments.seconds)
    return {
        "case": name, "env": case.env, "num_envs": num_envs, "num_workers": case.num_workers,
        "batch_size": case.batch_size, **figures(accounts),
    }  # fmt: skip


def figures(accounts: dict[str, Account]) -> dict[str, Any]:
    """Return the rates of all rounds, their medians and what failed, for the JSON."""
    return {
        "steps_per_second": {name: [round(rate, 1) for rate in one.rates] for name, one in accounts.items()},
        "median": {name: one.median for name, one in accounts.items() if one.median is not None},
        "failed": {name: one.error for name, one in accounts.items() if one.error is not None},
        "others_cores": others_cores(accounts),
    }


def as_table(result: dict[str, Any]) -> str:
    """Return the medians of a case, fastest first, with ratios to the local vector envs."""
    median = result["median"]
    rows = []
    for name, rate in sorted(median.items(), key=lambda item: -item[1]):
        ratios = [f"{rate / median[peer]:.2f}" if peer in median else "" for peer in ("async", "sync")]
        rows.append([TITLES[name], f"{rate:,.0f}", *ratios])
    notes = [f"left out: {TITLES[name]}: {reason}" for name, reason in result["failed"].items()]
    for bare, words in (("echo", "bare gRPC"), ("tls", "a bare TLS socket")):
        if bare in median:
            notes += [f"{name}: {median[name] / median[bare]:.0%} of {words}" for name in REMOTE if name in median]
    title = f"\n{result['case']}: {result['env']}, {result['num_envs']} envs, {result['num_workers']} workers\n"
    return "\n".join(
        [title, report.table(["contender", "env steps/s", "× AsyncVectorEnv", "× SyncVectorEnv"], rows), *notes]
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = report.parser(__doc__, "throughput")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--num-envs", nargs="+", type=int, help="only these of the case's numbers of environments")
    parser.add_argument("--contenders", nargs="+", choices=TITLES, help="only these")
    parser.add_argument(
        "--peers", nargs="+", default=["installed"], metavar="PEER",
        help=f"installed (default), all (installs them first), none, or names of {', '.join(PEER_KINDS)}",
    )  # fmt: skip
    return report.parse(parser, arguments)


def wanted_peers(asked: Sequence[str], peers: Sequence[str] = tuple(PEER_KINDS)) -> dict[str, str | None]:
    """Return the peers to measure, and with each the reason why it cannot be, or None."""
    if list(asked) == ["none"]:
        return {}
    names = peers if asked[0] in ("all", "installed") else asked
    find = venvs.find if asked[0] == "installed" else venvs.install
    return {name: find(name).error for name in names}


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure and report."""
    arguments = parse(command_line)
    peers = wanted_peers(arguments.peers)
    written = report.Report("throughput", arguments, peers_left_out={k: v for k, v in peers.items() if v is not None})
    with serving.certificates() as directory:
        keeper = quiet.Keeper(written, directory, arguments.quick)
        for name in arguments.cases:
            case = CASES[name]
            names = [*case.contenders, *(peer for peer in case.peers if peer in peers and peers[peer] is None)]
            names = [one for one in names if arguments.contenders is None or one in arguments.contenders]
            for num_envs in case.num_envs[:2] if arguments.quick else case.num_envs:
                if arguments.num_envs is None or num_envs in arguments.num_envs:
                    result = keeper.keep(partial(measure, name, case, names, num_envs, directory, arguments))
                    if result is not None:
                        print(as_table(result), flush=True)
    written.done()


if __name__ == "__main__":
    main()
