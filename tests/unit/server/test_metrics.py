"""`server.statistics()` and the Prometheus metrics: the same figures, and the right ones."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ServerFactory
from helpers import HOSTILE, wait_until
from hostile import ACTIONS
from prometheus_client.parser import text_string_to_metric_families

from remote_gym import (
    MisuseError,
    RefusedError,
    RemoteEnvironment,
    RemoteEnvironmentServer,
    RemoteGymError,
    RemoteVectorEnv,
)
from remote_gym.server.statistics import Histogram

METRICS = Path(__file__).parents[3] / "docs" / "reference" / "metrics-and-limits.md"


def scrape(server: RemoteEnvironmentServer) -> dict[str, float]:
    """Return every sample by its name and labels, such as ``remote_gym_requests_total{kind=step}``."""
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def count(histogram: dict[str, Any]) -> int:
    return histogram["buckets"][-1][1]  # type: ignore[no-any-return]


def test_the_figures_are_those_of_what_was_done(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), num_workers=2, metrics_port=0, max_envs=7)
    with RemoteVectorEnv(server.address, num_envs=6) as envs:
        envs.reset(seed=0)
        for _ in range(5):
            envs.step(np.zeros(6, np.int64))
        envs.get_attr("render_mode")
        with pytest.raises(RefusedError):
            RemoteVectorEnv(server.address, num_envs=2).reset()
        seen, scraped = server.statistics(), scrape(server)
    assert (seen["sessions"], seen["envs"], seen["workers"], seen["opened_sessions"]) == (1, 6, 2, 1)
    assert seen["requests"] == {"reset": 1, "step": 5, "call": 1}
    assert seen["env_steps"] == 30
    assert seen["refusals"] == {"max_envs": 1}
    assert seen["worker_restarts"] == seen["attaches"] == seen["replayed_answers"] == 0
    assert count(seen["step_seconds"]) == 5
    assert 0.0 < seen["step_seconds"]["sum"] < 10.0
    assert seen["sent_bytes"] > 30 * 4 * 4  # the observations alone
    assert seen["received_bytes"] > 30 * 8
    assert seen["stored_reply_bytes"] > 0
    assert scraped["remote_gym_requests_total{kind=step}"] == 5.0
    assert scraped["remote_gym_env_steps_total"] == 30.0
    assert scraped["remote_gym_refusals_total{limit=max_envs}"] == 1.0
    assert scraped["remote_gym_step_seconds_count"] == 5.0
    assert scraped["remote_gym_step_seconds_bucket{le=+Inf}"] == 5.0
    assert scraped["remote_gym_sessions"] == 1.0
    assert scraped["remote_gym_sent_bytes_total"] >= seen["sent_bytes"]
    assert scraped["process_open_fds"] > 0


def test_a_restarted_worker_is_counted(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), num_workers=1)
    with RemoteVectorEnv(server.address, num_envs=2) as envs:
        envs.reset()
        os.kill(server.statistics()["worker_processes"][0], signal.SIGKILL)
        wait_until(lambda: server.statistics()["worker_restarts"] == 1, what="the restart")


def test_a_blocked_event_loop_is_seen(serve: ServerFactory) -> None:
    server = serve("CartPole-v1", num_workers=1)
    wait_until(lambda: count(server.statistics()["event_loop_lag_seconds"]) > 0, what="a measurement")
    server._loop.call_soon_threadsafe(time.sleep, 0.6)
    wait_until(lambda: server.statistics()["event_loop_lag_seconds"]["sum"] > 0.3, what="the lag")


def test_servers_of_one_process_do_not_mix(serve: ServerFactory) -> None:
    one, other = (serve("CartPole-v1", num_workers=1, metrics_port=0) for _ in range(2))
    with RemoteEnvironment(one.address) as env:
        env.reset()
        assert scrape(one)["remote_gym_sessions"] == 1.0
        assert scrape(other)["remote_gym_sessions"] == 0.0


def test_the_port_is_free_after_the_stop(serve: ServerFactory) -> None:
    server = serve("CartPole-v1", num_workers=1, metrics_port=0)
    port = server.metrics_port
    server.stop()
    with pytest.raises(urllib.error.URLError):
        scrape(server)
    with pytest.raises(RemoteGymError, match="has stopped"):
        server.statistics()
    again = serve("CartPole-v1", num_workers=1, metrics_port=port)
    assert again.metrics_port == port
    assert scrape(again)["remote_gym_draining"] == 0.0


def test_a_taken_metrics_port_is_named_and_nothing_is_left(serve: ServerFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port} for metrics"):
            serve("CartPole-v1", num_workers=1, metrics_port=port)


def probe(server: RemoteEnvironmentServer, path: str) -> tuple[int, str]:
    """Return the status and the word that a probe gets."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode().strip()


