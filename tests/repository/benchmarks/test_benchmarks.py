"""The benchmarks run, quickly; what they measure here is worth nothing. Their arithmetic is exact."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import MARK, lives, marked, wait_until

FOLDER = Path(__file__).parents[3] / "benchmarks"

Runs = dict[str, "Future[dict[str, Any]]"]


pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(FOLDER))  # they import each other as scripts do
    folder_of_tests = sys.modules.pop("trainers", None)  # which is called as one of them
    yield
    sys.modules.pop("trainers", None)
    if folder_of_tests is not None:
        sys.modules["trainers"] = folder_of_tests


# What each of these tests looks at: the script, and its flags.
RUNS = {
    "test_throughput_has_every_way_in_one_run": (
        "throughput.py", "--cases", "cartpole", "--num-envs", "8", "--peers", "none",
    ),
    "test_local_stands_in_one_run_with_what_else_there_is": ("local.py", "--work", "cartpole-8"),
    "test_a_trainer_is_measured_in_its_own_loop": (
        "trainers.py", "--trainers", "gymnasium", "torchrl", "--work", "cartpole-16", "--python", "torchrl=/nowhere",
    ),
    "test_latency_has_the_echo_in_the_same_run": ("latency.py", "--no-original"),
    "test_network_delays_by_the_proxy": ("network.py", "--cases", "delay", "--through", "proxy"),
    "test_scale_measures_memory_and_opening": ("scale.py", "--parts", "environments"),
    "test_scale_has_one_vector_env_over_as_many_servers_as_asked_for": (
        "scale.py", "--parts", "servers", "--servers", "1", "2",
    ),
    "test_fleet_has_what_servers_cost_and_what_learners_get": ("fleet.py",),
    # The checkouts come first: --cases takes all that follows it.
    "test_compare_runs_checkouts_in_turns": (
        "compare.py", f"a={FOLDER.parent}", f"b={FOLDER.parent}", "--cases", "one",
    ),
    "test_a_dashboard_is_beside_the_same_without": ("dashboard.py",),
    "test_train_gives_the_same_returns_locally_and_remotely": ("train.py",),
}  # fmt: skip
RUN_SECONDS = 200.0


def run(folder: Path, script: str, *flags: str) -> dict[str, Any]:
    """Run a benchmark as its user would; return what it wrote."""
    output = folder / "results.json"
    command = [sys.executable, str(FOLDER / script), "--quick", "--output", str(output), *flags]
    environment = {**os.environ, MARK: str(folder), "REMOTE_GYM_BENCHMARK_CACHE": str(folder / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, env=environment)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not marked(str(folder)), 5.0, "the end of its processes")
    assert str(output) in done.stdout
    written: dict[str, Any] = json.loads(output.read_text())
    assert written["settings"]["quick"] is True
    assert written["machine"]["packages"]["grpcio"]
    return written


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Start the runs of the chosen tests, two at a time: most of a run is one process after the other starting."""
    chosen = [item.name for item in request.session.items if item.name in RUNS]
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(run, tmp_path_factory.mktemp("run"), *RUNS[name]) for name in chosen}
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def written(request: pytest.FixtureRequest, runs: Runs) -> dict[str, Any]:
    """Return what the benchmark of this test wrote."""
    return runs[request.node.name].result()


def test_throughput_has_every_way_in_one_run(written: dict[str, Any]) -> None:
    (result,) = written["results"]
    assert result["failed"] == {}
    assert set(result["median"]) == {"sync", "async", "local", "remote", "remote-grpc", "views", "halves", "two"}
    assert min(written["calibrations"][0][f"{kind}_echo_microseconds"] for kind in ("grpc", "tls")) > 0
    assert all(rate > 0 for rate in result["median"].values())


def test_local_stands_in_one_run_with_what_else_there_is(written: dict[str, Any]) -> None:
    (result,) = written["results"]
    assert (result["case"], result["num_envs"], result["failed"]) == ("cartpole", 8, {})
    assert set(result["median"]) == {"local", "remote", "sync", "async"}
    left_out = written["settings"]["peers_left_out"]
    assert left_out == {name: f"not installed: python benchmarks/venvs.py {name}" for name in ("sb3", "puffer", "ray")}


