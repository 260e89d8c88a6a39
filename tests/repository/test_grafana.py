"""The Grafana dashboard asks for metrics that a server has, by labels that they have."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from conftest import ServerFactory

from remote_gym import RefusedError, RemoteVectorEnv
from remote_gym.server.metrics import COUNTERS, GAUGES, HISTOGRAMS, LABELLED, LABELLED_GAUGES

DASHBOARD = json.loads((Path(__file__).parents[2] / "deploy" / "grafana" / "remote-gym.json").read_text())
OF_PROMETHEUS = frozenset({"job", "instance", "le"})
"""Labels that a scrape or a histogram adds."""


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def names(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:remote_gym|process)_[a-z_]+", expression))


@pytest.fixture
def scraped(serve: ServerFactory) -> dict[str, set[str]]:
    """The samples of a server that has done everything that is counted -> their labels."""
    server = serve("CartPole-v1", num_workers=1, metrics_port=0, max_envs=4, limits={"*": {"envs": 4}})
    with RemoteVectorEnv(server.address, num_envs=4) as envs:
        envs.reset(seed=1)
        for _ in range(60):
            envs.step(envs.action_space.sample())
        with RemoteVectorEnv(server.address, num_envs=4) as more, pytest.raises(RefusedError):
            more.reset()
        url = f"http://127.0.0.1:{server.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10.0) as reply:
            text = reply.read().decode()
    samples: dict[str, set[str]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, rest = line.partition("{")
            labels = set(re.findall(r'(\w+)="', rest)) if rest else set()
            samples.setdefault(name.partition(" ")[0], set()).update(labels)
    return samples


def test_every_metric_and_label_is_there(scraped: dict[str, set[str]]) -> None:
    for expression in expressions():
        found = names(expression)
        assert found, expression
        assert not [name for name in found if name not in scraped], expression
        labels = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")}
        assert labels <= OF_PROMETHEUS.union(*(scraped[name] for name in found)), expression


def test_what_the_legends_name_is_a_label_of_the_result() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            grouped = re.search(r"by \(([^)]*)\)", target["expr"])
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert label in (grouped[1].split(", ") if grouped else OF_PROMETHEUS), target


def test_the_figures_of_steps_episodes_and_workers_are_shown() -> None:
    shown = set().union(*map(names, expressions()))
    for family in ("env_steps", "episodes", "episode_length", "episode_return", "episode_seconds", "worker_restarts"):
        assert any(name.startswith(f"remote_gym_{family}") for name in shown), family
    known = {*GAUGES, *COUNTERS, *HISTOGRAMS, *LABELLED, *LABELLED_GAUGES}
    unknown = {
        name
        for name in shown
        if name.startswith("remote_gym_")
        and re.sub("_(bucket|sum|count|total)$", "", name.removeprefix("remote_gym_")) not in known
    }
    assert not unknown


def test_panels_lie_beside_each_other_and_servers_can_be_chosen() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at: Any = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "job", "instance"]
    for panel in DASHBOARD["panels"]:
        assert all("$instance" in target["expr"] for target in panel["targets"]), panel["title"]
