"""Make the pictures of the README and the docs from the results.

    python benchmarks/plot.py [RESULTS.json ...]        needs matplotlib; default: the newest of each benchmark

Writes ``benchmarks/plots/*.png``; each has the name of its results in its lower right corner.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import fleet
import latency
import local
import throughput
from matplotlib import pyplot
from matplotlib.axes import Axes
from summary import newest

PLOTS = Path(__file__).resolve().parent / "plots"
OURS, LOCAL, THEIRS, REFERENCE = "#1f77b4", "#08306b", "#b0b0b0", "#ff7f0e"
CURVES = {
    "local": (LOCAL, "D-"), "remote": (OURS, "o-"), "halves": (OURS, "^--"), "two": (OURS, "s:"),
    "remote-grpc": ("#17becf", "o-"), "sync": ("#2ca02c", "o-"),
    "async": ("#d62728", "o-"), "sb3": ("#9467bd", "o-"), "puffer": ("#8c564b", "o-"), "ray": ("#e377c2", "o-"),
    "rlmesh": ("#7f7f7f", "o-"), "envpool": ("#bcbd22", "o-"),
}  # fmt: skip
TALLEST = 64
"""The bar charts are of the cases with this many environments."""


def plot_throughput(written: dict[str, Any]) -> dict[str, Any]:
    """Return a curve over the environments, and bars of the cases of 64 environments."""
    figures = {}
    cartpole = [one for one in written["results"] if one["case"] == "cartpole"]
    if cartpole:
        figures["throughput-cartpole"] = _figure(lambda axes: _draw_curves(axes, cartpole))
    for result in written["results"]:
        if result["num_envs"] == TALLEST and result["median"]:
            figures[f"throughput-{result['case']}-{TALLEST}"] = _bars(result)
    return figures


def _draw_curves(axes: Axes, results: list[dict[str, Any]]) -> None:
    for name, (color, style) in CURVES.items():
        points = [(one["num_envs"], one["median"][name]) for one in results if name in one["median"]]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=color, label=throughput.TITLES[name], markersize=4)
    axes.set(
        xscale="log", yscale="log", xlabel="environments", ylabel="environment steps per second",
        title="CartPole-v1; remote is over mutual TLS on loopback",
    )  # fmt: skip
    axes.set_xticks([one["num_envs"] for one in results], [f"{one['num_envs']:,}" for one in results])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _bars(result: dict[str, Any]) -> Any:
    ordered = sorted(result["median"].items(), key=lambda item: item[1])
    colors = [_color(name) for name, _ in ordered]

    def draw(axes: Axes) -> None:
        bars = axes.barh([throughput.TITLES[name] for name, _ in ordered], [rate for _, rate in ordered], color=colors)
        axes.bar_label(bars, [f" {rate:,.0f}" for _, rate in ordered], fontsize=8)
        axes.margins(x=0.18)
        axes.set(title=f"{result['env']}, {result['num_envs']} environments", xlabel="environment steps per second")

    return _figure(draw, height=1.2 + 0.35 * len(ordered))


def _color(name: str) -> str:
    if name in ("echo", "tls"):
        return REFERENCE
    if name == "local":
        return LOCAL
    return OURS if "remote" in throughput.TITLES[name] else THEIRS


def plot_local(written: dict[str, Any]) -> dict[str, Any]:
    """Return bars of each work, as times the rate of `AsyncVectorEnv`: absolute rates differ too much for one axis."""
    results = [one for one in written["results"] if "async" in one["median"]]
    names = [name for name in local.HEADER if any(name in one["median"] for one in results)]
    height = 0.8 / len(names)

    def draw(axes: Axes) -> None:
        for offset, name in enumerate(names):
            ratios = [one["median"].get(name, 0.0) / one["median"]["async"] for one in results]
            places = [index + (offset + 0.5) * height - 0.4 for index in range(len(results))]
            color, _ = CURVES[name]
            bars = axes.barh(places, ratios, height=height, label=throughput.TITLES[name], color=color)
            axes.bar_label(bars, [f" {ratio:.1f}" if ratio else "" for ratio in ratios], fontsize=7)
        words = [f"{throughput.CASES[one['case']].words}, {one['num_envs']}" for one in results]
        axes.set_yticks(range(len(results)), words)
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.set(xscale="log", xlabel="environment steps per second, as times AsyncVectorEnv's")
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0.0, -0.12), ncols=2)

    return {"local": _figure(draw, height=1.5 + 1.2 * len(results))} if results else {}


def plot_latency(written: dict[str, Any]) -> dict[str, Any]:
    """Return bars of the percentiles of a single environment's step."""
    results = written["results"][0]["microseconds"]

    def draw(axes: Axes) -> None:
        for offset, name in enumerate(("p50", "p90", "p99")):
            places = [index + (offset - 1) * 0.27 for index in range(len(results))]
            bars = axes.barh(places, [one[name] for one in results.values()], height=0.25, label=name)
            axes.bar_label(bars, [f" {one[name]:,.0f}" for one in results.values()], fontsize=8)
        axes.set_yticks(range(len(results)), [latency.TITLES[name] for name in results])
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set(title="One step of one CartPole-v1, over mutual TLS", xlabel="microseconds")
        axes.legend()

    return {"latency": _figure(draw, height=1.2 + 0.8 * len(results))}


def plot_network(written: dict[str, Any]) -> dict[str, Any]:
    """Return, for each case, how much of the throughput is kept behind each link."""
    return {f"network-{result['case']}": _kept(result) for result in written["results"]}


