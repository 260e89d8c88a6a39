"""What do many servers cost one client, and what do several learners get of the same servers?

    python benchmarks/fleet.py                         both: some six minutes, 8 GB
    python benchmarks/fleet.py --parts servers --servers 1 8
    python benchmarks/fleet.py --write [RESULTS.json]  put the tables into docs/explanation/scaling.md

One vector env over 1 to 64 servers of 64 sleeping environments each, beside one server with as many environments: what
differs between the two is what servers cost. The fit through both is what larger fleets are estimated by.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import quiet
import report
import serving
from slices import Account, Contender, ContenderFailed, Slice, interleave, others_cores
from watch import Watch, descendants, resident_bytes

ENV = "sleep-0.2"
"""Milliseconds: 64 of them, one after the other in their worker, take about 20."""

COUNTS, ENVS_OF_A_SERVER = (1, 2, 4, 8, 16, 32, 64), 64
QUICK_COUNTS, QUICK_ENVS = (1, 2), 4
STARTS_AT_ONCE = 4

LEARNERS, SERVERS_OF_LEARNERS, ENVS_OF_A_LEARNER = (1, 2, 4), 8, 128
QUICK_LEARNERS, QUICK_SERVERS = (1, 2), 2

FIGURES = {
    "cpu_ms": "CPU ms a step",
    "resident_mb": "resident MB",
    "threads": "threads",
    "descriptors": "descriptors",
    "kilobytes": "kB a step",
}
"""What is fitted, and what it is called."""

TARGET = {"servers": 100, "envs": 10_000}
"""What is estimated besides."""


@contextlib.contextmanager
def several(count: int, directory: Path) -> Iterator[list[tuple[int, str]]]:
    """Run servers of one worker each, some starting and ending at a time; give the process and the address of each."""
    running = [serving.served(ENV, 1, directory) for _ in range(count)]

    def end(one: contextlib.AbstractContextManager[Any]) -> None:
        one.__exit__(None, None, None)

    started: list[contextlib.AbstractContextManager[Any]] = []

    def start(one: contextlib.AbstractContextManager[Any]) -> tuple[int, str]:
        process, address = one.__enter__()
        started.append(one)
        return process.pid, address

    starts = ThreadPoolExecutor(STARTS_AT_ONCE)
    try:
        yield list(starts.map(start, running))
    finally:
        starts.shutdown(cancel_futures=True)  # who is not there yet, after an interrupt, need not come
        with ThreadPoolExecutor(STARTS_AT_ONCE) as ends:
            list(ends.map(end, started))


def servers(directory: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one vector env over 1 to 64 servers, and over one server of as many environments.

    All servers run and all clients are there all the time; who has their turn steps.
    """
    counts = sorted(arguments.servers or (QUICK_COUNTS if arguments.quick else COUNTS))
    each = QUICK_ENVS if arguments.quick else ENVS_OF_A_SERVER
    credentials = serving.client_paths(directory)
    with several(counts[-1], directory) as fleet, serving.served(ENV, counts[-1], directory) as (one, address):
        addresses = [of_server for _, of_server in fleet]
        contenders = {}
        for count in counts:
            ways = (("fleet", addresses[:count]), ("one", [address]))
            for name, places in ways if count > 1 else ways[:1]:  # one server is one server
                config = {"addresses": places, "num_envs": count * each, "credentials": credentials}
                contenders[f"{name}-{count}"] = Contender("remote:counted", config)
        accounts = interleave(contenders, arguments.repeats, arguments.seconds)
        memory = {
            "server_bytes": statistics.median(resident_bytes(pid) for pid, _ in fleet),
            "worker_bytes": statistics.median(resident_bytes(own) for pid, _ in fleet for own in descendants(pid)),
            "one_server_bytes": resident_bytes(one.pid),
        }  # fmt: skip
    points = [_point(name, account, each) for name, account in accounts.items() if account.answers]
    fits = {figure: fit(points, figure) for figure in FIGURES}
    return {
        "part": "servers", "env": ENV, "envs_of_a_server": each, "points": points, "servers_memory": memory,
        "fits": fits, "estimated": {**TARGET, **{figure: estimate(one, TARGET) for figure, one in fits.items()}},
        "median": {name: account.median for name, account in accounts.items() if account.answers},
        "failed": {name: account.error for name, account in accounts.items() if account.error},
        "others_cores": others_cores(accounts),
    }  # fmt: skip


