"""Farms on a cluster of three nodes, over mutual TLS: nodes are lost and come, servers hang, drivers are killed."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
from conftest import TOYS
from farm.conftest import HEAD, Nodes
from gymnasium.vector import SyncVectorEnv
from helpers import MARK, lives, marked, wait_until
from mortal import MortalEnv
from ray import cloudpickle
from ray.util.placement_group import placement_group_table

from remote_gym import ConnectError, MisuseError, RefusedError, RemoteVectorEnv
from remote_gym.ray import Farm
from remote_gym.ray.names import NAMESPACE

pytestmark = [
    pytest.mark.timeout(600),  # Ray starts many processes
    pytest.mark.filterwarnings("ignore:environments .* were lost:UserWarning"),
]

NUM_ENVS, SEED = 48, 7
WITHIN_SECONDS = 6.0
PATIENCE = 240.0  # of tests, on a busy machine


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is on no node: it is sent there."""
    return Path(shutil.copy(TOYS.with_name("mortal.py"), tmp_path_factory.mktemp("hosted") / "mine.py"))


@pytest.fixture(scope="module")
def long_lived(nodes: Nodes, hosted: Path) -> Iterator[Farm]:
    """One farm for most of these tests, whatever they do to it; nothing is left of it in the end."""
    nodes.three()
    mark = f"{os.getpid()}-farm"
    with Farm(hosted, num_cpus=0.5, runtime_env={"env_vars": {MARK: mark}}) as farm:
        yield farm
    assert not [one for one in ray.util.list_named_actors(all_namespaces=True) if one["namespace"] == NAMESPACE]
    wait_until(lambda: all(one["state"] == "REMOVED" for one in placement_group_table().values()), 30)
    wait_until(lambda: not marked(mark), 30, "that nothing is left")


@pytest.fixture
def farm(long_lived: Farm, three: Nodes) -> Farm:
    """A server on each of three nodes."""
    running(long_lived, 3)
    return long_lived


class Run:
    """A vector environment of a farm beside the same one locally, in which nothing is ever lost."""

    def __init__(self, farm: Farm, num_envs: int = NUM_ENVS, **options: Any) -> None:
        self.envs = farm.vector_env(num_envs, **options)
        self.local = SyncVectorEnv([MortalEnv] * num_envs, observation_mode="same")
        self.undisturbed = np.ones(num_envs, bool)
        self.over = np.zeros(num_envs, bool)  # in the last step
        self.longest = 0.0
        self._check(self.envs.reset(seed=SEED)[0], self.local.reset(seed=SEED)[0])

    def _check(self, ours: Any, theirs: Any) -> None:
        for key in ("draw", "count"):
            np.testing.assert_array_equal(ours[key][self.undisturbed], theirs[key][self.undisturbed])

    def step(self) -> list[int]:
        """Step both and compare; return the rows that were lost in this step, flagged and truncated."""
        actions = np.zeros(self.envs.num_envs, np.int64)
        began = time.monotonic()
        ours = self.envs.step(actions)
        self.longest = max(self.longest, time.monotonic() - began)
        theirs = self.local.step(actions)
        said = ours[4].get("remote_gym", {})
        lost = np.flatnonzero(said["lost"]).tolist() if "lost" in said else []
        assert (ours[3] | self.over)[lost].all()  # who was about to begin an episode has none to end
        self.over = ours[2] | ours[3]
        assert not ours[3][[row for row in range(len(ours[3])) if row not in lost]].any()
        self.undisturbed[lost] = False
        self._check(ours[0], theirs[0])
        for mine, other in zip(ours[1:4], theirs[1:4], strict=True):
            np.testing.assert_array_equal(mine[self.undisturbed], other[self.undisturbed])
        return lost

    def steps(self, count: int) -> list[int]:
        return [row for _ in range(count) for row in self.step()]

    def move(self) -> None:
        """Step both; rows that have gone elsewhere are new environments there, which nobody compares any more."""
        homes = {row: block.address for block in self.envs.fleet for row in block.rows}
        ours = self.envs.step(np.zeros(self.envs.num_envs, np.int64))
        theirs = self.local.step(np.zeros(self.envs.num_envs, np.int64))
        assert not ours[3].any()
        gone = [row for block in self.envs.fleet for row in block.rows if homes[row] != block.address]
        self.undisturbed[gone] = False
        self.over = ours[2] | ours[3]
        self._check(ours[0], theirs[0])

    def until_lost(self) -> list[int]:
        """Step until something is lost, and return what; nothing else is in the steps before."""
        deadline = time.monotonic() + PATIENCE
        while not (lost := self.step()):
            assert time.monotonic() < deadline
        return lost

    def rows_at(self, host: str) -> list[int]:
        return [row for block in self.envs.fleet if block.address.startswith(f"{host}:") for row in block.rows]

    def close(self) -> None:
        self.envs.close()
        self.local.close()


