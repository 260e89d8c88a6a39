"""A fleet over mutual TLS loses servers: only their environments begin anew, elsewhere; the others go on."""

from __future__ import annotations

import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Certificates, ServeProcess, ServerFactory
from faults.hash_chain import STEP, HashChainEnv, read_journal
from faults.proxy import Proxy
from gymnasium.vector import SyncVectorEnv
from helpers import wait_until
from mortal import LENGTH, MortalEnv
from sameness import assert_same

from remote_gym import (
    EnvironmentLost,
    MisuseError,
    RemoteVectorEnv,
    SessionLost,
    create_remote_environment_server,
)
from remote_gym.certificates import Authority

pytestmark = pytest.mark.filterwarnings("ignore:environments .* were lost:UserWarning")

HASH_CHAIN = Path(__file__).parents[2] / "faults" / "hash_chain.py"
MORTAL = Path(__file__).parents[2] / "mortal.py"
NAME = "simulator"
"""What all servers' certificates are for: nobody knows their addresses beforehand."""

TIMEOUT = 1.5
PATIENCE = 60.0  # of tests, on a busy machine


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new()


class Farm:
    """Servers of `MortalEnv`, and those whose addresses are in the file now."""

    def __init__(self, folder: Path, authority: Authority, serve_process: Any) -> None:
        self._authority = authority
        self._serve_process = serve_process
        leaf = authority.server([NAME])
        pems = {"server": leaf.certificate, "key": leaf.private_key, "ca": authority.certificate}
        self._paths = {name: folder / f"{name}.pem" for name in pems}
        for name, pem in pems.items():
            self._paths[name].write_bytes(pem)
        self.servers: list[ServeProcess] = []
        self.file = folder / "servers"

    def start(self, *flags: str) -> ServeProcess:
        paths = [str(self._paths[name]) for name in ("server", "key", "ca")]
        names = ("--server-certificate", "--server-private-key", "--root-certificate")
        credentials = [flag for pair in zip(names, paths, strict=True) for flag in pair]
        served: ServeProcess = self._serve_process(str(MORTAL), "--num-workers", "1", *credentials, *flags)
        self.servers.append(served)
        return served

    def at(self, row: int, envs: RemoteVectorEnv) -> ServeProcess:
        """Return the server that has a row."""
        (address,) = [block.address for block in envs.fleet if row in block.rows]
        return next(served for served in self.servers if served.address == address)

    def write(self, *servers: ServeProcess) -> None:
        (new := self.file.with_suffix(".new")).write_text("".join(f"{one.address}\n" for one in servers))
        new.replace(self.file)

    def vector(self, num_envs: int = 6, **options: Any) -> RemoteVectorEnv:
        credentials = self._authority.client("trainer").client_credentials(servers=self._authority)
        arguments = {
            "client_credentials_paths": credentials, "tls_name": NAME, "on_session_lost": "move",
            "move_timeout_seconds": TIMEOUT, **options,
        }  # fmt: skip
        url = arguments.pop("url", f"file:{self.file}")
        return RemoteVectorEnv(url, num_envs=num_envs, **arguments)


@pytest.fixture
def farm(tmp_path: Path, authority: Authority, serve_process: Any) -> Farm:
    return Farm(tmp_path, authority, serve_process)


@pytest.fixture
def three(farm: Farm) -> Farm:
    with ThreadPoolExecutor(3) as starts:
        farm.write(*starts.map(lambda _: farm.start(), range(3)))
    return farm


def kill(served: ServeProcess) -> None:
    served.process.kill()
    served.process.wait()


def stop(served: ServeProcess) -> None:
    """Take it away as a network does that swallows everything: connections stay, and nothing answers."""
    served.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: is_stopped(served.process.pid))


