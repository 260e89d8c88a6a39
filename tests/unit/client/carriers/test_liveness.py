"""When a silent peer is asked, and when it is given up; the clock is the test's."""

from __future__ import annotations

import pytest

from remote_gym.client.carriers import liveness
from remote_gym.client.carriers.liveness import Liveness, Watch
from remote_gym.wire.direct import PING_SECONDS, SILENCE_SECONDS


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(liveness, "time", clock)
    return clock


def test_who_is_heard_is_not_asked(clock: Clock) -> None:
    peer = Liveness()
    for _ in range(10):
        clock.now += PING_SECONDS - 1
        assert not peer.is_to_be_asked and peer.seconds_left == 1
        peer.heard = clock.now
    assert peer.is_long_spoken_to, "but may take us for dead"
    peer.spoke = clock.now
    assert not peer.is_long_spoken_to


def test_who_is_silent_is_asked_again_and_again_and_given_up(clock: Clock) -> None:
    peer = Liveness()
    asked = 0
    began = clock.now
    while peer.silence is None:
        clock.now += peer.seconds_left
        assert peer.is_to_be_asked
        if peer.silence is None:
            peer.asks()
            asked += 1
            assert not peer.is_to_be_asked
    assert asked == SILENCE_SECONDS / PING_SECONDS - 1
    assert clock.now - began == SILENCE_SECONDS
    assert peer.silence == f"the server has sent nothing for {SILENCE_SECONDS:.0f} s"


def test_some_are_watched_more_closely(clock: Clock) -> None:
    peer = Liveness(Watch(1.0, 2.5))
    began = clock.now
    while peer.silence is None:
        clock.now += peer.seconds_left
        if peer.silence is None:
            peer.asks()
    assert clock.now - began == 2.5 and peer.seconds_left == 0
    clock.now += 1.0
    peer.heard = clock.now
    assert peer.silence is None and peer.seconds_left == 1.0


def test_an_answer_begins_anew(clock: Clock) -> None:
    peer = Liveness()
    clock.now += PING_SECONDS
    peer.asks()
    clock.now += SILENCE_SECONDS
    peer.heard = clock.now
    assert peer.silence is None and peer.seconds_left == PING_SECONDS


def test_nobody_is_given_up_before_it_was_asked(clock: Clock) -> None:
    peer = Liveness()
    clock.now += 10 * SILENCE_SECONDS  # this process was stopped
    assert peer.is_to_be_asked and peer.silence is None and peer.seconds_left == 0
    peer.asks()
    assert peer.silence is None and peer.seconds_left == PING_SECONDS
