"""A Ray cluster of simulated nodes on this machine, each with an address of its own of the loopback and one processor.

These are collected only where Ray is installed: `tox run -e ray`.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import marked, wait_until

TESTS = Path(__file__).parents[1]
HEAD = "127.0.0.2"  # Ray's clusters hang where a node is 127.0.0.1
SMALL = {"object_store_memory": 80 * 2**20}

collect_ignore_glob = ["test_*.py"] if find_spec("ray") is None else []


class Nodes:
    """The cluster: a head without processors, and nodes that come and go."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._next = 3
        self.nodes: dict[str, Any] = {}
        self.address = cluster.address

    def add(self, num_cpus: int = 1) -> str:
        """Add a node; return its address."""
        host = f"127.0.0.{self._next}"
        self._next += 1
        options = {"num_cpus": num_cpus, "node_ip_address": host, **SMALL}
        self.nodes[host] = self._cluster.add_node(**options)
        return host

    def processes(self, host: str) -> list[psutil.Process]:
        """Return all processes of a node, but the one that has started them."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                theirs = {f"--node_ip_address={host}", f"--gcs-address={self.address}"}
                if words and words[0].endswith("raylet") and theirs <= set(words):
                    found += [process, *process.children(recursive=True)]
        return found

    def strike(self, host: str, number: int) -> list[psutil.Process]:
        """Send a signal to all of a node's processes at once, as far as can be; return them."""
        struck = self.processes(host)
        for process in struck:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        return struck

    def kill(self, host: str) -> None:
        """Let a node be lost, as by a power cut."""
        self.strike(host, signal.SIGKILL)
        self._cluster.remove_node(self.nodes.pop(host), allow_graceful=False)

    def three(self) -> None:
        """See to it that there are three."""
        import ray

        while len(self.nodes) < 3:
            self.add()
        wait_until(lambda: ray.cluster_resources().get("CPU") == 3.0, 60, "that Ray knows its nodes")


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """Start the cluster, and connect this process to it."""
    import ray
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ.update(OMP_NUM_THREADS="1", PYTHONPATH=os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
    head = {"num_cpus": 0, "node_ip_address": HEAD, "include_dashboard": False, **SMALL}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    made = Nodes(cluster)
    try:
        ray.init(cluster.address, _node_ip_address=HEAD, log_to_driver=False, logging_level="ERROR")
        yield made
    finally:
        ray.shutdown()
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def three(nodes: Nodes) -> Nodes:
    """Three nodes."""
    nodes.three()
    return nodes


@pytest.fixture
def mark(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give what a farm's processes are marked with; in the end there must be none."""
    mark = f"{os.getpid()}-{request.node.name}"
    yield mark
    wait_until(lambda: not marked(mark), 30, "that nothing is left")


@pytest.fixture
def in_full(request: pytest.FixtureRequest) -> None:
    """With --full only: what takes its time."""
    if not request.config.getoption("--full"):
        pytest.skip("with --full")