def hosts(farm: Farm) -> list[str]:
    return [address.partition(":")[0] for address in farm.addresses()]


def pid_of(farm: Farm, host: str) -> int:
    """Return the process of the server at `host`."""
    at = next(at for at, one in enumerate(farm.status()) if one.address.startswith(f"{host}:"))
    server = list(farm._servers.values())[at]
    return int(ray.get(server.__ray_call__.remote(lambda _self: os.getpid())))


def running(farm: Farm, count: int) -> None:
    wait_until(lambda: [one.state for one in farm.status()] == ["running"] * count, PATIENCE, "that all run")


def test_a_server_on_each_node_over_mutual_tls(farm: Farm, three: Nodes) -> None:
    assert sorted(hosts(farm)) == sorted(three.nodes)
    run = Run(farm)
    assert run.steps(50) == []
    assert sorted(len(run.rows_at(host)) for host in three.nodes) == [16, 16, 16]
    wait_until(lambda: [one.envs for one in farm.status()] == [16] * 3, 10)
    for one in farm.status():
        assert (one.state, one.workers, one.failure) == ("running", 1, "")
        assert one.node in {node["NodeID"] for node in ray.nodes()}
    assert "3 servers" in repr(farm)
    credentials = farm.client_credentials()
    with (
        RemoteVectorEnv(farm.addresses(), tls_name="farm", client_credentials_paths=credentials[:1]) as unknown,
        pytest.raises(ConnectError),
    ):
        unknown.reset()
    with (
        RemoteVectorEnv(farm.addresses(), client_credentials_paths=credentials) as misnamed,
        pytest.raises(ConnectError),
    ):
        misnamed.reset()  # no address is in a certificate
    run.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "cut off"])
def test_a_node_is_lost(farm: Farm, three: Nodes, number: signal.Signals) -> None:
    """Its 16 episodes end, flagged; a node that is added gets its server, and then what another one loses."""
    run = Run(farm)
    run.steps(17)
    assert not run.over.any()
    victim = hosts(farm)[1]
    theirs = run.rows_at(victim)
    struck = three.strike(victim, number)
    try:
        assert run.until_lost() == theirs
        assert len(theirs) == 16
        assert run.longest < WITHIN_SECONDS
        assert run.steps(50) == []
        assert run.rows_at(victim) == []
        assert victim not in hosts(farm)
    finally:
        for process in struck:
            process.send_signal(signal.SIGCONT) if process.is_running() else None
        three.kill(victim)
    added = three.add()
    wait_until(lambda: added in hosts(farm), PATIENCE, "that its server is there")
    running(farm, 3)
    second = next(host for host in hosts(farm) if host not in (victim, added))
    theirs = run.rows_at(second)
    three.kill(second)
    assert run.until_lost() == theirs
    assert run.steps(50) == []
    assert run.rows_at(added)
    run.close()


def test_a_node_that_joins_gets_its_share(farm: Farm, three: Nodes) -> None:
    """After `rebalance` the shares are in proportion again, and nothing was cut short for it."""
    run = Run(farm)
    victim = hosts(farm)[0]
    three.kill(victim)
    assert len(run.until_lost()) == 16
    added = three.add()
    wait_until(lambda: added in hosts(farm), PATIENCE, "that its server is there")
    running(farm, 3)
    run.envs.rebalance()
    deadline = time.monotonic() + PATIENCE
    while len(run.rows_at(added)) < NUM_ENVS // 3:
        assert time.monotonic() < deadline, run.envs.fleet
        run.move()
    assert sorted(len(run.rows_at(host)) for host in hosts(farm)) == [16, 16, 16]
    assert run.steps(20) == []
    run.close()