def test_local_is_compared_with_its_best_peer() -> None:
    import local

    median = {"local": 90.0, "async": 30.0, "ray": 60.0, "sync": 500.0, "remote": 80.0}
    table = local.as_table([result("cartpole", 8, **median), result("images", 64, local=1.0, sync=2.0)])
    _, _, cartpole, images = table.splitlines()
    assert cartpole == "| CartPole, 8 envs | 90 | 30 |  |  | 60 | 500 | 80 | 1.50 (ray) |"
    assert images == "| (84, 84, 4) uint8 images, 64 envs | 1 |  |  |  |  | 2 |  |  |"


def test_a_trainer_is_measured_in_its_own_loop(written: dict[str, Any]) -> None:
    (result,) = written["results"]
    assert (result["trainer"], result["num_envs"], result["failed"]) == ("gymnasium", 16, {})
    assert set(result["median"]) == {"own", "remote", "local", "SyncVectorEnv"}
    assert result["version"] == written["machine"]["packages"]["gymnasium"]
    assert [*written["settings"]["trainers_left_out"]] == ["torchrl"]


def test_a_trainer_is_compared_with_its_own() -> None:
    import trainers

    of_sb3 = {**result("cartpole", 64, own=100.0, remote=150.0, local=200.0, DummyVecEnv=999.0), "trainer": "sb3"}
    of_torchrl = {**result("images", 16, own=50.0, local=40.0), "trainer": "torchrl"}
    _, _, first, second = trainers.as_table([of_sb3, of_torchrl]).splitlines()
    beside = "| 100 | 150 | 1.50 | 200 | 2.00 | DummyVecEnv 999 |"
    assert first == f"| Stable-Baselines3: `SubprocVecEnv` | CartPole, 64 envs {beside}"
    assert second == "| TorchRL: `ParallelEnv` | (84, 84, 4) uint8 images, 16 envs | 50 |  |  | 40 | 0.80 |  |"
    with pytest.raises(SystemExit, match="--python takes NAME=PATH"):
        trainers.pairs(["sb2=/usr/bin/python"])
    assert trainers.look_for("torchrl", "/nowhere/python").missing == "there is no /nowhere/python"


def test_the_readme_has_the_tables_of_the_results_it_names() -> None:
    import local
    import summary

    readme = (FOLDER.parent / "README.md").read_text()
    makers = {"throughput": summary.headline, "local": lambda results: local.as_table(results["local"])}
    named = {Path(name) for name in re.findall(r"benchmarks/results/[\w-]+\.json", readme)}
    tables = {path: makers[path.name.split("-")[0]] for path in named if path.name.split("-")[0] in makers}
    assert tables
    for path, make in tables.items():
        assert make(summary.load([FOLDER.parent / path])) in readme, path


def test_latency_has_the_echo_in_the_same_run(written: dict[str, Any]) -> None:
    (result,) = written["results"]
    single = result["microseconds"]["single"]
    assert 0 < single["p50"] <= single["p90"] <= single["p99"]
    assert result["microseconds"]["echo"]["ratio"] == 1.0
    assert set(result["microseconds"]) == {"echo", "tls", "single", "single-grpc", "vector"}
    assert result["failed"] == {"original 0.7.3": "not asked for"}


def test_what_others_take_is_seen_and_what_we_take_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    import watch as watching

    seen = iter([(10.0, 4.0, 100.0), (16.0, 9.0, 102.0), (13.0, 9.0, 102.0), None])
    monkeypatch.setattr(watching, "_now", lambda: next(seen))
    watch = watching.Watch()
    assert watch.others == 0.5  # six seconds of all processes, five of them ours, within two
    assert watch.others == 0.0
    assert watch.others is None


