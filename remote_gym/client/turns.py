"""Trainer process, no I/O: what may be begun while something else runs, and what is waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import gymnasium
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError
from gymnasium.vector import AutoresetMode

from remote_gym.client.batches import Batch
from remote_gym.client.calls import Begun
from remote_gym.client.exchange import Exchange
from remote_gym.client.failures import late
from remote_gym.client.ready import Ready
from remote_gym.client.settings import Settings
from remote_gym.errors import TimedOut
from remote_gym.messages import Indices, every

ASYNC = {name: f"{name}_async" for name in ("reset", "step", "call")}
"""What the halves of these that begin are called, in Gymnasium's words."""


class Turns:
    """Whose turn it is.

    Attributes:
        pending: "reset", "step" or "call", begun and not finished; None if nothing is.
        batch: Of the pending reset or step.
        begun: Of the pending call.
        clear: Whether the last thing came back whole, and nothing has begun since: anything may begin. False says
            nothing: look.
        disabled: Whether environments are not reset by themselves.
    """

    def __init__(self, exchange: Exchange, ready: Ready, settings: Settings) -> None:
        """Begin with nothing pending; look at what runs in `exchange` and waits in `ready`."""
        self._exchange = exchange
        self._ready = ready
        self._num_envs = settings.num_envs
        self.disabled = settings.mode is AutoresetMode.DISABLED
        self.clear = False
        self.pending: str | None = None
        self.batch: Batch | None = None
        self.begun: Sequence[Begun] = ()

    def begin(self, name: str, batch: Batch | None = None, begun: Sequence[Begun] = ()) -> None:
        """Take note of what is pending from now on."""
        self.clear = False
        self.pending, self.batch, self.begun = name, batch, begun

    def end(self, clear: bool = False) -> None:
        """Take note that nothing is; `clear`: and that all that was asked for has come, with nothing lost."""
        self.pending, self.clear = None, clear

    @contextlib.contextmanager
    def ending(self, name: str, timeout: float | None) -> Iterator[None]:
        """End what is pending, however waiting for it ends, but for a timeout or an interrupt."""
        try:
            yield
        except TimedOut:
            raise late(name, timeout) from None
        except Exception:
            self.end()
            raise
        self.end()

    def check_awaited(self, name: str) -> None:
        """Refuse to wait for what was not begun."""
        if self.pending != name:
            raise NoAsyncCallError(f"Calling `{name}_wait` without any prior call to `{name}_async`.", name)

    def check_not_pending(self, name: str) -> None:
        """Refuse to begin while something is pending."""
        if self.pending is not None:
            raise AlreadyPendingCallError(
                f"Calling `{ASYNC.get(name, name)}` while waiting for a pending call to `{self.pending}` to complete: "
                f"call `{self.pending}_wait` first",
                self.pending,
            )

    def check_all_idle(self, name: str) -> None:
        """Refuse to begin something with all environments while some run, or wait for `recv`."""
        if self._exchange.counts and (self._exchange.in_flight | self._ready.waiting).any():
            raise AlreadyPendingCallError(
                f"`{name}` was called while environments that `send` or `async_reset` has started are not received "
                f"yet: call `recv` first", "recv"
            )  # fmt: skip

    def check_idle(self, indices: Indices) -> None:
        """Refuse to start what runs, or waits for `recv`."""
        if not self._exchange.counts:
            return
        busy = self._exchange.in_flight | self._ready.waiting
        at_work = [index for index in every(indices, self._num_envs) if busy[index]]
        if at_work:
            raise AlreadyPendingCallError(
                f"environments {at_work[:8]} were started before and not received yet: call `recv` first", "recv"
            )

    def check_not_over(self, indices: Indices) -> None:
        """Refuse to step what must be reset first."""
        if self.disabled and self._exchange.over.any():
            over = [index for index in every(indices, self._num_envs) if self._exchange.over[index]]
            if over:
                raise gymnasium.error.ResetNeeded(
                    f"autoreset is disabled and the episodes of environments {over[:8]} are over: reset them with "
                    f"options={{'reset_mask': ...}}"
                )

    def check_enough(self, rows: int | None) -> None:
        """Refuse to wait for `rows` environments (None: at least one) when fewer are ready or at work."""
        if (coming := self._ready.rows + int(self._exchange.in_flight.sum())) < (rows or 1):
            wanted = "" if rows is None else f", batch_size is {rows}"
            raise NoAsyncCallError(
                f"`recv` would wait for ever: {coming} environments were started by `send` or `async_reset`{wanted}",
                "recv",
            )
