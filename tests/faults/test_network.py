"""Bad networks: far, narrow, in crumbs, cut at any byte. The results are those of local environments."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from conftest import Certificates
from faults.proxy import Proxy
from faults.scenarios import Stage, expect_closed, short_keepalive
from faults.trial import Trial

from remote_gym import failpoints


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("network"), certificates)
    yield stage
    stage.close()


def a_little_of_all(trial: Trial) -> None:
    trial.reset(1)
    for _ in range(3):
        trial.step()
    trial.call()
    trial.reset()
    trial.step()


def far(proxy: Proxy) -> None:
    proxy.up.delay_seconds = proxy.down.delay_seconds = 0.05
    proxy.up.jitter_seconds = proxy.down.jitter_seconds = 0.05


def in_crumbs(proxy: Proxy) -> None:
    proxy.up.slice_bytes = proxy.down.slice_bytes = 1


def narrow(proxy: Proxy) -> None:
    proxy.up.bytes_per_second = proxy.down.bytes_per_second = 20_000


@pytest.mark.parametrize("toxic", [far, in_crumbs, narrow])
def test_a_bad_link_changes_nothing(stage: Stage, toxic: Callable[[Proxy], None]) -> None:
    server, proxy = stage.server()
    with stage.trial(proxy, prepare=False) as trial:
        toxic(proxy)
        a_little_of_all(trial)
        trial.check_journals()
        proxy.heal()
        trial.close()
        expect_closed(trial, server)


def test_a_server_a_second_away_can_be_reached_and_reached_again(stage: Stage) -> None:
    """The handshake alone takes longer than one attempt once was given."""
    _, proxy = stage.server()
    with stage.trial(proxy, prepare=False) as trial:
        proxy.up.delay_seconds = proxy.down.delay_seconds = 0.4
        trial.reset(1)
        proxy.cut()
        trial.step()
        proxy.heal()
        trial.check_journals()


@pytest.mark.parametrize("half", ["up", "down", "fin"])
def test_a_half_closed_connection_is_a_broken_one(stage: Stage, half: str) -> None:
    _, proxy = stage.server()
    with short_keepalive(), stage.trial(proxy) as trial:
        for point in ("client.request.send", "server.answer.stored"):
            stage.arm(point, lambda: proxy.cut(half))
            trial.step()
            trial.step()
            assert stage.fired
        trial.check_journals()


@pytest.mark.parametrize("direction", ["up", "down"])
def test_cuts_at_a_sample_of_byte_offsets(stage: Stage, direction: str) -> None:
    """Of an opening, a reset and three steps; the chaos tests try every one of them."""
    _, proxy = stage.server()

    def exchange(cut_at: int | None) -> int:
        before = getattr(proxy, direction).passed
        with stage.trial(proxy, prepare=False) as trial:
            if cut_at is not None:
                proxy.cut_after(cut_at, direction)
            trial.reset(1)
            for _ in range(3):
                trial.step()
            trial.check_journals()
            return int(getattr(proxy, direction).passed - before)

    total = exchange(None)
    for _ in range(20):
        offset = random.randint(1, total)
        print(f"cut after {offset} of {total} bytes {direction}")
        exchange(offset)


def test_answers_come_from_the_store_under_pressure(stage: Stage) -> None:
    """One answer in five is lost on its way, for two hundred steps."""
    _, proxy = stage.server()
    with stage.trial(proxy, num_envs=8) as trial:
        stage.arm("server.answer.stored", proxy.cut, first=5, every=5)
        for _ in range(200):
            trial.step()
        failpoints.disarm()
        assert stage.fired >= 40
        trial.check_journals()


def test_a_timeout_holds_while_the_server_cannot_be_reached(stage: Stage) -> None:
    _, proxy = stage.server()
    with stage.trial(proxy) as trial:
        actions = trial.actions(milliseconds=300)  # so that no answer is quicker than the cut
        proxy.refuse()
        stage.arm("client.request.sent", proxy.cut)
        trial.remote.step_async(actions)
        assert stage.fired
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                trial.remote.step_wait(timeout=0.1)
            assert time.monotonic() - began < 0.5
        proxy.accept()
        got = trial.remote.step_wait(timeout=10.0)
        assert got[0].tobytes() == trial.local.step(actions)[0].tobytes()
        trial.step()
        trial.check_journals()


def test_a_client_that_asks_impatiently_still_attaches(stage: Stage) -> None:
    """Each wait is shorter than a round trip: they go on where the last one was."""
    _, proxy = stage.server()
    with stage.trial(proxy) as trial:
        actions = trial.actions()
        trial.remote.step_async(actions)
        proxy.cut()
        proxy.up.delay_seconds = proxy.down.delay_seconds = 0.05
        deadline = time.monotonic() + 10.0
        while True:
            assert time.monotonic() < deadline
            try:
                got = trial.remote.step_wait(timeout=0.01)
                break
            except TimeoutError:
                continue
        assert got[0].tobytes() == trial.local.step(actions)[0].tobytes()
        trial.check_journals()


@pytest.mark.parametrize("point", ["client.open.sent", "client.attach.sent"])
def test_an_attempt_that_arrives_late_takes_nothing_away(stage: Stage, point: str) -> None:
    """The connection of one attempt stalls, the next one succeeds, then the server hears of the first after all."""
    server, proxy = stage.server()
    with short_keepalive(), stage.trial(proxy, prepare=False) as trial:
        if point == "client.open.sent":
            stage.arm(point, proxy.freeze)
            trial.reset(1)
        else:
            trial.reset(1)
            stage.arm("client.request.sent", proxy.cut)
            stage.arm(point, proxy.freeze)
            trial.step()
        assert stage.fired
        trial.step()
        attaches = server.statistics()["attaches"]
        proxy.thaw()
        time.sleep(0.2)  # it may take its time, or be dropped as its connection has ended
        trial.step()
        trial.step()
        print(f"{server.statistics()['attaches'] - attaches} attaches since the thaw")
        trial.check_journals()


def test_building_goes_on_when_its_stream_breaks(stage: Stage) -> None:
    """And who asks again, with the same nonce, gets what was being built."""
    server, proxy = stage.server()
    with stage.trial(proxy):
        pass  # the workers have imported what they need
    with stage.trial(proxy, prepare=False, build_milliseconds=500) as trial:
        stage.arm("server.open.received", threading.Timer(0.2, proxy.cut).start)
        trial.reset(1)
        assert stage.fired
        assert trial.builds() == trial.num_envs
        trial.step()
        trial.check_journals()
        trial.close()
        expect_closed(trial, server)