@pytest.mark.parametrize(
    ("others", "quick", "kept"), [(0.05, False, 1), (0.5, False, 0), (0.5, True, 1), (None, False, 1)]
)
def test_what_is_taken_beside_other_work_is_thrown_away(
    others: float | None, quick: bool, kept: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import quiet

    speed = {"python_loops_per_second": 2e7, "grpc_echo_microseconds": 300.0, "tls_echo_microseconds": 100.0}
    monkeypatch.setattr(quiet, "calibrate", lambda directory, seconds: {**speed, "others_cores": 0.0})
    results: list[Any] = []
    notes: dict[str, Any] = {}
    report: Any = SimpleNamespace(add=results.append, note=notes.update)
    keeper = quiet.Keeper(report, Path(), quick)
    result = {"case": "x", "others_cores": others}
    assert keeper.keep(lambda: result) == (result if kept else None)
    assert results == [result] * kept
    assert len(notes["calibrations"]) == (1 if kept else quiet.ATTEMPTS)
    printed = capsys.readouterr().out
    assert "calibration: 20.0 million loops" in printed
    assert ("thrown away" in printed) is not bool(kept)


def test_a_run_of_which_nothing_was_kept_fails(tmp_path: Path) -> None:
    import report

    arguments: Any = SimpleNamespace(quick=False, seconds=1.0, repeats=1, output=tmp_path / "x.json")
    written = report.Report("x", arguments)
    with pytest.raises(SystemExit, match="nothing was kept"):
        written.done()
    written.add({"case": "x"})
    written.done()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells")
def test_what_this_machine_does_is_seen() -> None:
    import quiet
    from watch import Watch

    watch = Watch()
    others = watch.others
    assert others is not None and others >= 0.0
    assert quiet.loops_per_second() > 0


def test_network_delays_by_the_proxy(written: dict[str, Any]) -> None:
    (result,) = written["results"]
    assert written["settings"]["through"] == "proxy"
    assert result["failed"] == {}
    # 64 environments of 1 ms on 2 workers take 32 ms a step(); a round trip of 10 ms cannot go unnoticed.
    assert result["median"]["step() | 10 ms round trip"] < 64 / (0.032 + 0.010)


def test_scale_measures_memory_and_opening(written: dict[str, Any]) -> None:
    (result,) = written["results"]
    assert list(result["open_seconds"]) == ["64", "256"]
    assert all(len(one["worker_bytes"]) == 2 for one in result["memory"].values())
    assert min(result["memory"]["256"]["worker_bytes"]) > 10_000_000


def test_scale_has_one_vector_env_over_as_many_servers_as_asked_for(written: dict[str, Any]) -> None:
    (result,) = written["results"]
    assert (result["workers_of_a_server"], result["envs_of_a_server"], result["failed"]) == (8, 16, {})
    assert list(result["median"]) == ["1", "2"]
    assert len(written["calibrations"]) == 1


def test_fleet_has_what_servers_cost_and_what_learners_get(written: dict[str, Any], tmp_path: Path) -> None:
    servers, learners = written["results"]
    assert servers["failed"] == learners["failed"] == {}
    assert list(servers["median"]) == ["fleet-1", "fleet-2", "one-2"]
    points = {(point["kind"], point["servers"], point["envs"]): point for point in servers["points"]}
    assert list(points) == [("fleet", 1, 4), ("fleet", 2, 8), ("one", 1, 8)]
    two, one = points["fleet", 2, 8], points["one", 1, 8]
    assert two["threads"] > one["threads"] and two["descriptors"] > one["descriptors"]
    assert all(point[name] > 0 for point in points.values() for name in servers["fits"])
    assert min(servers["servers_memory"].values()) > 10_000_000
    assert list(learners["median"]) == ["1", "2"] and all(0.5 <= each <= 1 for each in learners["fairness"].values())


def test_fleets_arithmetic_is_exact() -> None:
    import fleet

    sizes = [(1, 64), (1, 128), (2, 128), (1, 256), (4, 256)]
    points = [
        {"servers": servers, "envs": envs, "cpu_ms": 2 + 7 * (servers > 1) + 3 * servers + 0.5 * envs}
        for servers, envs in sizes
    ]
    fitted = fleet.fit(points, "cpu_ms")
    assert [fitted[name] for name in fleet.TERMS] == pytest.approx([2, 7, 3, 0.5])
    assert fitted["largest_error"] < 1e-9
    assert fleet.estimate(fitted, {"servers": 100, "envs": 10_000}) == pytest.approx(2 + 7 + 300 + 5_000)
    assert fleet.fairness([5.0, 5.0]) == 1 and fleet.fairness([1.0, 0.0, 0.0, 0.0]) == 0.25


def test_the_page_on_scaling_has_the_tables_of_the_results_it_names() -> None:
    import fleet

    page = fleet.PAGE.read_text()
    (name,) = set(re.findall(r"<!-- \w+ of ([\w-]+\.json) -->", page))
    results = FOLDER / "results" / name
    assert len(re.findall(r"<!-- end -->", page)) == len(fleet.PARTS)
    assert fleet.written_into(page, results) == page, "python benchmarks/fleet.py --write"


def test_compare_runs_checkouts_in_turns(written: dict[str, Any]) -> None:
    (result,) = written["results"]
    assert list(result["checkouts"]) == ["a", "b"]
    assert result["checkouts"]["a"]["ratio"] == 1.0
    assert all(len(one["rounds"]) == 1 for one in result["checkouts"].values())
    if sys.platform == "linux":
        assert min(result["checkouts"]["b"]["cpu_microseconds"].values()) > 0


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")),
    reason="the extra dashboard is not installed",
)
def test_a_dashboard_is_beside_the_same_without(written: dict[str, Any]) -> None:
    (result,) = written["results"]
    ways = result["ways"]
    assert list(ways) == ["without", "without, again", "closed", "open", "open, 16 pictures"]
    assert all(way["rate"] > 0 for way in ways.values())
    assert ways["without"]["cpu_microseconds"]["dashboard"] == 0.0


