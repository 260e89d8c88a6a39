"""Trainer process: resets and steps of a batch, recorded. Whether they are is decided once, when a client is made."""

from __future__ import annotations

from typing import Any

from remote_gym.client.remote import Remote
from remote_gym.client.stepping import Stepping, StepResult
from remote_gym.client.tensor_stepping import TensorStepping, stepping_of
from remote_gym.client.tensors import LIBRARIES, NUMPY
from remote_gym.client.tracing import Trace


def traced(remote: Remote) -> Stepping:
    """Return what `stepping_of` does, or the same recorded, where somebody records."""
    if remote.trace is None:
        return stepping_of(remote)
    settings = remote.settings
    if settings.array == NUMPY:
        return TracedStepping(remote)
    return TracedTensorStepping(remote, LIBRARIES[settings.array](settings.device))


class TracedStepping(Stepping):
    """`Stepping` whose calls are spans."""

    @property
    def _trace(self) -> Trace:
        assert self._remote.trace is not None
        return self._remote.trace

    def begin_reset(self, seed: Any, options: Any, env_id: Any = None) -> None:
        """Begin a reset of the environments `env_id`, None: all or those of a mask; `finish_reset` gives its result."""
        with self._trace.begun("reset"):
            super().begin_reset(seed, options, env_id)

    def begin_step(self, actions: Any, env_id: Any = None) -> None:
        """Begin a step of the environments `env_id` (None: all); `finish_step` gives its result."""
        with self._trace.begun("step"):
            super().begin_step(actions, env_id)

    def finish_reset(self, timeout: float | None) -> tuple[Any, dict[str, Any]]:
        """Wait for what `begin_reset` began."""
        with self._trace.finished():
            return super().finish_reset(timeout)

    def finish_step(self, timeout: float | None) -> StepResult:
        """Wait for what `begin_step` began."""
        with self._trace.finished():
            return super().finish_step(timeout)

    def reset_some(self, seed: Any, options: Any, env_id: Any = None) -> None:
        """Begin a reset; `receive` gives the first observations."""
        self._trace.over("async_reset", super().reset_some, seed, options, env_id)

    def step_some(self, actions: Any, env_id: Any) -> None:
        """Begin a step of the environments `env_id`; `receive` gives the results."""
        self._trace.over("send", super().step_some, actions, env_id)

    def receive(self, timeout: float | None, everything: bool = False) -> StepResult:
        """Wait for the first `batch_size` environments that are ready, or for `everything` that was started."""
        return self._trace.over("recv", super().receive, timeout, everything)


class TracedTensorStepping(TracedStepping, TensorStepping):
    """`TensorStepping` whose calls are spans."""