def test_probes_tell_a_server_that_drains_from_one_that_is_stuck(
    serve: ServerFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = serve(str(HOSTILE), {"notes": str(tmp_path)}, num_workers=1, metrics_port=0)
    assert probe(server, "/livez") == probe(server, "/readyz") == (200, "ready")
    assert probe(server, "/metrics")[0] == 200

    monkeypatch.setattr("remote_gym.server.server.SCRAPE_TIMEOUT_SECONDS", 0.2)
    go_on = threading.Event()
    server._loop.call_soon_threadsafe(go_on.wait, 30.0)
    try:
        assert probe(server, "/livez") == probe(server, "/readyz") == (503, "does not answer")
    finally:
        go_on.set()
    monkeypatch.undo()
    wait_until(lambda: probe(server, "/livez") == (200, "ready"))

    with RemoteVectorEnv(server.address) as envs:
        envs.reset(seed=0)
        envs.step_async([ACTIONS["gated"]])  # so that there is something to wait for
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        wait_until(lambda: probe(server, "/readyz") == (503, "takes no new sessions"))
        assert probe(server, "/livez") == (200, "takes no new sessions")
        (tmp_path / "open").touch()
        envs.step_wait()
        stopping.join(30.0)


def test_a_server_that_builds_its_first_environment_lives_and_is_not_ready(
    serve: ServerFactory, tmp_path: Path
) -> None:
    (entrypoint := tmp_path / "slow.py").write_text(
        "import os, time, gymnasium\n"
        "def create_environment():\n"
        f"    while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
        "    return gymnasium.make('CartPole-v1')\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    starting = threading.Thread(
        target=serve, args=(str(entrypoint),), kwargs={"num_workers": 1, "metrics_port": port, "probe": True}
    )
    starting.start()

    def says(path: str) -> tuple[int, str] | None:
        with contextlib.suppress(OSError):
            return probe(SimpleNamespace(metrics_port=port), path)  # type: ignore[arg-type]
        return None

    wait_until(lambda: says("/readyz") == (503, "takes no new sessions"))
    assert says("/livez") == (200, "takes no new sessions")
    (tmp_path / "go").touch()
    starting.join(60.0)
    assert says("/readyz") == (200, "ready")


@pytest.mark.parametrize("url", ["127.0.0.1", "0.0.0.0"])
def test_metrics_for_other_machines_are_warned_about(
    serve: ServerFactory, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    with caplog.at_level("WARNING"):
        serve("CartPole-v1", num_workers=1, metrics_port=0, metrics_url=url)
    assert ("travel in plaintext" in caplog.text) is (url == "0.0.0.0")


@pytest.mark.parametrize("port", [-1, 65_536, "x", True])
def test_a_bad_metrics_port_is_named(serve: ServerFactory, port: Any) -> None:
    with pytest.raises(MisuseError, match="bad port"):
        serve("CartPole-v1", metrics_port=port)


def test_without_the_library_it_says_what_to_install(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MisuseError, match=r"remote-gym-pool\[server\]"):
        serve("CartPole-v1", metrics_port=0)
    assert serve("CartPole-v1", num_workers=1).statistics()["sessions"] == 0


def test_names_follow_the_conventions_and_are_documented(serve: ServerFactory) -> None:
    server = serve("CartPole-v1", num_workers=1, metrics_port=0)
    with RemoteEnvironment(server.address) as env:
        env.reset()
        names = {name.partition("{")[0] for name in scrape(server) if name.startswith("remote_gym_")}
    families = {re.sub("_(bucket|count|sum|created)$", "", name) for name in names}
    families |= {"remote_gym_requests_total", "remote_gym_refusals_total"}
    text = METRICS.read_text(encoding="utf-8")
    assert [name for name in sorted(families) if f"`{name}`" not in text] == []
    assert not [name for name in families if re.search("_(ms|millis|kb|count)$", name)]


def test_statistics_travel_as_json(serve: ServerFactory) -> None:
    assert json.loads(json.dumps(serve("CartPole-v1", num_workers=1).statistics()))["workers"] == 1


def test_histogram_bounds_are_inclusive() -> None:
    histogram = Histogram([1.0, 2.0])
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.observe(value)
    assert histogram.cumulative() == [(1.0, 2), (2.0, 4), (float("inf"), 5)]
    assert histogram.count == 5
    assert histogram.total == 14.0