def test_compare_tells_what_is_no_checkout(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "compare.py"), f"a={FOLDER.parent}", f"b={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "is not NAME=PATH with a checkout at PATH" in done.stderr


def test_an_interval_holds_the_ratio_and_narrows_with_rounds() -> None:
    import random

    import compare

    chance = random.Random(0)
    few, many = ([chance.gauss(100.0, 5.0) for _ in range(rounds)] for rounds in (8, 200))
    for rounds in (few, many):
        ratio, low, high = compare.interval([2 * one for one in rounds], rounds, chance)
        assert ratio == low == high == 2.0  # a round's two belong together
    wide, narrow = (compare.interval(one, one[::-1], chance) for one in (few, many))
    assert wide[1] <= wide[0] <= wide[2]
    assert narrow[2] - narrow[1] < wide[2] - wide[1]


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
def test_train_gives_the_same_returns_locally_and_remotely(written: dict[str, Any]) -> None:
    (result,) = written["results"]
    assert result["equal_returns"] is True


def test_plots_are_made_of_results(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    newest = sorted((FOLDER / "results").glob("throughput-????-??-??.json"))
    results = newest[-1] if newest else tmp_path / "made.json"
    if not newest:
        median = {"sync": 3.0, "async": 1.0, "remote": 2.0}
        case = {"case": "cartpole", "env": "CartPole-v1", "num_envs": 64, "num_workers": 2, "median": median}
        results.write_text(json.dumps({"benchmark": "throughput", "results": [case]}))
    command = [sys.executable, str(FOLDER / "plot.py"), str(results), "--output", str(tmp_path)]
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)
    pictures = list(tmp_path.glob("*.png"))
    assert pictures
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_bars_of_local_leave_room_for_who_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import plot

    results = [result("cartpole", 8, local=9.0, ray=6.0, **{"async": 3.0}), result("images", 64, local=2.0)]
    (figure,) = plot.plot_local({"results": results}).values()
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [3.0, 1.0, 2.0]
    assert set(plot.local.HEADER) <= set(plot.CURVES)
    plot.pyplot.close(figure)


SPIN = "import sys, time; print('child', flush=True); time.sleep(600)"

CONTENDERS = f"""
import contextlib, os, subprocess, sys, time

@contextlib.contextmanager
def counts(config):
    yield lambda seconds: {{"steps": config["steps"], "seconds": seconds}}

@contextlib.contextmanager
def fails_at_start(config):
    raise RuntimeError("no licence")
    yield

@contextlib.contextmanager
def fails_later(config):
    def run(seconds):
        print("noise on stdout")
        raise RuntimeError("out of fuel")
    yield run

@contextlib.contextmanager
def leaves_a_child(config):
    child = subprocess.Popen([sys.executable, "-c", {SPIN!r}], stdin=subprocess.DEVNULL)
    yield lambda seconds: {{"steps": 1, "seconds": 1.0, "child": child.pid}}
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Contenders of this test's own: ``made("counts", steps=3)``."""
    import slices

    package = tmp_path / "contenders"
    package.mkdir()
    (package / "slice.py").write_text((FOLDER / "contenders" / "slice.py").read_text())
    (package / "made.py").write_text(CONTENDERS)
    monkeypatch.setattr(slices, "CHILD", package / "slice.py")
    return lambda name, **config: slices.Contender(f"made:{name}", config, start_seconds=30.0)


