"""Hosted by `test_recorder.py`: an environment that raises now and then."""

from __future__ import annotations

from typing import Any

from recorded import Recorded


class Raising(Recorded):
    """Raises in every seventh step; one environment never does it with another."""

    taken = 0

    def step(self, action: Any) -> Any:
        self.taken += 1
        if self.taken % 7 == 0:
            raise ZeroDivisionError("a simulator's mistake")
        return super().step(action)


def create_environment(env_id: int) -> Raising:
    """What the server hosts."""
    env = Raising()
    env.taken = 2 * env_id
    return env
