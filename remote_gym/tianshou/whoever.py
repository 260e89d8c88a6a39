"""Trainer process: environments of which each step returns those that are ready; Tianshou calls this asynchronous."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from gymnasium.error import NoAsyncCallError

from remote_gym import RemoteVectorEnv
from remote_gym.errors import EnvironmentLost, EnvironmentRaised, MisuseError, TimedOut, also
from remote_gym.infos import split
from remote_gym.tianshou.shapes import rows

Row = tuple[Any, Any, Any, Any, dict[str, Any]]
"""Of one environment: observation, reward, terminated, truncated, info."""

Arrived = tuple[int, "Row | Exception"]
"""Env index, and what its step or reset gave: a row, or the error that is there in place of it."""


class Whoever:
    """Steps some environments and returns whoever is ready; resets some while others step.

    Attributes:
        waiting: Env indices that were stepped, and whose results `take` has not returned yet.
    """

    def __init__(self, envs: RemoteVectorEnv, wait_num: int, timeout: float | None) -> None:
        """Prepare; `envs` have ``batch_size=1``.

        Args:
            envs: The environments.
            wait_num: How many `take` waits for.
            timeout: Seconds after which it waits for no more, once there is one; None: no limit.
        """
        self._envs = envs
        self._wait_num = wait_num
        self._timeout = timeout
        self.waiting: list[int] = []
        self._arrived: list[Arrived] = []  # of those in `waiting`
        self._resetting: set[int] = set()  # what an interrupt leaves stays here until it has come

    def step(self, actions: Any, ids: Sequence[int]) -> None:
        """Step the environments `ids`."""
        self.check_ready(ids)
        self._drop_resets()
        self._envs.send(actions, list(ids))
        self.waiting += ids

    def take(self) -> tuple[list[int], list[Row]]:
        """Wait for `wait_num` environments, or as long as `timeout`, and again if there is none by then.

        Returns:
            ids: Env indices in the order of arrival; they may be stepped again.
            rows: One for each.

        Raises:
            gymnasium.error.NoAsyncCallError: None was stepped.
            EnvironmentRaised, EnvironmentLost: In an environment, which may be reset; the others are returned next.
        """
        if not self.waiting:
            raise NoAsyncCallError("`step(None)` would wait for ever: no environment was stepped before", "step")
        self._wait()
        failed = next((item for item in self._arrived if isinstance(item[1], Exception)), None)
        leaving = self._arrived if failed is None else [failed]
        self._arrived = [] if failed is None else [item for item in self._arrived if item is not failed]
        ids = [one for one, _ in leaving]
        self.waiting = [one for one in self.waiting if one not in ids]
        return ids, [_row(row) for _, row in leaving]

    def reset(self, ids: Sequence[int], seeds: Sequence[Any] | None, options: Any) -> list[Row]:
        """Reset the environments `ids` and return their rows; what arrives of others meanwhile is kept for `take`.

        Raises:
            EnvironmentRaised, EnvironmentLost: In an environment; the others were reset.
        """
        self.check_ready(ids)
        self._drop_resets()
        self._resetting = set(ids)
        try:
            self._envs.async_reset(seeds, options, env_id=list(ids))
        except Exception:
            self._resetting = set()
            raise
        came = self._await_resets()
        return [_row(came[one]) for one in ids]

    def settle(self) -> None:
        """Wait until nothing runs, for what can only be done then; what arrives is kept for `take`."""
        self._drop_resets()
        while len(self._arrived) < len(self.waiting):
            self._arrived += self._receive(None)

    def check_ready(self, ids: Sequence[int]) -> None:
        """Refuse what is to be done with environments that are stepping.

        Raises:
            MisuseError: One is; also an `AssertionError`.
        """
        if stepping := sorted(set(self.waiting).intersection(ids)):
            raise also(MisuseError, AssertionError)(
                f"Cannot interact with environment {stepping[0]} which is stepping now: `step(None)` returns it."
            )

    def _wait(self) -> None:
        most = min(self._wait_num, len(self.waiting))
        until = self._until()
        while len(self._arrived) < len(self.waiting):
            left = None if until is None else max(0.0, until - time.monotonic())
            if len(self._arrived) >= most:
                left = 0.0  # who is ready as well comes along
            try:
                self._arrived += self._receive(left)
            except TimedOut:
                if self._arrived:
                    return
                until = self._until()

    def _until(self) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout

    def _await_resets(self) -> dict[int, Row | Exception]:
        """Wait until those that are being reset have come, and return them."""
        came: dict[int, Row | Exception] = {}
        while self._resetting:
            for one, row in self._receive(None):
                if one in self._resetting:
                    came[one] = row
                    self._resetting.discard(one)
                else:
                    self._arrived.append((one, row))
        return came

    def _drop_resets(self) -> None:
        """Wait for what an interrupt has left of a reset: these environments can be begun anew then."""
        try:
            self._await_resets()
        except NoAsyncCallError:  # it came before they were asked
            self._resetting = set()

    def _receive(self, timeout: float | None) -> list[Arrived]:
        """Return who comes next.

        Raises:
            TimedOut: Nobody came.
        """
        try:
            observations, *columns, infos = self._envs.recv(timeout)
        except (EnvironmentRaised, EnvironmentLost) as error:
            return [(error.env_index, error)]
        ids = infos.pop("env_id").tolist()
        each = rows(self._envs.single_observation_space, observations)
        came: Any = zip(each, *columns, split(infos, len(ids)), strict=True)
        return list(zip(ids, came, strict=True))


def _row(row: Row | Exception) -> Row:
    if isinstance(row, Exception):
        raise row
    return row