@pytest.mark.usefixtures("in_full")
def test_a_server_that_hangs_is_started_anew(farm: Farm, three: Nodes) -> None:
    """Only its process is stopped, which Ray does not see."""
    with farm.vector_env(6) as envs:
        envs.reset(seed=1)
        victim = hosts(farm)[0]
        stopped = pid_of(farm, victim)
        workers = psutil.Process(stopped).children(recursive=True)
        os.kill(stopped, signal.SIGSTOP)
        wait_until(lambda: len(farm.addresses()) == 2, 30)
        assert [one.state for one in farm.status()].count("silent") == 1
        running(farm, 3)
        assert not lives(stopped)
        assert not [worker for worker in workers if lives(worker.pid)]
        envs.step(np.zeros(6, np.int64))


def test_scaling_under_load(farm: Farm, three: Nodes) -> None:
    """Down to one and back: what the ended servers had ends, flagged; nobody else's episode does."""
    run = Run(farm)
    run.steps(10)
    ends = [row for host in hosts(farm)[1:] for row in run.rows_at(host)]
    scaling = threading.Thread(target=farm.scale, args=(1,))
    scaling.start()
    lost: list[int] = []
    while scaling.is_alive() or len(lost) < len(ends):
        lost += run.step()
    assert sorted(lost) == ends
    assert len(farm.status()) == 1
    farm.scale("per-node")
    assert sorted(hosts(farm)) == sorted(three.nodes)
    assert run.steps(20) == []
    with pytest.raises(MisuseError, match="positive integer"):
        farm.scale(0)
    with pytest.raises(RefusedError, match=r"no room for 1 servers with 0\.5 CPU, each on a node") as refused:
        farm.scale(4, start_timeout_seconds=1)
    assert refused.value.limit == "placement"
    assert len(farm.status()) == 3
    run.close()


@pytest.mark.usefixtures("in_full")
def test_a_farm_that_grows_avoids_its_own_nodes(farm: Farm, three: Nodes) -> None:
    """Each node has room for two; the one that has come is to have the new one."""
    added = three.add()
    try:
        farm.scale("per-node")
        assert len(farm.addresses()) == 4
        assert added in hosts(farm)
        farm.scale(3)
        assert added not in hosts(farm)
    finally:
        three.kill(added)


def test_the_keeper_is_lost(farm: Farm, three: Nodes) -> None:
    """Meanwhile all go on, and are told where the servers were; then it knows them again, and trusts the same."""
    envs = farm.vector_env(4)
    envs.reset(seed=1)
    before, source = sorted(farm.addresses()), envs._remote.settings.url
    keeper = ray.get_actor(f"{NAMESPACE}/{farm.name}", NAMESPACE)
    os.kill(ray.get(keeper.__ray_call__.remote(lambda _self: os.getpid())), signal.SIGKILL)
    assert sorted(source.addresses()) == before
    envs.step(np.zeros(4, np.int64))

    def known() -> bool:
        try:
            return sorted(farm.addresses()) == before
        except ConnectError:
            return False

    wait_until(known, PATIENCE)
    with farm.vector_env(2) as more:
        more.reset(seed=1)
    envs.close()


class Prober:
    """In an actor: makes what an env runner of RLlib would."""

    def probe(self, config: dict[str, Any]) -> Any:
        self.envs = RemoteVectorEnv(num_envs=4, **config)
        self.envs.reset(seed=1)
        return [block.address for block in self.envs.fleet]


def test_env_runners_get_a_server_of_their_own(farm: Farm, three: Nodes) -> None:
    config = farm.env_config()
    assert b"PRIVATE KEY" not in cloudpickle.dumps(config)
    assert "PRIVATE KEY" not in repr(config)
    probers = [ray.remote(num_cpus=0)(Prober).remote() for _ in range(3)]
    theirs = ray.get([prober.probe.remote(config) for prober in probers])
    assert sorted(address for (address,) in theirs) == sorted(farm.addresses())
    for prober in probers:
        ray.kill(prober)


def test_what_pickles(farm: Farm, three: Nodes) -> None:
    with farm.vector_env(2) as envs, pickle.loads(pickle.dumps(envs)) as copy:
        first, second = envs.reset(seed=3)[0], copy.reset(seed=3)[0]
        np.testing.assert_array_equal(first["draw"], second["draw"])


