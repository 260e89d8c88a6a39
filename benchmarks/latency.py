"""How long does one step of one environment take? Percentiles, against bare gRPC and a bare TLS socket in the same run.

    python benchmarks/latency.py

Bare gRPC is an echo of the same bytes over mutual TLS, with the same channel options and the same API flavours, and no
environment behind it: what no gRPC program in Python can be faster than. The bare TLS socket is that of the direct
carrier, likewise with nothing behind it. The peer is the original remote-gym 0.7.3, in
a virtual environment of its own (installed on first use).
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import quiet
import report
import serving
import venvs
from slices import Account, Contender, interleave, others_cores

ENV = "CartPole-v1"
REQUEST_BYTES, ANSWER_BYTES = 24, 62
"""What one step of one CartPole is on the wire: measured once; hundreds more or less would make no difference."""

ORIGINAL = "original 0.7.3"
TITLES = {
    "echo": "bare gRPC echo",
    "tls": "bare TLS socket echo",
    "single": "RemoteEnvironment.step()",
    "single-grpc": 'RemoteEnvironment.step(), transport="grpc"',
    "vector": "RemoteVectorEnv.step(), one env",
    ORIGINAL: "remote-gym 0.7.3, RemoteEnvironment.step()",
}


def contenders(directory: Path, stack: contextlib.ExitStack, with_original: bool) -> dict[str, Contender]:
    """Start the servers and return what is to be measured."""
    credentials = serving.client_paths(directory)
    _, address = stack.enter_context(serving.served(ENV, 1, directory))
    echo, tls = (stack.enter_context(serving.echoing(ANSWER_BYTES, directory, kind)) for kind in ("echo", "sockets"))
    config: dict[str, Any] = {"env": ENV, "credentials": credentials, "addresses": [address], "num_envs": 1}
    made = {
        "echo": Contender("echo:client", {**config, "addresses": [echo], "request_bytes": REQUEST_BYTES}),
        "tls": Contender("sockets:client", {**config, "addresses": [tls], "request_bytes": REQUEST_BYTES}),
        "single": Contender("remote:single", config),
        "single-grpc": Contender("remote:single", {**config, "transport": "grpc"}),
        "vector": Contender("remote:timed", config),
    }
    if with_original:
        files = [str(directory / name) for name in ("server.pem", "server-key.pem", "ca.pem")]
        python = venvs.find("original").python or ""
        # Its start hangs every now and then.
        made[ORIGINAL] = Contender(
            "original:single", {**config, "server_credentials": files}, python, start_seconds=20.0, attempts=8
        )
    return made


def summary(account: Account) -> dict[str, Any]:
    """Return percentiles over all rounds, and of each round."""
    rounds = [answer["microseconds"] for answer in account.answers]
    return {
        **report.percentiles([value for one in rounds for value in one]),
        "p50_of_rounds": [round(statistics.median(one), 1) for one in rounds],
        "samples": sum(map(len, rounds)),
    }


def figures(accounts: dict[str, Account], error: str | None) -> dict[str, Any]:
    """Return the percentiles and what failed, for the JSON; `error`: why the original was left out."""
    failed = {name: one.error for name, one in accounts.items() if one.error is not None}
    if error is not None:
        failed[ORIGINAL] = error
    results = with_ratios({name: summary(one) for name, one in accounts.items() if one.answers})
    return {"env": ENV, "microseconds": results, "failed": failed, "others_cores": others_cores(accounts)}


def as_table(results: dict[str, dict[str, Any]]) -> str:
    """Return the percentiles; the ratio is the median over the rounds of the ratio of that round's medians."""
    rows = [
        [TITLES[name], *(f"{one[p]:,.0f}" for p in ("p50", "p90", "p99")), f"{one.get('ratio', 1.0):.2f}"]
        for name, one in results.items()
    ]
    return report.table(["one step, microseconds", "p50", "p90", "p99", "× bare gRPC"], rows)


def with_ratios(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the results, with `ratio`: how many times as long as bare gRPC."""
    echo = results.get("echo")
    if echo is None:
        return results
    return {
        name: {**one, "ratio": statistics.median(_ratios(one["p50_of_rounds"], echo["p50_of_rounds"]))}
        for name, one in results.items()
    }


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [one / other for one, other in zip(ours, theirs, strict=False)]


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = report.parser(__doc__, "latency")
    parser.add_argument("--no-original", action="store_true", help="leave remote-gym 0.7.3 out")
    arguments = report.parse(parser, command_line)
    error = "not asked for" if arguments.no_original else venvs.install("original").error
    written = report.Report("latency", arguments, request_bytes=REQUEST_BYTES, answer_bytes=ANSWER_BYTES)
    with serving.certificates() as directory:

        def measure() -> dict[str, Any]:
            with contextlib.ExitStack() as stack:
                made = contenders(directory, stack, error is None)
                return figures(interleave(made, arguments.repeats, arguments.seconds), error)

        kept = quiet.Keeper(written, directory, arguments.quick).keep(measure)
    if kept is not None:
        print(as_table(kept["microseconds"]))
        for name, reason in kept["failed"].items():
            print(f"left out: {TITLES[name]}: {reason}")
    written.done()


if __name__ == "__main__":
    main()
