"""Trainer process: the part of `RemoteVectorEnv` that is EnvPool's: batches of whoever is ready first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Union

from remote_gym.client.stepping import Stepping, StepResult

Seed = Union[int, Sequence[Union[int, None]], None]
"""Of a batch: an int, one per environment, or none."""

Options = Union[Mapping[str, Any], Sequence[Union[Mapping[str, Any], None]], None]
"""Of a batch: those of all environments, one dict per environment, or none."""


class Asynchronous:
    """`async_reset`, `send` and `recv`."""

    _stepping: Stepping

    def async_reset(self, seed: Seed = None, options: Options = None, env_id: Any = None) -> None:
        """Begin new episodes; `recv` returns their first observations, as they come.

        Args:
            seed: As for `reset`: environment i begins as it would there.
            options: As for `reset`, ``"reset_mask"`` included.
            env_id: As for `reset`.

        Raises:
            MisuseError: `seed`, `options` or `env_id` is wrong, or the server hosts a vector environment.
            gymnasium.error.AlreadyPendingCallError: One of the environments is not received yet.
        """
        self._stepping.reset_some(seed, options, env_id)

    def send(self, actions: Any, env_id: Any = None) -> None:
        """Step some environments; `recv` returns the results of those that are ready first.

        Args:
            actions: One row per item of `env_id`, batched as the action space is.
            env_id: (rows,) integers, distinct: env indices, as in ``info["env_id"]``; None: all environments in order.

        Raises:
            MisuseError: The actions or indices do not fit; nothing was sent.
            gymnasium.error.AlreadyPendingCallError: One of the environments is not received yet.
            gymnasium.error.ResetNeeded: An environment must be reset first.
        """
        self._stepping.step_some(actions, env_id)

    def recv(self, timeout: float | None = None, *, everything: bool = False) -> StepResult:
        """Return the first `batch_size` environments that are ready, in the order in which they were.

        Args:
            timeout: Seconds; None waits for ever.
            everything: Wait for all environments that were started, however many; so does a `recv` if no `batch_size`
                was given.

        Returns:
            What `step` returns, for these environments only: arrays and masks have a row for each, and
            ``infos["env_id"]``, (rows,) int64, says which. After `async_reset` rewards are 0 and flags False.

        Raises:
            TimedOut: Not enough are ready; nothing is lost.
            gymnasium.error.NoAsyncCallError: Fewer than `batch_size` environments were started, or none at all.
            EnvironmentRaised, EnvironmentLost: In an environment, which is not in flight any more; the others' results
                are returned by the next `recv`.
            SessionLost: A server no longer holds the environments.
        """
        return self._stepping.receive(timeout, everything)
