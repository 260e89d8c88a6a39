"""How long to wait before an attempt."""

from __future__ import annotations

from remote_gym.client.session.pace import BACK_OFF_SECONDS, back_off, seconds_to_close


def test_attempts_come_at_once_and_then_ever_more_rarely() -> None:
    assert back_off(0) == 0
    for attempt in range(1, 20):
        usual = BACK_OFF_SECONDS[min(attempt, len(BACK_OFF_SECONDS) - 1)]
        assert all(usual / 2 <= back_off(attempt) <= 1.5 * usual for _ in range(20))
    assert len({back_off(4) for _ in range(20)}) > 1, "many clients may wait for one server"


def test_what_was_given_up_is_looked_for_until_its_lease_has_ended_for_sure() -> None:
    assert seconds_to_close(None) == 1.0 and seconds_to_close(65.0) > 65.0