def _point(name: str, account: Account, each: int) -> dict[str, Any]:
    """Return what a step has cost one client: medians over the rounds."""
    kind, count = name.split("-")
    answers = account.answers

    def median(value: Any) -> float:
        return round(statistics.median(value(answer) for answer in answers), 4)

    return {
        "kind": kind,
        "servers": int(count) if kind == "fleet" else 1,
        "envs": int(count) * each,
        "step_ms": median(lambda answer: 1_000 * answer["seconds"] / answer["rounds"]),
        "cpu_ms": median(lambda answer: 1_000 * answer["cpu_seconds"] / answer["rounds"]),
        "caller_cpu_ms": median(lambda answer: 1_000 * answer["caller_seconds"] / answer["rounds"]),
        "resident_mb": median(lambda answer: answer["resident_bytes"] / 1e6),
        "threads": median(lambda answer: answer["threads"]),
        "descriptors": median(lambda answer: answer["descriptors"]),
        "kilobytes": median(lambda answer: answer["bytes"] / answer["rounds"] / 1e3),
        "open_seconds": median(lambda answer: answer["open_seconds"]),
    }


def fit(points: Sequence[Mapping[str, Any]], figure: str) -> dict[str, float]:
    """Return `figure` as a constant, what several servers take once, and something per server and per environment.

    By least squares of relative errors. Several servers are asked by gRPC what they are, which has threads of its own.

    Returns:
        ``constant``, ``of_several``, ``per_server``, ``per_env``, and ``largest_error``: of all points, relative.
    """
    rows = np.array([_terms(point) for point in points])
    seen = np.array([float(point[figure]) for point in points])
    found, *_ = np.linalg.lstsq(rows / seen[:, None], np.ones(len(seen)), rcond=None)
    errors = np.abs(rows @ found / seen - 1)
    return {**dict(zip(TERMS, map(float, found), strict=True)), "largest_error": float(errors.max())}


TERMS = ("constant", "of_several", "per_server", "per_env")


def _terms(size: Mapping[str, Any]) -> list[float]:
    return [1.0, float(size["servers"] > 1), size["servers"], size["envs"]]


def estimate(fitted: Mapping[str, float], size: Mapping[str, int]) -> float:
    """Return what is to be expected of so many ``servers`` and ``envs``."""
    return sum(fitted[name] * term for name, term in zip(TERMS, _terms(size), strict=True))


def servers_table(result: dict[str, Any]) -> str:
    """Return what each size costs, with what the fit says beside it, and what it says of a larger one."""
    fits, rows = result["fits"], []
    for point in result["points"]:
        what = f"{point['servers']} × {point['envs'] // point['servers']:,}"
        cells = [f"{point[figure]:,.1f} ({estimate(fits[figure], point):,.1f})" for figure in FIGURES]
        rows.append([what, f"{point['step_ms']:,.0f}", *cells])
    estimated = result["estimated"]
    what = f"{estimated['servers']} × {estimated['envs'] // estimated['servers']:,}, by the fit"
    rows.append([what, "", *(f"({estimated[figure]:,.1f})" for figure in FIGURES)])
    memory = {name: size / 1e6 for name, size in result["servers_memory"].items()}
    return "\n".join([
        report.table(["servers × environments, one client", "step ms", *FIGURES.values()], rows),
        "",
        *(
            f"- {name} = {_in_words(fits[figure])}, within {fits[figure]['largest_error']:.0%}"
            for figure, name in FIGURES.items()
        ),
        f"- each server holds {memory['server_bytes']:.0f} MB, its worker {memory['worker_bytes']:.0f} MB",
    ])  # fmt: skip


def _in_words(fitted: Mapping[str, float]) -> str:
    once = [round(fitted[name], 1) + 0.0 for name in TERMS[:2]]  # never -0.0
    server, env = (round(fitted[name], 6) + 0.0 for name in TERMS[2:])
    return f"{once[0]} + {once[1]} if there are several + {server:.2g} × servers + {env:.2g} × environments"