def test_what_cannot_be_hosted(farm: Farm, tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="no node of this Ray cluster has 64 CPU"):
        Farm("CartPole-v1", num_cpus=64)
    with pytest.raises(MisuseError, match="cannot be read"):
        Farm(tmp_path / "other.py")
    with pytest.raises(MisuseError, match="each server takes any free one"):
        Farm("CartPole-v1", port=1)
    with pytest.raises(MisuseError, match="some of what nodes have"):
        Farm("CartPole-v1", num_cpus=0)
    with pytest.raises(MisuseError, match=f"there is a farm '{farm.name}'"):
        Farm("CartPole-v1", name=farm.name)
    with pytest.raises(MisuseError, match="the farm makes certificates"):
        farm.vector_env(1, tls_name="x")
    with pytest.raises(ConnectError, match="there is no such farm"):
        Farm.attach("nobody")
    (broken := tmp_path / "broken.py").write_text("def create_environment(env_id):\n    raise OSError('no licence')\n")
    with pytest.raises(RefusedError, match="no licence"):
        Farm(broken, servers=1, num_cpus=0.5, name="broken")
    with pytest.raises(ConnectError, match="there is no such farm"):
        Farm.attach("broken")


DRIVER = """
import sys, ray
from remote_gym.ray import Farm
ray.init(sys.argv[1], _node_ip_address=sys.argv[2], log_to_driver=False, logging_level="ERROR")
farm = Farm("CartPole-v1", 2, num_cpus=0.5, runtime_env={"env_vars": {sys.argv[3]: sys.argv[4]}}, **eval(sys.argv[5]))
envs = farm.vector_env(4)
envs.reset(seed=1)
print("ready", flush=True)
sys.stdin.readline()
ray.shutdown()
print("shut down", flush=True)
sys.stdin.readline()
"""


def driver(nodes: Nodes, mark: str, options: str = "{}") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", DRIVER, nodes.address, HEAD, MARK, mark, options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    while (line := process.stdout.readline()) != "ready\n":
        assert line
    assert len(marked(mark)) >= 4  # servers and their workers, at least
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()


def test_nothing_is_left_of_a_driver_that_shuts_down_or_is_killed(three: Nodes, mark: str) -> None:
    process = driver(three, mark)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    wait_until(lambda: not marked(mark), 30, "that nothing is left after a shutdown")
    end(process)
    end(driver(three, mark))
    wait_until(lambda: not marked(mark), 30, "that nothing is left of one that was killed")


@pytest.mark.usefixtures("in_full")
def test_a_detached_farm_outlives_its_driver(three: Nodes, mark: str) -> None:
    end(driver(three, mark, "{'detached': True, 'name': 'kept'}"))
    with Farm.attach("kept") as farm, farm.vector_env(4) as envs:
        envs.reset(seed=1)
        envs.step(np.zeros(4, np.int64))
        killed = farm.addresses()[0]
        os.kill(pid_of(farm, hosts(farm)[0]), signal.SIGKILL)  # with the driver gone it is started anew as well
        wait_until(lambda: killed not in farm.addresses(), 30)
        running(farm, 2)
    farm = Farm.attach("kept")
    assert len(farm.addresses()) == 2
    farm.scale(1)
    assert len(farm.addresses()) == 1
    farm.close()
    wait_until(lambda: not marked(mark), 30, "that nothing is left")


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("in_full")
def test_twenty_kills(farm: Farm) -> None:
    """Servers are killed in a row, each as soon as all run again; all that is lost is told."""
    run = Run(farm, move_timeout_seconds=2)
    chance = random.Random(1)
    for _ in range(20):
        victim = chance.choice(farm.addresses())
        host = victim.partition(":")[0]
        theirs = run.rows_at(host)
        os.kill(pid_of(farm, host), signal.SIGKILL)
        if theirs:
            assert run.until_lost() == theirs
        while victim in farm.addresses() or [one.state for one in farm.status()] != ["running"] * 3:
            assert run.step() == []
    # Three servers with a worker each, whatever was started anew.
    titles = [" ".join(process.cmdline()) for process in marked(f"{os.getpid()}-farm")]
    assert len([title for title in titles if title.startswith("ray::Server")]) == 3
    assert len([title for title in titles if "remote_gym.worker.main" in title]) == 3
    run.close()