def _kept(result: dict[str, Any]) -> Any:
    def draw(axes: Axes) -> None:
        for offset, way in enumerate(("step()", "send/recv")):
            rates = [result["median"].get(f"{way} | {line}", 0.0) for line in result["links"]]
            places = [index + (offset - 0.5) * 0.4 for index in range(len(rates))]
            bars = axes.barh(places, rates, height=0.38, label=way, color=(THEIRS, OURS)[offset])
            axes.bar_label(bars, [f" {rate:,.0f}" for rate in rates], fontsize=8)
        axes.set_yticks(range(len(result["links"])), result["links"])
        axes.invert_yaxis()
        axes.margins(x=0.15)
        title = f"{result['num_envs']} × {result['env']}, {result['num_workers']} workers"
        axes.set(title=title, xlabel="environment steps per second")
        axes.legend()

    return _figure(draw, height=1.2 + 0.6 * len(result["links"]))


def plot_scale(written: dict[str, Any]) -> dict[str, Any]:
    """Return steps per second over servers, sessions and environments."""
    labels = {
        "servers": "servers (8 workers, 16 environments of 5 ms each)",
        "sessions": "sessions (one CartPole each)",
        "environments": "CartPoles in one session, 2 workers",
    }
    return {f"scale-{one['part']}": _over(one, labels[one["part"]]) for one in written["results"] if one["median"]}


def _over(result: dict[str, Any], label: str) -> Any:
    counts, rates = [int(name) for name in result["median"]], list(result["median"].values())

    def draw(axes: Axes) -> None:
        axes.plot(counts, rates, "o-", color=OURS)
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="environment steps per second")
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.grid(alpha=0.3)

    return _figure(draw, height=3.2)


def plot_fleet(written: dict[str, Any]) -> dict[str, Any]:
    """Return what a step over so many servers costs one client, beside one server, and what the fit says of more."""
    results = [one for one in written["results"] if one["part"] == "servers"]
    return {"fleet": _costs(results[0])} if results else {}


def _costs(result: dict[str, Any]) -> Any:
    each, points = result["envs_of_a_server"], result["points"]
    counts = [point["envs"] // each for point in points if point["kind"] == "fleet"]
    most = round(fleet.TARGET["envs"] / each)
    beyond = [*counts, *range(counts[-1] + 1, most, max(1, most // 16)), most]
    shown = ("cpu_ms", "resident_mb", "threads", "descriptors")
    figure, grid = pyplot.subplots(2, 2, figsize=(7.5, 6.0), sharex=True)
    figure.set_layout_engine("constrained", rect=(0.0, 0.02, 1.0, 0.98))  # room for the name of the results
    for axes, name in zip(grid.flat, shown, strict=True):
        lines = {
            "fleet": (OURS, "o-", f"servers of {each}"), "one": (THEIRS, "s-", "one server of as many"),
        }  # fmt: skip
        for kind, (color, style, label) in lines.items():
            seen = [(point["envs"] // each, point[name]) for point in points if point["kind"] == kind]
            axes.plot(*zip(*seen, strict=True), style, color=color, label=label, markersize=4)
        fitted = [fleet.estimate(result["fits"][name], {"servers": count, "envs": each * count}) for count in beyond]
        axes.plot(beyond, fitted, "--", color=REFERENCE, label="fit", linewidth=1)
        axes.set(xscale="log", yscale="linear" if name == "resident_mb" else "log", title=fleet.FIGURES[name])
        axes.set_xticks([*counts, most], [f"{count}" for count in [*counts, most]])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
    for axes in grid[1]:
        axes.set(xlabel=f"servers, {each} sleeping environments each")
    grid[0][0].legend(fontsize=7)
    return figure


def plot_train(written: dict[str, Any]) -> dict[str, Any]:
    """Return bars of the wall times."""

    def draw(axes: Axes) -> None:
        for offset, name in enumerate(("local", "remote")):
            places = [index + (offset - 0.5) * 0.4 for index in range(len(written["results"]))]
            times = [one["median_seconds"][name] for one in written["results"]]
            bars = axes.barh(places, times, height=0.38, label=name, color=(THEIRS, OURS)[offset])
            axes.bar_label(bars, [f" {time:.1f}" for time in times], fontsize=8)
        axes.set_yticks(range(len(written["results"])), [f"{one['num_envs']} envs" for one in written["results"]])
        axes.margins(x=0.15)
        axes.set(title="PPO until CartPole-v1 is solved", xlabel="seconds")
        axes.legend()

    return {"train": _figure(draw, height=2.2)}


def _figure(draw: Callable[[Axes], None], height: float = 4.2) -> Any:
    figure, axes = pyplot.subplots(figsize=(7.5, height), layout="constrained")
    draw(axes)
    return figure


PLOTTERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "throughput": plot_throughput, "local": plot_local, "latency": plot_latency, "network": plot_network,
    "scale": plot_scale, "fleet": plot_fleet, "train": plot_train,
}  # fmt: skip


def main(command_line: Sequence[str] | None = None) -> None:
    """Read results, write pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("results", nargs="*", type=Path)
    parser.add_argument("--output", type=Path, default=PLOTS, help="folder (default: benchmarks/plots)")
    arguments = parser.parse_args(command_line)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for path in arguments.results or newest():
        written = json.loads(path.read_text())
        for name, figure in PLOTTERS[written["benchmark"]](written).items():
            figure.text(0.995, 0.005, path.name, ha="right", va="bottom", fontsize=6, color="#808080")
            figure.savefig(arguments.output / f"{name}.png", dpi=110)
            pyplot.close(figure)
            print(arguments.output / f"{name}.png")


if __name__ == "__main__":
    main()