def is_stopped(pid: int) -> bool:
    """Whether no thread of the process runs any more, which a signal takes a moment to reach."""
    try:
        states = [stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # one has just ended
        return False
    return set(states) == {"T"}


Harm = Callable[[ServeProcess], None]
HARMS = pytest.mark.parametrize("harm", [kill, stop])


def lost_rows(infos: dict[str, Any]) -> list[int]:
    """Return the rows that are flagged as lost."""
    return np.flatnonzero(infos["remote_gym"]["lost"]).tolist() if "remote_gym" in infos else []


def address_of(infos: dict[str, Any], row: int) -> Any:
    return infos["remote_gym"]["address"][row] if "address" in infos.get("remote_gym", {}) else None


def same_rows(ours: Any, theirs: Any, rows: list[int]) -> None:
    """Compare observations, rewards and flags of some rows, bit for bit."""
    for key in ("draw", "count"):
        assert (ours[0][key][rows] == theirs[0][key][rows]).all()
    assert [ours[0]["said"][row] for row in rows] == [theirs[0]["said"][row] for row in rows]
    for mine, other in zip(ours[1:4], theirs[1:4], strict=True):
        assert (mine[rows] == other[rows]).all()


def first_of(seed: int, row: int, generation: int = 1) -> Any:
    """Return the first draw of a row's new episode: the seed says it, not the server."""
    fresh = int(np.random.SeedSequence([seed + row, row, generation]).generate_state(1)[0])
    return MortalEnv().reset(seed=fresh)[0]["draw"]


@HARMS
@pytest.mark.parametrize("transport", ["direct", "grpc"])
def test_only_the_lost_block_begins_anew(three: Farm, harm: Harm, transport: str) -> None:
    oracle = SyncVectorEnv([MortalEnv] * 6)
    with three.vector(transport=transport) as envs:
        assert_same(envs.reset(seed=3), oracle.reset(seed=3))
        for _ in range(3):
            assert_same(envs.step([0] * 6), oracle.step([0] * 6))
        where = [block.address for block in envs.fleet]
        assert [block.rows for block in envs.fleet] == [range(2), range(2, 4), range(4, 6)]
        last = envs.step([0] * 6)[0]
        oracle.step([0] * 6)
        harm(three.at(2, envs))
        began = time.monotonic()
        ours, theirs = envs.step([0] * 6), oracle.step([0] * 6)
        assert time.monotonic() - began < TIMEOUT + 5
        same_rows(ours, theirs, [0, 1, 4, 5])
        assert lost_rows(ours[4]) == [2, 3] and ours[3].tolist() == [row in (2, 3) for row in range(6)]
        assert ours[1][[2, 3]].tolist() == [0, 0] and (ours[0]["draw"][2:4] == last["draw"][2:4]).all()
        assert ours[4]["remote_gym"]["reason"][2].startswith("session lost: UNREACHABLE")
        ours, theirs = envs.step([0] * 6), oracle.step([0] * 6)
        same_rows(ours, theirs, [0, 1, 4, 5])
        assert lost_rows(ours[4]) == [] and ours[4]["_remote_gym"].tolist() == [False] * 2 + [True] * 2 + [False] * 2
        assert {address_of(ours[4], row) for row in (2, 3)} <= {where[0], where[2]}
        for row in (2, 3):
            assert (ours[0]["draw"][row] == first_of(3, row)).all()
        assert sorted(row for block in envs.fleet for row in block.rows) == list(range(6))
        assert {block.state for block in envs.fleet} == {"there"} and where[1] not in {b.address for b in envs.fleet}
        for _ in range(3 * LENGTH):
            ours, theirs = envs.step([0] * 6), oracle.step([0] * 6)
            same_rows(ours, theirs, [0, 1, 4, 5])
            assert lost_rows(ours[4]) == []


def test_same_step_tells_the_end_with_the_new_beginning(three: Farm) -> None:
    oracle = SyncVectorEnv([MortalEnv] * 6, autoreset_mode="SameStep")
    with three.vector(autoreset_mode="SameStep") as envs:
        assert_same(envs.reset(seed=3), oracle.reset(seed=3))
        last = envs.step([0] * 6)[0]
        oracle.step([0] * 6)
        kill(three.at(0, envs))
        ours, theirs = envs.step([0] * 6), oracle.step([0] * 6)
        same_rows(ours, theirs, [2, 3, 4, 5])
        assert lost_rows(ours[4]) == [0, 1] and ours[3].tolist() == [True, True, False, False, False, False]
        for row in (0, 1):
            assert (ours[4]["final_obs"][row]["draw"] == last["draw"][row]).all()
            assert (ours[0]["draw"][row] == first_of(3, row)).all()
            assert address_of(ours[4], row) in {block.address for block in envs.fleet}
        for _ in range(LENGTH):
            same_rows(envs.step([0] * 6), oracle.step([0] * 6), [2, 3, 4, 5])


def test_disabled_is_reset_by_its_user(three: Farm) -> None:
    oracle = SyncVectorEnv([MortalEnv] * 6, autoreset_mode="Disabled")
    with three.vector(autoreset_mode="Disabled") as envs:
        assert_same(envs.reset(seed=3), oracle.reset(seed=3))
        kill(three.at(4, envs))
        ours, theirs = envs.step([0] * 6), oracle.step([0] * 6)
        same_rows(ours, theirs, [0, 1, 2, 3])
        assert ours[3].tolist() == [False] * 4 + [True] * 2
        observations, infos = envs.reset(options={"reset_mask": ours[3]})
        assert (observations["draw"][4] == first_of(3, 4)).all() and address_of(infos, 4)
        for _ in range(LENGTH - 2):
            same_rows(envs.step([0] * 6), oracle.step([0] * 6), [0, 1, 2, 3])


@HARMS
def test_recv_of_the_others_never_waits(three: Farm, harm: Harm) -> None:
    with three.vector(batch_size=2) as envs:
        envs.async_reset(seed=3)
        pauses: list[float] = []
        seen: dict[int, list[Any]] = {}
        told: dict[int, str] = {}
        resets: dict[int, bool] = {}  # whether what comes next of a row begins an episode
        steps, harmed = 0, 0.0
        while len(told) < 2 or steps < 300:
            began = time.monotonic()
            observations, _, terminations, truncations, infos = envs.recv()
            pauses.append(time.monotonic() - began)
            ids = infos["env_id"]
            for at, row in enumerate(ids.tolist()):
                seen.setdefault(row, []).append(observations["draw"][at])
                if "remote_gym" in infos and infos["remote_gym"]["lost"][at]:
                    assert row in (2, 3) and (truncations[at] or resets[row]), "a reset that was lost is made again"
                    told[row] = infos["remote_gym"]["reason"][at]
                resets[row] = bool(terminations[at] or truncations[at])
            envs.send([0, 0], ids)
            steps += 1
            if steps == 50:
                harm(three.at(2, envs))
                harmed = time.monotonic()
            assert time.monotonic() - (harmed or began) < PATIENCE
        assert max(pauses) < TIMEOUT / 2, "nobody waits for a server that is gone"
        for row in (0, 1, 4, 5):
            env, over, episode = MortalEnv(), False, []
            episode.append(env.reset(seed=3 + row)[0]["draw"])
            for _ in seen[row][1:]:
                observation, over = (env.reset()[0], False) if over else env.step(0)[0:3:2]
                episode.append(observation["draw"])
            assert all((mine == other).all() for mine, other in zip(seen[row], episode, strict=True))


def test_a_server_that_joins_gets_what_is_homeless(farm: Farm) -> None:
    first = farm.start()
    farm.write(first)
    with farm.vector(2) as envs:
        envs.reset(seed=3)
        kill(first)
        ends = envs.step([0] * 2)
        assert ends[3].all() and lost_rows(ends[4]) == [0, 1]
        began = time.monotonic()
        placeholder = envs.step([0] * 2)  # nobody has them yet
        assert TIMEOUT * 0.9 < time.monotonic() - began < TIMEOUT + 5
        assert placeholder[3].all() and placeholder[4]["remote_gym"]["homeless"].all()
        assert (placeholder[0]["draw"] == ends[0]["draw"]).all() and not placeholder[1].any()
        with pytest.raises(EnvironmentLost, match=r"environments \[0, 1\] have lost their server and are being moved"):
            envs.call("get_wrapper_attr", "count")
        assert [block[:3] for block in envs.fleet] == [("", range(2), "moving")]
        second = farm.start()
        farm.write(second)
        wait_until(lambda: not envs.step([0] * 2)[3].any(), PATIENCE, "they have a home")
        assert [block.address for block in envs.fleet] == [second.address]


def test_a_server_that_comes_back_gets_its_share(three: Farm) -> None:
    with three.vector(move_timeout_seconds=PATIENCE) as envs:
        envs.reset(seed=3)
        port = (gone := three.at(2, envs)).address.rpartition(":")[2]
        kill(gone)
        three.start("--port", port)
        ends = envs.step([0] * 6)
        assert lost_rows(ends[4]) == [2, 3] and "SERVER_RESTARTED" in ends[4]["remote_gym"]["reason"][2]
        assert not lost_rows(envs.step([0] * 6)[4])
        # Who takes longer to come up than the others take to say that they are there finds its rows placed with them.
        assert [row for block in envs.fleet for row in block.rows] == list(range(6))


def test_a_drained_server_is_left(three: Farm) -> None:
    with three.vector() as envs:
        envs.reset(seed=3)
        (drained := three.at(0, envs)).process.send_signal(signal.SIGTERM)
        lost: set[int] = set()
        deadline = time.monotonic() + PATIENCE
        while lost != {0, 1}:
            ended = envs.step([0] * 6)
            lost.update(lost_rows(ended[4]))
            assert time.monotonic() < deadline
        assert not lost_rows(envs.step([0] * 6)[4]) and drained.process.wait(PATIENCE) == 0


def test_a_slow_step_is_no_reason_to_move(farm: Farm, tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import time, gymnasium\n"
        "class Slow(gymnasium.Wrapper):\n"
        "    def step(self, action):\n"
        f"        time.sleep({2 * TIMEOUT})\n"
        "        return self.env.step(action)\n"
        "def create_environment():\n"
        "    return Slow(gymnasium.make('CartPole-v1'))\n"
    )
    served = farm._serve_process(str(slow), "--num-workers", "1")
    for transport in ("direct", "grpc"):
        with RemoteVectorEnv(
            served.address, num_envs=1, on_session_lost="move", move_timeout_seconds=TIMEOUT, transport=transport
        ) as envs:
            envs.reset(seed=1)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert "remote_gym" not in envs.step([0])[4]


def test_nobody_left(farm: Farm) -> None:
    only = farm.start()
    farm.write(only)
    with farm.vector(2, reconnect_timeout_seconds=3.0) as envs:
        envs.reset(seed=3)
        kill(only)
        said = ""

        def steps() -> bool:
            nonlocal said
            try:
                return not envs.step([0] * 2)[3].any()
            except SessionLost as error:
                said = str(error)
                return False

        wait_until(lambda: steps() or said, PATIENCE, "nobody takes them")
        assert "no server took 2 environments for 3 s" in said
        farm.write(farm.start())
        wait_until(steps, PATIENCE, "it goes on")


def test_fewer_are_enough(farm: Farm) -> None:
    big, small = farm.start("--max-envs", "3"), farm.start("--max-envs", "3")
    farm.write(big, small)
    oracle = SyncVectorEnv([MortalEnv] * 6)
    with farm.vector(reconnect_timeout_seconds=1.0, min_envs=3) as envs:
        envs.reset(seed=3)
        oracle.reset(seed=3)
        kill(small)
        homeless = 0
        for _ in range(6):
            ours, theirs = envs.step([0] * 6), oracle.step([0] * 6)
            same_rows(ours, theirs, [0, 1, 2])
            homeless += "homeless" in ours[4].get("remote_gym", {})
        assert homeless >= 4
        envs.call("get_wrapper_attr", "count", indices=[0, 2])
        with pytest.raises(EnvironmentLost, match="being moved"):
            envs.get_attr("count", indices=[2, 3])
        farm.write(big, farm.start())
        wait_until(lambda: "remote_gym" not in envs.step([0] * 6)[4], PATIENCE, "all are there")


def test_kills_in_a_row(farm: Farm) -> None:
    farm.write(*(farm.start() for _ in range(2)))
    oracle = SyncVectorEnv([MortalEnv] * 4)
    with farm.vector(4, move_timeout_seconds=1.0) as envs:
        envs.reset(seed=3)
        oracle.reset(seed=3)
        alive = list(farm.servers)
        for _ in range(3):
            gone, joined = alive.pop(0), farm.start()
            alive.append(joined)
            farm.write(*alive)
            kill(gone)
            for _ in range(2):
                envs.step([0] * 4)
            wait_until(lambda: not envs.step([0] * 4)[3].any(), PATIENCE, "all go on")
            assert sorted(row for block in envs.fleet for row in block.rows) == list(range(4))
        threads = [thread.name for thread in threading.enumerate() if "mover" in thread.name or "move" in thread.name]
    wait_until(lambda: not any(thread.name == "remote_gym mover" for thread in threading.enumerate()), PATIENCE)
    assert len(threads) <= 1


def test_closing_ends_what_is_under_way(farm: Farm) -> None:
    only = farm.start()
    farm.write(only)
    envs = farm.vector(2)
    envs.reset(seed=3)
    kill(only)
    envs.step([0] * 2)
    envs.step_async([0] * 2)
    began = time.monotonic()
    with pytest.warns(UserWarning, match="pending"):
        envs.close()
    assert time.monotonic() - began < 5
    wait_until(lambda: not any(thread.name == "remote_gym mover" for thread in threading.enumerate()), PATIENCE)


@pytest.mark.parametrize("transport", ["direct", "grpc"])
def test_nothing_runs_twice_where_the_network_swallows_everything(
    serve: ServerFactory, certificates: Certificates, tmp_path: Path, transport: str
) -> None:
    """What was answered has run once, what was not at most once; the orphans are closed when they are seen again."""
    journals = [tmp_path / name for name in ("kept", "lost")]
    kept, lost = (
        serve(str(HASH_CHAIN), {"journal": str(journal)}, server_credentials_paths=certificates.server_mutual,
              num_workers=1, lease_seconds=1.0)
        for journal in journals
    )  # fmt: skip
    oracle = SyncVectorEnv([HashChainEnv] * 4)
    with (
        Proxy(lost.address) as proxy,
        RemoteVectorEnv(
            [kept.address, proxy.address], num_envs=4, client_credentials_paths=certificates.client_mutual,
            on_session_lost="move", move_timeout_seconds=TIMEOUT, transport=transport,
        ) as envs,
    ):  # fmt: skip
        assert_same(envs.reset(seed=5), oracle.reset(seed=5))
        answered, told, ignored = [], [], np.zeros(4, bool)
        for step in range(60):
            tags = 100 + 4 * step + np.arange(4)
            actions = np.stack([np.zeros(4, np.int64), tags], axis=1)
            if step == 20:
                proxy.blackhole()
            ours, theirs = envs.step(actions), oracle.step(actions)
            for mine, other in zip(ours[:4], theirs[:4], strict=True):
                assert (mine[:2] == other[:2]).all()
            gone = lost_rows(ours[4])
            told += gone
            answered += [int(tags[row]) for row in range(4) if row not in gone and not ignored[row]]
            ignored = ours[2] | ours[3]
            if step >= 20:
                assert gone == ([2, 3] if step == 20 else [])
        assert told == [2, 3] and [block.address for block in envs.fleet] == [kept.address] * 2
        proxy.flow()
        wait_until(lambda: not lost.statistics()["sessions"], PATIENCE, "the orphans are closed")
        assert kept.statistics()["sessions"] == 2
    records = [record for journal in journals for record in read_journal(journal)]
    ran = [int(record["tag"]) for record in records if record["operation"] == STEP]
    assert len(ran) == len(set(ran)) and set(answered) <= set(ran)
    assert len(set(ran) - set(answered)) <= 2, "only what was under way"
    oracle.close()


@pytest.mark.parametrize("transport", ["direct", "grpc"])
def test_what_was_cut_off_is_closed_when_it_is_seen_again(
    serve: ServerFactory, certificates: Certificates, transport: str
) -> None:
    """Long before its lease ends; also by a client that is closed meanwhile."""
    kept, lost = (
        serve(str(MORTAL), server_credentials_paths=certificates.server_mutual, num_workers=1) for _ in range(2)
    )
    with Proxy(lost.address) as proxy:
        with RemoteVectorEnv(
            [kept.address, proxy.address], num_envs=4, client_credentials_paths=certificates.client_mutual,
            on_session_lost="move", move_timeout_seconds=TIMEOUT, transport=transport,
        ) as envs:  # fmt: skip
            envs.reset(seed=5)
            proxy.blackhole()
            assert lost_rows(envs.step([0] * 4)[4]) == [2, 3]
            envs.step([0] * 4)
            began = time.monotonic()
        assert time.monotonic() - began < 5, "nobody waits for that"
        assert lost.statistics()["sessions"] == 1
        proxy.flow()
        wait_until(lambda: not lost.statistics()["sessions"], 40.0, "the orphans are closed")
    wait_until(lambda: not kept.statistics()["sessions"], PATIENCE)


def test_records_change_while_it_steps(
    serve: ServerFactory, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificates are for the name; its records are looked up anew when a server is lost."""
    leaf = authority.server(["farm.test"]).server_credentials(clients=authority)

    def start(host: str, port: int = 0) -> Any:
        return serve(str(MORTAL), url=host, port=port, num_workers=1, server_credentials_paths=leaf)

    first = start("127.0.0.2")
    servers = {"127.0.0.2": first, "127.0.0.3": start("127.0.0.3", first.port)}
    look_up = socket.getaddrinfo

    def records(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "farm.test":
            return look_up(host, port, *args, **kwargs)
        return [found for one in list(servers) for found in look_up(one, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", records)
    credentials = authority.client("trainer").client_credentials(servers=authority)
    with RemoteVectorEnv(
        f"dns:farm.test:{first.port}", num_envs=4, client_credentials_paths=credentials, on_session_lost="move",
        move_timeout_seconds=TIMEOUT,
    ) as envs:  # fmt: skip
        envs.reset(seed=3)
        assert [block.address for block in envs.fleet] == [f"127.0.0.{at}:{first.port}" for at in (2, 3)]
        servers["127.0.0.4"] = start("127.0.0.4", first.port)
        servers.pop("127.0.0.3").stop(0)
        lost: set[int] = set()
        deadline = time.monotonic() + PATIENCE
        while lost != {2, 3} and time.monotonic() < deadline:
            lost.update(lost_rows(envs.step([0] * 4)[4]))
        assert lost == {2, 3} and not lost_rows(envs.step([0] * 4)[4])
        assert [block.address for block in envs.fleet] == [f"127.0.0.{at}:{first.port}" for at in (2, 4)]


def test_a_hosted_vector_environment_cannot_be_moved(serve: ServerFactory) -> None:
    args = {"entrypoint": "CartPole-v1", "vectorization_mode": "vector_entry_point"}
    with (
        create_remote_environment_server(args, port=0, num_workers=1) as server,
        RemoteVectorEnv(server.address, num_envs=2, on_session_lost="move") as envs,
        pytest.raises(MisuseError, match=f"{server.address} hosts a vector environment, which cannot be moved"),
    ):
        envs.reset()


@pytest.mark.parametrize("options", [{"compression": "zstd"}, {"copy": False}])
def test_with_other_options(serve: ServerFactory, options: dict[str, Any]) -> None:
    servers = [serve(str(MORTAL), num_workers=1) for _ in range(2)]
    with RemoteVectorEnv(
        [server.address for server in servers], num_envs=4, on_session_lost="move", move_timeout_seconds=TIMEOUT,
        autoreset_mode="SameStep", render_with_step=False, **options,
    ) as envs:  # fmt: skip
        envs.reset(seed=3)
        servers[1].stop(0)
        lost: set[int] = set()
        deadline = time.monotonic() + PATIENCE
        while lost != {2, 3} and time.monotonic() < deadline:
            observations, *_, infos = envs.step([0] * 4)
            lost.update(lost_rows(infos))
        for row in (2, 3):
            assert (observations["draw"][row] == first_of(3, row)).all()
        for _ in range(LENGTH):
            assert "remote_gym" not in envs.step([0] * 4)[4]
