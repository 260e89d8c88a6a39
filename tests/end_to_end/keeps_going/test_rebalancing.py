"""Servers join and leave a fleet, and rows go to them and from them at their episodes' ends: nothing is cut short."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ServeProcess
from gymnasium.vector import SyncVectorEnv
from helpers import wait_until
from mortal import LENGTH, MortalEnv

from remote_gym import MisuseError, RemoteVectorEnv

MORTAL = Path(__file__).parents[2] / "mortal.py"
PATIENCE = 60.0  # of tests, on a busy machine
HANDOVER = "60"


class Row:
    """What a row has to give: that of an undisturbed environment, but for new ones where it is told to have moved."""

    def __init__(self, row: int, seed: int, mode: str) -> None:
        self.row, self.seed, self.mode = row, seed + row, mode
        self.env, self.over, self.moves = MortalEnv(), False, 0
        self.observation = self.env.reset(seed=self.seed)[0]

    def reset(self, note: dict[str, Any] | None) -> Any:
        """Begin another episode; on another server, if `note` says so."""
        seed = None
        if note is not None:
            self.moves += 1
            assert not note["lost"] and note["generation"] == self.moves
            self.env = MortalEnv()
            seed = int(np.random.SeedSequence([self.seed, self.row, self.moves]).generate_state(1)[0])
        self.over = False
        self.observation = self.env.reset(seed=seed)[0]
        return self.observation

    def check(self, at: int, result: Any, note: dict[str, Any] | None) -> None:
        """Compare what a step has given in position `at`."""
        observations, rewards, terminations, truncations, infos = result
        if self.mode == "NextStep" and self.over:
            expected = self.reset(note), 0.0, False, False
        else:
            expected = self.env.step(0)[:4]
            self.over = expected[2]
            if self.mode == "SameStep" and self.over:
                final = infos["final_obs"][at]
                assert (final["draw"] == expected[0]["draw"]).all() and final["count"] == expected[0]["count"]
                assert infos["final_info"]["count"][at] == LENGTH
                expected = self.reset(note), *expected[1:]
            else:
                assert note is None, "a row moves where an episode begins"
        same(observations, at, expected[0])
        assert (rewards[at], terminations[at], truncations[at]) == expected[1:]
        assert infos["count"][at] == self.env.count


def same(observations: Any, at: int, expected: Any) -> None:
    assert (observations["draw"][at] == expected["draw"]).all() and observations["count"][at] == expected["count"]
    assert observations["said"][at] == expected["said"]


def note_of(infos: dict[str, Any], at: int) -> dict[str, Any] | None:
    """Return what infos say of the moves of the row in this position."""
    if "remote_gym" not in infos or not infos["_remote_gym"][at]:
        return None
    return {key: each[at] for key, each in infos["remote_gym"].items() if not key.startswith("_")}


class Watched:
    """A vector environment, each of whose rows is compared with what it has to give."""

    def __init__(self, envs: RemoteVectorEnv, mode: str, seed: int = 3) -> None:
        self.envs, self.mode = envs, mode
        observations, _ = envs.reset(seed=seed)
        self.rows = [Row(row, seed, mode) for row in range(envs.num_envs)]
        self.told: dict[int, list[Any]] = {row: [] for row in range(envs.num_envs)}
        for row in self.rows:
            same(observations, row.row, row.observation)

    def step(self) -> None:
        if self.mode == "Disabled" and (over := np.array([row.over for row in self.rows])).any():
            observations, infos = self.envs.reset(options={"reset_mask": over})
            for row in [row for row in self.rows if row.over]:
                same(observations, row.row, row.reset(self._note(infos, row.row, row.row)))
        self.take(self.envs.step([0] * self.envs.num_envs), range(self.envs.num_envs))

    def take(self, result: Any, rows: Any) -> None:
        for at, row in enumerate(rows):
            self.rows[row].check(at, result, self._note(result[4], at, row))

    def _note(self, infos: dict[str, Any], at: int, row: int) -> dict[str, Any] | None:
        if (note := note_of(infos, at)) is not None:
            self.told[row].append(note["address"])
        return note

    def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.step()
            assert time.monotonic() < deadline

    def shares(self) -> dict[str, int]:
        shares: dict[str, int] = {}
        for block in self.envs.fleet:
            shares[block.address] = shares.get(block.address, 0) + len(block.rows)
        return shares


class Farm:
    def __init__(self, folder: Path, serve_process: Any) -> None:
        self._serve_process, self.file = serve_process, folder / "servers"
        self.servers: list[ServeProcess] = []

    def start(self, *flags: str) -> ServeProcess:
        served: ServeProcess = self._serve_process(str(MORTAL), "--num-workers", "1", *flags)
        self.servers.append(served)
        return served

    def write(self, *servers: ServeProcess) -> None:
        (new := self.file.with_suffix(".new")).write_text("".join(f"{one.address}\n" for one in servers))
        new.replace(self.file)

    def vector(self, num_envs: int = 6, **options: Any) -> RemoteVectorEnv:
        return RemoteVectorEnv(f"file:{self.file}", num_envs=num_envs, on_session_lost="move", **options)


@pytest.fixture
def farm(tmp_path: Path, serve_process: Any) -> Farm:
    return Farm(tmp_path, serve_process)


MODES = pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])


@MODES
@pytest.mark.parametrize("transport", ["direct", "grpc"])
def test_a_server_that_joins_takes_rows_at_their_episodes_ends(farm: Farm, mode: str, transport: str) -> None:
    one, two = farm.start(), farm.start()
    farm.write(one, two)
    with farm.vector(autoreset_mode=mode, transport=transport) as envs:
        watched = Watched(envs, mode)
        watched.step()
        farm.write(one, two, three := farm.start())
        envs.rebalance()
        watched.until(lambda: watched.shares().get(three.address) == 2)
        assert watched.shares() == {one.address: 2, two.address: 2, three.address: 2}
        assert {block.state for block in envs.fleet} == {"there"}
        moved = [row for row, told in watched.told.items() if told]
        assert len(moved) == 2 and all(watched.told[row] == [three.address] for row in moved), (
            "the fewest, and told once"
        )
        for _ in range(3 * LENGTH):
            watched.step()
        envs.rebalance()
        for _ in range(2 * LENGTH):
            watched.step()
        assert len([row for row, told in watched.told.items() if told]) == 2, "who is balanced stays"
        assert [block.rows for block in envs.fleet if block.address == three.address] == [range(2, 4)]


@MODES
def test_whoever_is_received_may_have_moved(farm: Farm, mode: str) -> None:
    farm.write(one := farm.start())
    with farm.vector(4, batch_size=2, autoreset_mode=mode) as envs:
        watched = Watched(envs, mode)
        farm.write(one, two := farm.start())
        envs.rebalance()
        envs.send([0] * 4)
        deadline = time.monotonic() + PATIENCE
        stepped = 0
        while stepped < 20 or sum(map(len, watched.told.values())) < 2:
            result = envs.recv()
            ids = result[4]["env_id"].tolist()
            resets = [row for row in ids if mode == "Disabled" and watched.rows[row].over]
            for at, row in enumerate(ids):
                if row in resets:
                    same(result[0], at, watched.rows[row].reset(watched._note(result[4], at, row)))
                else:
                    watched.rows[row].check(at, result, watched._note(result[4], at, row))
            over = [row for row in ids if mode == "Disabled" and watched.rows[row].over]
            if over:
                envs.async_reset(env_id=over)
            if going := [row for row in ids if row not in over]:
                envs.send([0] * len(going), going)
            stepped += 1
            assert time.monotonic() < deadline
        assert sorted(map(len, watched.told.values())) == [0, 0, 1, 1]
        assert watched.shares() == {one.address: 2, two.address: 2}


def test_all_of_them_end_at_once_and_leave_at_once(farm: Farm) -> None:
    """Every episode has the same length, and a server gives all it has away: nothing is left of its answer."""
    farm.write(one := farm.start())
    with farm.vector(2, autoreset_mode="SameStep") as envs:
        watched = Watched(envs, "SameStep")
        farm.write(two := farm.start())
        envs.rebalance()
        watched.until(lambda: watched.shares() == {two.address: 2})
        for _ in range(2 * LENGTH):
            watched.step()
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(PATIENCE) == 0, "the session that nobody is at is closed"
        for _ in range(2 * LENGTH):
            watched.step()


@pytest.mark.filterwarnings("ignore:environments .* were lost:UserWarning")
def test_servers_that_join_are_found(farm: Farm) -> None:
    farm.write(one := farm.start())
    with farm.vector(4, rebalance=True) as envs:
        watched = Watched(envs, "NextStep")
        farm.write(one, two := farm.start())
        watched.until(lambda: watched.shares() == {one.address: 2, two.address: 2})
        two.process.kill()
        two.process.wait()
        wait_until(lambda: envs.step([0] * 4)[3].any(), PATIENCE, "its rows are lost")
        wait_until(
            lambda: {one.address} == {block.address for block in envs.fleet} or envs.step([0] * 4) is None, PATIENCE
        )
        again = farm.start("--port", two.address.rpartition(":")[2])
        assert again.address == two.address
        wait_until(lambda: envs.step([0] * 4) and watched.shares() == {one.address: 2, two.address: 2}, PATIENCE)


def test_a_reset_is_an_end(farm: Farm) -> None:
    farm.write(one := farm.start())
    oracle = SyncVectorEnv([MortalEnv] * 4)
    with farm.vector(4) as envs:
        envs.reset(seed=3)
        farm.write(one, two := farm.start())
        envs.rebalance()
        wait_until(lambda: envs._remote._mover.has_news(), PATIENCE, "the new server is ready")
        observations, infos = envs.reset(seed=5)
        theirs, _ = oracle.reset(seed=5)
        for row in range(4):
            same(observations, row, {key: theirs[key][row] for key in theirs})
        moved = np.flatnonzero(infos["_remote_gym"]).tolist()
        assert len(moved) == 2 and set(infos["remote_gym"]["address"][moved]) == {two.address}
        for _ in range(2 * LENGTH):
            ours, theirs = envs.step([0] * 4), oracle.step([0] * 4)
            stay = [row for row in range(4) if row not in moved]
            assert (ours[0]["draw"][stay] == theirs[0]["draw"][stay]).all()
            assert (ours[0]["draw"][moved] == theirs[0]["draw"][moved]).all(), "seeded alike, wherever they are"
        assert envs.call("get_wrapper_attr", "count") == tuple(ours[0]["count"])


def test_who_is_ready_takes_a_row_whose_server_is_lost_before_its_episode_ends(farm: Farm) -> None:
    farm.write(one := farm.start())
    with farm.vector(4, move_timeout_seconds=1.5) as envs:
        envs.reset(seed=3)
        farm.write(two := farm.start())
        envs.rebalance()
        wait_until(lambda: envs._remote._mover.has_news(), PATIENCE, "the new server is ready")
        envs.step([0] * 4)
        assert [block[:3] for block in envs.fleet] == [(one.address, range(4), "leaving")]
        one.process.kill()
        one.process.wait()
        with pytest.warns(UserWarning, match="were lost"):
            ends = envs.step([0] * 4)
        assert ends[3].all() and ends[4]["remote_gym"]["lost"].all()
        began = time.monotonic()
        beginnings = envs.step([0] * 4)
        assert time.monotonic() - began < 1.0, "nothing has to be built"
        assert not beginnings[3].any() and set(beginnings[4]["remote_gym"]["address"]) == {two.address}


def test_a_server_that_was_to_take_rows_is_lost_before(farm: Farm) -> None:
    farm.write(one := farm.start())
    with farm.vector(4) as envs:
        watched = Watched(envs, "NextStep")
        farm.write(one, two := farm.start())
        envs.rebalance()
        wait_until(lambda: envs._remote._mover.has_news(), PATIENCE, "the new server is ready")
        watched.step()
        assert {block.state for block in envs.fleet} == {"there", "leaving"}
        two.process.kill()
        two.process.wait()
        for _ in range(3 * LENGTH):
            watched.step()
        assert watched.shares() == {one.address: 4}


def test_only_fleets_that_move_are_rebalanced(farm: Farm) -> None:
    with pytest.raises(MisuseError, match="rebalance must be False, or with on_session_lost='move' True"):
        RemoteVectorEnv("127.0.0.1:1", rebalance=True)
    with RemoteVectorEnv("127.0.0.1:1") as envs, pytest.raises(MisuseError, match="needs on_session_lost='move'"):
        envs.rebalance()


# A server that goes away


@MODES
def test_rows_leave_a_server_that_is_going_away_at_their_episodes_ends(farm: Farm, mode: str) -> None:
    one, two = farm.start("--handover-seconds", HANDOVER), farm.start()
    farm.write(one, two)
    with farm.vector(4, autoreset_mode=mode) as envs:
        watched = Watched(envs, mode)
        one.process.send_signal(signal.SIGTERM)
        watched.until(lambda: watched.shares() == {two.address: 4})
        assert one.process.wait(PATIENCE) == 0, "it ends with its last session, and not with the time"
        assert sorted(map(len, watched.told.values())) == [0, 0, 1, 1], "no row was lost, and two have moved"
        for _ in range(2 * LENGTH):
            watched.step()


def test_what_is_left_when_the_time_is_up_is_lost(farm: Farm, tmp_path: Path) -> None:
    one, two = farm.start("--handover-seconds", "1"), farm.start()
    farm.write(one, two)
    with farm.vector(4, autoreset_mode="Disabled") as envs:
        envs.reset(seed=3)
        envs.step([0] * 4)
        one.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "draining: refusing" in one.log, PATIENCE, "the time is up")
        with pytest.warns(UserWarning, match="were lost"):
            ends = envs.step([0] * 4)
        assert ends[3].tolist() == [True, True, False, False]
        assert ends[4]["remote_gym"]["lost"].tolist()[:2] == [True] * 2
        _, infos = envs.reset(options={"reset_mask": ends[3]})
        assert set(infos["remote_gym"]["address"][:2]) == {two.address}


def test_others_go_on_until_the_time_is_up(farm: Farm) -> None:
    one = farm.start("--handover-seconds", HANDOVER)
    with RemoteVectorEnv(one.address, num_envs=2) as envs:
        envs.reset(seed=3)
        one.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "may go on" in one.log, PATIENCE, "it is going away")
        for _ in range(2 * LENGTH):
            envs.step([0] * 2)
    assert one.process.wait(PATIENCE) == 0
