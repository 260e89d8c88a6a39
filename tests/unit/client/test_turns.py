"""What may be begun while something else runs, and what is waited for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError, ResetNeeded
from helpers import settings

from remote_gym.client.turns import Turns
from remote_gym.errors import TimedOut, raised


def made(mode: str = "NextStep", rows: int = 0, **arrays: Any) -> Turns:
    state = {"in_flight": [0, 0], "over": [0, 0], "waiting": [0, 0], **arrays}
    flags = {name: np.array(value, np.bool_) for name, value in state.items() if name != "counts"}
    exchange = SimpleNamespace(in_flight=flags["in_flight"], over=flags["over"], counts=arrays.get("counts", True))
    ready = SimpleNamespace(waiting=flags["waiting"], rows=rows)
    return Turns(exchange, ready, settings(num_envs=2, autoreset_mode=mode))  # type: ignore[arg-type]


def test_one_thing_at_a_time() -> None:
    turns = made()
    turns.check_not_pending("step")
    with pytest.raises(NoAsyncCallError, match=r"^Calling `step_wait` without any prior call to `step_async`.$"):
        turns.check_awaited("step")
    turns.begin("step")
    turns.check_awaited("step")
    with pytest.raises(NoAsyncCallError):
        turns.check_awaited("reset")
    with pytest.raises(
        AlreadyPendingCallError, match=r"^Calling `render` .* to `step` to complete: call `step_wait` first"
    ) as error:
        turns.check_not_pending("render")
    assert error.value.name == "step"
    for name in ("reset", "step", "call"):
        with pytest.raises(AlreadyPendingCallError, match=f"^Calling `{name}_async` while waiting for a pending call"):
            turns.check_not_pending(name)
    turns.end()
    turns.check_not_pending("render")


@pytest.mark.parametrize("where", ["in_flight", "waiting"])
def test_who_runs_or_waits_is_not_begun(where: str) -> None:
    turns = made(**{where: [0, 1]})
    turns.check_idle([0])
    for indices in (None, [1], [0, 1]):
        with pytest.raises(AlreadyPendingCallError, match=r"environments \[1\] were started before .* call `recv`"):
            turns.check_idle(indices)
    with pytest.raises(AlreadyPendingCallError, match="`step` was called while environments that `send`"):
        turns.check_all_idle("step")


def test_nothing_is_counted_before_somebody_sends() -> None:
    turns = made(in_flight=[1, 1], counts=False)
    turns.check_idle(None)
    turns.check_all_idle("step")


def test_whose_episode_is_over_needs_a_reset_if_nobody_else_gives_it() -> None:
    made("NextStep", over=[0, 1]).check_not_over(None)
    turns = made("Disabled", over=[0, 1])
    turns.check_not_over([0])
    with pytest.raises(ResetNeeded, match=r"episodes of environments \[1\] are over: reset them with .*reset_mask"):
        turns.check_not_over(None)


def test_waiting_for_more_than_can_come() -> None:
    made(rows=1, in_flight=[0, 1]).check_enough(2)
    with pytest.raises(NoAsyncCallError, match="`recv` would wait for ever: 1 environments were started"):
        made(in_flight=[0, 1]).check_enough(2)
    made(rows=1).check_enough(None)
    with pytest.raises(NoAsyncCallError, match=r"0 environments were started by `send` or `async_reset`$"):
        made(rows=0).check_enough(None)


def test_what_ends_a_wait() -> None:
    turns = made()
    turns.begin("call")
    late = r"^The call to `call_wait` has timed out after 0.5 second\(s\)\."
    with pytest.raises(TimedOut, match=late), turns.ending("call", 0.5):
        raise TimedOut
    assert turns.pending == "call"
    with pytest.raises(KeyboardInterrupt), turns.ending("call", None):
        raise KeyboardInterrupt
    assert turns.pending == "call"
    with pytest.raises(TimeoutError), turns.ending("call", 0.5):  # an environment's: it is done
        raise raised("builtins.TimeoutError")("the simulator is slow")
    assert turns.pending is None
    turns.begin("call")
    with turns.ending("call", None):
        pass
    assert turns.pending is None