def test_who_fails_is_left_out_with_the_reason_and_the_others_go_on(made: Any) -> None:
    from slices import interleave, others_cores

    contenders = {
        "good": made("counts", steps=30),
        "broken": made("fails_at_start"),
        "breaks": made("fails_later"),
    }
    accounts = interleave(contenders, repeats=3, seconds=0.5)
    assert accounts["good"].rates == [60.0] * 3
    assert accounts["good"].error is None
    assert {one.others_cores for one in accounts.values()} == {others_cores(accounts)}
    assert "no licence" in str(accounts["broken"].error)
    assert "out of fuel" in str(accounts["breaks"].error)
    assert accounts["breaks"].median is None


def test_what_a_contender_started_ends_with_it(made: Any) -> None:
    from slices import interleave

    accounts = interleave({"parent": made("leaves_a_child")}, repeats=1, seconds=0.1)
    child = accounts["parent"].answers[0]["child"]
    wait_until(lambda: not lives(child), 5.0, "the end of the contender's child")


def test_a_peer_that_cannot_be_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import venvs

    def pip(command: list[str]) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="WARNING: slow\nERROR: no matching distribution\n")

    monkeypatch.setenv("REMOTE_GYM_BENCHMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(venvs, "_run", pip)
    assert "not installed" in str(venvs.find("ray").error)
    found = venvs.install("ray")
    assert found == venvs.Venv(None, "ERROR: no matching distribution")
    assert venvs.find("ray") == found  # remembered


def result(case: str, num_envs: int, **median: float) -> dict[str, Any]:
    return {"case": case, "env": case, "num_envs": num_envs, "median": median}


def test_targets_and_losses_are_ratios_within_a_case() -> None:
    import summary

    results = {
        "throughput": [
            result("cartpole", 64, remote=90.0, halves=120.0, sync=100.0, **{"async": 10.0}),
            result("cartpole", 256, remote=100.0, sync=100.0),
        ],
        "latency": [{"microseconds": {"single": {"p50": 300.0}, "echo": {"p50": 200.0}}}],
    }
    found = {one.work: one for one in summary.targets(results)}
    assert found["CartPole, 64 envs, step() / SyncVectorEnv"].measured == 0.9
    assert found["CartPole, 64 envs, step() / SyncVectorEnv"].verdict == "goal"
    assert found["the same, two in flight"].measured == 1.2
    assert found["CartPole, 8 envs, step() / AsyncVectorEnv"].verdict == "not measured"
    assert found["one env: our time / bare gRPC echo's"].verdict == "NO"
    assert found["local / the best peer, where that is least"].verdict == "not measured"
    assert summary.Target("too slow", 1.7, 1.6, 1.3, at_most=True).verdict == "NO"
    assert list(summary.losses(results)) == []
    results["throughput"][1]["median"]["sync"] = 200.0
    results["local"] = [result("cartpole", 8, local=10.0, remote=20.0, sync=30.0, ray=9.0)]
    remote, local = summary.losses(results)
    assert (remote[0], remote[2]) == ("cartpole, 256 envs", 2.0)
    assert local[:3] == ("local, cartpole, 8 envs", "SyncVectorEnv, in-process", 3.0)
    found = {one.work: one for one in summary.targets(results)}
    assert found["local / the best peer, where that is least"].measured == 10.0 / 9.0


def test_every_contender_has_a_title_and_every_peer_its_requirements() -> None:
    import summary
    import throughput
    import venvs

    for case in throughput.CASES.values():
        assert {*case.contenders, *case.peers} <= set(throughput.TITLES)
    assert set(throughput.PEER_KINDS) | {"original"} == set(venvs.PEERS)
    assert set(summary.WHY) == set(throughput.TITLES) - set(throughput.REMOTE)
    for path in (FOLDER / "peers").glob("*.txt"):
        assert re.search(r"^[\w-]+==", path.read_text(), re.MULTILINE), path
