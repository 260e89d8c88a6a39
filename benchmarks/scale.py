"""How far does it go? Servers behind one vector env, sessions on one server, environments in one session.

    python benchmarks/scale.py                         servers 1 to 8, sessions 1 to 256, environments to 4,096
    python benchmarks/scale.py --parts servers --servers 1 8
    python benchmarks/scale.py --parts environments

Memory is resident memory as Linux tells it (`/proc`); what the bare environment objects take by themselves is measured
in a process without a worker and taken off.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import quiet
import report
import serving
from slices import Account, Contender, Slice, interleave
from throughput import figures
from watch import Watch, resident_bytes

SERVERS, WORKERS_OF_A_SERVER, ENVS_OF_A_SERVER = (1, 2, 4, 8), 8, 16
SESSIONS = (1, 16, 64, 256)
ENVS = (64, 256, 1_024, 4_096)
NUM_WORKERS = 2
MEGABYTE = 1_000_000


def servers(directory: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one vector env over 1 to 8 servers of sleeping environments; more servers, more environments.

    All servers run all the time. The first is also the one server; who has their turn steps, the others wait.
    """
    counts = sorted(arguments.servers or (SERVERS[:2] if arguments.quick else SERVERS))
    contenders = {}
    with contextlib.ExitStack() as stack:
        addresses = [
            stack.enter_context(serving.served("sleep-5", WORKERS_OF_A_SERVER, directory))[1]
            for _ in range(counts[-1])
        ]  # fmt: skip
        for count in counts:
            config = {
                "addresses": addresses[:count], "num_envs": count * ENVS_OF_A_SERVER,
                "credentials": serving.client_paths(directory),
            }  # fmt: skip
            contenders[str(count)] = Contender("remote:step", config)
        accounts = interleave(contenders, arguments.repeats, arguments.seconds)
    return {
        "part": "servers", "env": "sleep-5", "workers_of_a_server": WORKERS_OF_A_SERVER,
        "envs_of_a_server": ENVS_OF_A_SERVER, **figures(accounts),
    }  # fmt: skip


def servers_table(result: dict[str, Any]) -> str:
    """Return the rates by number of servers, and how many times that of the fewest each is."""
    median, fewest = result["median"], min(result["median"], key=int)
    rows = [
        [f"{name} × {result['workers_of_a_server']} × {result['envs_of_a_server']}", f"{rate:,.0f}",
         f"{rate / median[fewest]:.2f}"]
        for name, rate in median.items()
    ]  # fmt: skip
    header = ["servers × workers × environments of 5 ms, one vector env, step()", "env steps/s", "× the fewest"]
    return report.table(header, rows)


