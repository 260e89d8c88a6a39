"""The servers of `deploy/kubernetes` in network namespaces, their name's records changing: nothing is lost or doubled.

Each test says what it has counted. ``tox run -e namespaces``; skipped where there is no root, or no dnsmasq; of these,
one is run with all other tests.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deploy.manifests import command
from faults.hash_chain import STEP, read_journal
from namespaces.lab import BY_NAME, TRAINER, Lab, Pod, lab

__all__ = ["lab"]

HASH_CHAIN = Path(__file__).parents[1] / "faults" / "hash_chain.py"
SCRIPT = Path(__file__).parent / "trainer.py"
ROWS = 12
MOVE_SECONDS = 2.0
PATIENCE = 60.0  # of tests, on a busy machine

pytestmark = pytest.mark.timeout(240)


class Trainer:
    """A trainer's pod that steps, and what it says."""

    def __init__(self, lab: Lab, script: str = SCRIPT.name, **options: Any) -> None:
        pod = lab.pod()
        settings = {"url": "dns:remote-gym:56765", "num_envs": ROWS, "move_timeout_seconds": MOVE_SECONDS, **options}
        line = [sys.executable, str(SCRIPT.with_name(script)), json.dumps(settings)]
        self._lab = lab
        environment = lab.environment(TRAINER, pod)
        with open(pod.log, "w") as log:
            self._process = pod.start(line, environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        self._pod = pod
        self._said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(json.loads(line))
        self._said.put(None)

    def until(self, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Wait until it says something of which `condition` holds."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                said = self._said.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError("the trainer does not say what it should") from None
            assert said is not None, self._pod.log.read_text()
            if condition(said):
                return said

    def until_at(self, *servers: Pod) -> dict[str, Any]:
        """Wait until every row is on one of these, and each has some."""
        addresses = {pod.server for pod in servers}
        return self.until(lambda said: {address for address, _ in said.get("fleet", ())} == addresses)

    def until_away_from(self, *servers: Pod) -> dict[str, Any]:
        """Wait until every row is somewhere, and none on these."""
        addresses = {"", *(pod.server for pod in servers)}
        return self.until(lambda said: "fleet" in said and not addresses & {address for address, _ in said["fleet"]})

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def stop(self) -> dict[str, Any]:
        """Stop it; return its counts, with those of what has really run."""
        self.tell("stop")
        counts = self.until(lambda said: "steps" in said)
        assert self._process.wait(PATIENCE) == 0
        ran = Counter(
            int(record["tag"])
            for journal in self._lab.journals.values()
            for record in read_journal(journal)
            if record["operation"] == STEP
        )
        answered = set(counts.pop("answered"))
        counts.update(
            lost_steps=len(answered - set(ran)), doubled_steps=sum(count > 1 for count in ran.values()),
            ran_for_nothing=len(set(ran) - answered),
        )  # fmt: skip
        print(json.dumps(counts))
        return counts


def check(counts: dict[str, Any], truncated: int) -> None:
    """Fail unless nothing was lost or doubled, all chains are whole, and so many episodes ended early."""
    assert counts["steps"] > 50 and not counts["wrong"]
    assert counts["lost_steps"] == counts["doubled_steps"] == 0
    assert counts["lost"] == truncated
    assert counts["ran_for_nothing"] <= truncated, "only what was under way"


@pytest.fixture
def three(lab: Lab) -> tuple[Lab, list[Pod]]:
    """Three servers that are ready, and in the DNS."""
    servers = [serve(lab, wait=False) for _ in range(3)]
    lab.wait_for(*servers)
    lab.publish(*servers)
    return lab, servers


def serve(lab: Lab, wait: bool = True) -> Pod:
    return lab.serve(str(HASH_CHAIN), '{"journal": "JOURNAL"}', wait)


@BY_NAME
def test_the_trainer_of_the_manifest(lab: Lab) -> None:
    """As it stands there, with the environment that stands there."""
    servers = [lab.serve(wait=False) for _ in range(2)]
    lab.wait_for(*servers)
    lab.publish(*servers)
    pod = lab.pod()
    program, *arguments = command(TRAINER)
    assert program == "python"
    process = pod.start(
        [sys.executable, *arguments], lab.environment(TRAINER, pod), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    said, complaints = process.communicate(timeout=100.0)
    assert process.returncode == 0, complaints
    assert said.split() == [servers[0].server, "24", servers[1].server, "24"]


def test_records_change_while_it_steps(three: tuple[Lab, list[Pod]]) -> None:
    """A server is taken from the name, and goes away; one that was added takes what it had, episode by episode."""
    lab, servers = three
    trainer = Trainer(lab)
    trainer.until_at(*servers)
    added = serve(lab)
    gone = servers[1]
    lab.publish(servers[0], servers[2], added)
    assert gone.process is not None
    gone.process.terminate()
    said = trainer.until_away_from(gone)
    assert sum(rows for _, rows in said["fleet"]) == ROWS
    assert added.server in {address for address, _ in said["fleet"]}
    assert gone.process.wait(PATIENCE) == 0
    check(trainer.stop(), truncated=0)


@BY_NAME
@pytest.mark.parametrize("harm", [Pod.kill, Pod.pull_the_cable])
def test_a_server_is_lost(three: tuple[Lab, list[Pod]], harm: Callable[[Pod], None]) -> None:
    """Its record stays for a while: a name does not know."""
    lab, servers = three
    trainer = Trainer(lab)
    trainer.until_at(*servers)
    harm(servers[2])
    trainer.until_away_from(servers[2])
    counts = trainer.stop()
    check(counts, truncated=ROWS // 3)
    assert counts["slowest"] < MOVE_SECONDS + 6.0


@BY_NAME
def test_a_rolling_update_under_load(three: tuple[Lab, list[Pod]]) -> None:
    """As the Deployment does it: a new one is ready, and in the DNS, before an old one is out of it, and goes away."""
    lab, servers = three
    trainer = Trainer(lab)
    trainer.until_at(*servers)
    there = list(servers)
    for old in servers:
        there.append(serve(lab))
        lab.publish(*there)
        there.remove(old)
        lab.publish(*there)
        assert old.process is not None
        old.process.terminate()
        trainer.until_away_from(old)
        assert old.process.wait(PATIENCE) == 0
    check(trainer.stop(), truncated=0)