def learners(directory: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure 1, 2 and 4 client processes that step at the same time, each with environments on all of the servers."""
    numbers = QUICK_LEARNERS if arguments.quick else LEARNERS
    count = QUICK_SERVERS if arguments.quick else SERVERS_OF_LEARNERS
    rates: dict[str, list[list[float]]] = {str(number): [] for number in numbers}
    with several(count, directory) as fleet, contextlib.ExitStack() as stack:
        config = {
            "addresses": [address for _, address in fleet], "num_envs": ENVS_OF_A_LEARNER,
            "credentials": serving.client_paths(directory),
        }  # fmt: skip
        running = [Slice(Contender("remote:counted", config)) for _ in range(numbers[-1])]
        for one in running:
            stack.callback(one.close)
        together = stack.enter_context(ThreadPoolExecutor(len(running)))
        for one in running:
            one.wait_until_ready()
        watch, failed = Watch(), {}
        for round_number in range(arguments.repeats + 1):
            for number in numbers:
                try:
                    answers = list(together.map(lambda one: one.run(arguments.seconds), running[:number]))
                except ContenderFailed as error:
                    failed[str(number)] = str(error)
                    continue
                if round_number:  # the first one warms up
                    rates[str(number)].append([answer["steps"] / answer["seconds"] for answer in answers])
        others = watch.others
    return {
        "part": "learners", "env": ENV, "servers": count, "envs_of_a_learner": ENVS_OF_A_LEARNER, "rates": rates,
        "median": {name: statistics.median(map(sum, each)) for name, each in rates.items() if each},
        "fairness": {name: statistics.median(map(fairness, each)) for name, each in rates.items() if each},
        "failed": failed, "others_cores": others,
    }  # fmt: skip


def fairness(rates: Sequence[float]) -> float:
    """Return Jain's index: 1 where all get the same, 1 / n where one of n gets everything.

    R. Jain, D. Chiu, W. Hawe: A Quantitative Measure of Fairness and Discrimination, DEC-TR-301, 1984.
    """
    return sum(rates) ** 2 / (len(rates) * sum(rate**2 for rate in rates))


def learners_table(result: dict[str, Any]) -> str:
    """Return the rate of all together, and how fairly it is shared."""
    first = next(iter(result["median"].values()))
    rows = [
        [name, f"{rate:,.0f}", f"{rate / first:.2f}", f"{result['fairness'][name]:.3f}"]
        for name, rate in result["median"].items()
    ]
    what = f"learners of {result['envs_of_a_learner']} environments, on the same {result['servers']} servers"
    return report.table([what, "env steps/s together", "× one", "Jain's fairness"], rows)


PARTS = {"servers": (servers, servers_table), "learners": (learners, learners_table)}
"""What measures, and what makes a table of it."""

PAGE = Path(__file__).resolve().parent.parent / "docs" / "explanation" / "scaling.md"
"""Has the tables, each between ``<!-- servers of RESULTS.json -->`` and ``<!-- end -->``."""


def written_into(page: str, results: Path) -> str:
    """Return `page` with the tables of these results in their places."""
    of_parts = {one["part"]: one for one in json.loads(results.read_text())["results"]}
    for name, (_, as_table) in PARTS.items():
        if name in of_parts:
            new = f"<!-- {name} of {results.name} -->\n\n{as_table(of_parts[name])}\n\n<!-- end -->"
            page = re.sub(rf"<!-- {name} of .*?<!-- end -->", lambda _, new=new: new, page, flags=re.DOTALL)
    return page


def newest() -> Path:
    """Return the last results of this benchmark."""
    return sorted(report.RESULTS.glob("fleet-????-??-??.json"))[-1]


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure and report, or write down what was measured."""
    parser = report.parser(__doc__, "fleet", seconds=1.5)
    parser.set_defaults(repeats=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--servers", nargs="+", type=int, help=f"of the part of that name (default: {COUNTS})")
    parser.add_argument("--write", nargs="?", type=Path, const=Path(), metavar="RESULTS", help="measure nothing")
    arguments = report.parse(parser, command_line)
    if arguments.write is not None:
        PAGE.write_text(written_into(PAGE.read_text(), arguments.write if arguments.write.name else newest()))
        return
    written = report.Report("fleet", arguments)
    with serving.certificates() as directory:
        keeper = quiet.Keeper(written, directory, arguments.quick)
        for part in arguments.parts:
            measure, as_table = PARTS[part]
            keeper.show(partial(measure, directory, arguments), as_table)
    written.done()


if __name__ == "__main__":
    main()
