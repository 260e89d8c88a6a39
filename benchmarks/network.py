"""How fast is it far away? Delay, bandwidth and loss between client and server, over mutual TLS.

    python benchmarks/network.py                      1 ms environments behind 0 and 20 ms, and images behind 100 Mbit/s
    python benchmarks/network.py --through proxy      without network namespaces

The kernel's network emulator in a namespace where that is allowed, else a proxy (`link.py`); the results say which.
All links of a case run interleaved, and the one without delay goes the same way, so the ratio is the link's alone.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import link
import quiet
import report
import serving
from link import Link
from slices import Contender, interleave
from throughput import figures

NEAR = Link()


@dataclass(frozen=True)
class Case:
    """A kind of work, and the links it is tried on."""

    env: str
    num_envs: int
    num_workers: int
    batch_size: int
    links: tuple[Link, ...]


CASES = {
    # 2 workers make 2,000 steps a second; 20 ms of them in flight are 40.
    "delay": Case("sleep-1", 64, 2, 16, (NEAR, Link(5.0), Link(10.0), Link(50.0))),
    "loss": Case("sleep-1", 64, 2, 16, (NEAR, Link(10.0), Link(10.0, loss=0.001), Link(10.0, loss=0.01))),
    "bandwidth": Case("image", 64, 2, 16, (NEAR, Link(0.0, 1_000.0), Link(10.0, 1_000.0), Link(10.0, 100.0))),
}


@contextlib.contextmanager
def linked(case: Case, line: Link, directory: Path, through: str) -> Any:
    """Run a server behind `line`; give its address for the client, and the prefix of the client's command."""
    with contextlib.ExitStack() as stack:
        if through == "namespace":
            prefix = stack.enter_context(link.namespace(line))
            _, address = stack.enter_context(serving.served(case.env, case.num_workers, directory, prefix=prefix))
        else:
            prefix = ()
            _, address = stack.enter_context(serving.served(case.env, case.num_workers, directory))
            address = stack.enter_context(link.proxied(address, line))
        yield address, prefix


def measure(name: str, case: Case, directory: Path, through: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one case: `step()` and `send/recv` over each link."""
    results: dict[str, Any] = {"case": name, "env": case.env, "num_envs": case.num_envs, "links": []}
    with contextlib.ExitStack() as stack:
        contenders = {}
        for line in case.links[: 2 if arguments.quick else None]:
            address, prefix = stack.enter_context(linked(case, line, directory, through))
            config: dict[str, Any] = {
                "num_envs": case.num_envs, "addresses": [address], "credentials": serving.client_paths(directory),
            }  # fmt: skip
            contenders[f"step() | {line}"] = Contender("remote:step", config, prefix=prefix)
            contenders[f"send/recv | {line}"] = Contender(
                "remote:batches", {**config, "batch_size": case.batch_size}, prefix=prefix
            )
            results["links"].append(str(line))
        accounts = interleave(contenders, arguments.repeats, arguments.seconds)
    return {**results, "num_workers": case.num_workers, "batch_size": case.batch_size, **figures(accounts)}


def as_table(result: dict[str, Any]) -> str:
    """Return the medians of a case, and how much of the nearest link's throughput is kept."""
    median, rows = result["median"], []
    for line in result["links"]:
        cells = [line]
        for way in ("step()", "send/recv"):
            rate, near = median.get(f"{way} | {line}"), median.get(f"{way} | {result['links'][0]}")
            cells += [f"{rate:,.0f}" if rate else "", f"{rate / near:.0%}" if rate and near else ""]
        rows.append(cells)
    title = f"\n{result['case']}: {result['num_envs']} × {result['env']}, {result['num_workers']} workers, "
    header = ["link", "step()", "kept", f"send/recv, batch_size={result['batch_size']}", "kept"]
    return f"{title}env steps/s\n\n{report.table(header, rows)}"


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = report.parser(__doc__, "network", seconds=3.0)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--through", choices=("namespace", "proxy"), help="default: a namespace where that is allowed")
    arguments = report.parse(parser, command_line)
    reason = link.why_no_namespace() if arguments.through is None else None
    through = arguments.through or ("proxy" if reason else "namespace")
    print(f"through a {through}" + (f", because: {reason}" if reason else ""))
    written = report.Report("network", arguments, through=through, why_no_namespace=reason)
    with serving.certificates() as directory:
        keeper = quiet.Keeper(written, directory, arguments.quick)
        for name in arguments.cases:
            result = keeper.keep(partial(measure, name, CASES[name], directory, through, arguments))
            if result is not None:
                print(as_table(result), flush=True)
    written.done()


if __name__ == "__main__":
    main()