def sessions(directory: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure 1 to 256 sessions of one CartPole each, on one server and one channel, all stepped at the same time."""
    counts = SESSIONS[:2] if arguments.quick else SESSIONS
    with serving.served("CartPole-v1", NUM_WORKERS, directory) as (_, address):
        config = {"addresses": [address], "num_envs": 1, "credentials": serving.client_paths(directory)}
        contenders = {str(count): Contender("remote:sessions", {**config, "clients": count}) for count in counts}
        accounts = interleave(contenders, arguments.repeats, arguments.seconds)
    opened = {name: one.answers[0]["open_seconds"] for name, one in accounts.items() if one.answers}
    return {"part": "sessions", "env": "CartPole-v1", "open_seconds": opened, **figures(accounts)}


def sessions_table(result: dict[str, Any]) -> str:
    """Return the rates by number of sessions, and how long it took to open them all."""
    rows = [[name, f"{rate:,.0f}", f"{result['open_seconds'][name]:.2f}"] for name, rate in result["median"].items()]
    header = ["sessions of one CartPole, one client process, one channel", "env steps/s", "all open after s"]
    return report.table(header, rows)


def environments(directory: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one session of 64 to 4,096 CartPoles: time to open, memory, steps a second."""
    counts = ENVS[:2] if arguments.quick else ENVS
    # All at once: a server each, so that the rates are interleaved and memory is of one session.
    with contextlib.ExitStack() as stack:
        running = {count: _Running(count, directory, stack) for count in counts}
        accounts = {str(count): Account() for count in counts}
        watch = Watch()
        for round_number in range(arguments.repeats + 1):
            for count, one in running.items():
                answer = one.slice.run(arguments.seconds)
                if round_number:
                    accounts[str(count)].answers.append(answer)
        others = watch.others
        memory = {str(count): one.memory() for count, one in running.items()}
    for count in counts:
        memory[str(count)]["bare_growth_bytes"] = _bare_growth(counts[0] // NUM_WORKERS, count // NUM_WORKERS)
    opened = {name: round(account.answers[0]["open_seconds"], 3) for name, account in accounts.items()}
    return {
        "part": "environments", "env": "CartPole-v1", "num_workers": NUM_WORKERS, "open_seconds": opened,
        "memory": memory, **figures(accounts), "others_cores": others,
    }  # fmt: skip


class _Running:
    """A server with one client that holds `num_envs` environments."""

    def __init__(self, num_envs: int, directory: Path, stack: contextlib.ExitStack) -> None:
        server, address = stack.enter_context(serving.served("CartPole-v1", NUM_WORKERS, directory))
        config = {"addresses": [address], "num_envs": num_envs, "credentials": serving.client_paths(directory)}
        self.slice = Slice(Contender("remote:step", config))
        stack.callback(self.slice.close)
        self.slice.wait_until_ready()
        self._server = server.pid

    def memory(self) -> dict[str, Any]:
        """Return what the processes hold now."""
        client = self.slice.run(0.0)["process"]
        return {
            "worker_bytes": [resident_bytes(pid) for pid in children(self._server)],
            "server_bytes": resident_bytes(self._server),
            "client_bytes": resident_bytes(client),
        }


def children(pid: int) -> list[int]:
    """Return the processes that `pid` started; Linux only."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return sorted({int(one) for text in texts for one in text.split()})


def _bare_growth(few: int, many: int) -> int:
    bare = Slice(Contender("bare:memory", {"env": "CartPole-v1", "few": few, "many": many}))
    try:
        bare.wait_until_ready()
        growth: int = bare.run(0.0)["grown_bytes"]
    finally:
        bare.close()
    return growth


def environments_table(result: dict[str, Any]) -> str:
    """Return the rates by number of environments, how long they took to open, and what a worker holds for them."""
    memory, rows = result["memory"], []
    least = next(iter(memory))
    for name, rate in result["median"].items():
        growth = max(memory[name]["worker_bytes"]) - max(memory[least]["worker_bytes"])
        overhead = growth - memory[name]["bare_growth_bytes"]
        sizes = (f"{one / MEGABYTE:.1f}" for one in (growth, overhead))
        rows.append([name, f"{result['open_seconds'][name]:.2f}", f"{rate:,.0f}", *sizes])
    header = [
        f"CartPoles in one session, {result['num_workers']} workers", "open after s", "env steps/s",
        f"a worker's growth from {least}, MB", "of it not the envs', MB",
    ]  # fmt: skip
    return report.table(header, rows)


PARTS = {
    "servers": (servers, servers_table), "sessions": (sessions, sessions_table),
    "environments": (environments, environments_table),
}  # fmt: skip
"""What measures, and what makes a table of it."""


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = report.parser(__doc__, "scale", seconds=2.0)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--servers", nargs="+", type=int, help=f"of the part of that name (default: {SERVERS})")
    arguments = report.parse(parser, command_line)
    written = report.Report("scale", arguments)
    with serving.certificates() as directory:
        keeper = quiet.Keeper(written, directory, arguments.quick)
        for part in arguments.parts:
            measure, as_table = PARTS[part]
            keeper.show(partial(measure, directory, arguments), as_table)
    written.done()


if __name__ == "__main__":
    main()
