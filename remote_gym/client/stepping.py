"""Trainer process: resets and steps of a batch, as begun, gathered and handed out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from remote_gym import values
from remote_gym.client.batch_arguments import each_options, each_seed, env_indices, masked, own_options, verbatim
from remote_gym.client.batches import Batch
from remote_gym.client.dialled import Dialled
from remote_gym.client.failures import first_failure, late
from remote_gym.client.listed_infos import listed
from remote_gym.client.remote import Remote
from remote_gym.client.request_sizes import pack_options
from remote_gym.client.settings import LIST
from remote_gym.errors import MisuseError, TimedOut
from remote_gym.messages import Indices, every

RESET_MASK = "reset_mask"

StepResult = tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any], dict[str, Any]]


class Stepping:
    """What `RemoteVectorEnv` does to its environments; see there. Whole batches, or those of whoever is ready first."""

    def __init__(self, remote: Remote) -> None:
        """Prepare; dials nothing yet."""
        self._remote = remote
        self._num_envs = remote.settings.num_envs
        self._batch_size = remote.settings.batch_size  # None: all that are under way
        self._copy = remote.settings.copy
        self._everyone = range(self._num_envs)
        self._lists = remote.settings.info_format == LIST
        self._dialled: Dialled | None = None  # of the last step

    # Whole batches

    def begin_reset(self, seed: Any, options: Any, env_id: Any = None) -> None:
        """Begin a reset of the environments `env_id`, None: all or those of a mask; `finish_reset` gives its result."""
        dialled = self._remote.free("reset")
        these = self._these(dialled, options, env_id)
        if these is None:
            batch = dialled.batches.begin(self._reset(dialled, seed, options))
        else:
            self._reset_these(dialled, seed, options, these)
            batch = Batch(len(these), len(these), order=these)
        dialled.turns.begin("reset", batch)

    def _reset(self, dialled: Dialled, seed: Any, options: Any) -> Indices:
        """Ask for a reset and return whose."""
        if (each := each_options(options, self._num_envs)) is not None:
            return self._reset_each(dialled, seed, each)
        options = own_options(options)  # the mask is taken out of it; anything else is the environments' business
        if dialled.told.is_vector:
            seed = dialled.exchange.losses.seed_whole(seed, self._num_envs)
            packed = b"" if seed is None else values.pack(verbatim(seed), "seed")
            dialled.exchange.reset_verbatim(packed, pack_options(options))
            return None
        seeds = each_seed(seed, self._num_envs)
        indices = None
        if options is not None and RESET_MASK in options:  # raises for an int, as locally
            indices = masked(options.pop(RESET_MASK), self._num_envs)
        packed = pack_options(options)
        dialled.turns.check_idle(indices)
        dialled.exchange.reset(indices, [seeds[index] for index in every(indices, self._num_envs)], packed)
        return indices

    def _reset_each(self, dialled: Dialled, seed: Any, each: list[Any]) -> Indices:
        """Ask for a reset of all, with options of their own: one request for those whose options are the same."""
        if dialled.told.is_vector:
            raise MisuseError(
                "options: the server hosts a vector environment, which takes one dict; it may hold a list of your own"
            )
        self._ask_each(dialled, self._everyone, each_seed(seed, self._num_envs), each)
        return None

    def _these(self, dialled: Dialled, options: Any, env_id: Any) -> list[int] | None:
        """Return whom to reset by name; None: all, or those of a mask."""
        if env_id is None:
            return None
        if isinstance(options, Mapping) and RESET_MASK in options:
            raise MisuseError("env_id and options['reset_mask'] both say which environments to reset: drop one")
        return self._some(dialled, env_id)

    def _reset_these(self, dialled: Dialled, seed: Any, options: Any, these: list[int]) -> None:
        """Ask for a reset of the environments `these`; a sequence has an item for each of them."""
        each = each_options(options, len(these))
        whole = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
        seeds = [int(seed) + index for index in these] if whole else each_seed(seed, len(these))
        self._ask_each(dialled, these, seeds, [options] * len(these) if each is None else each)

    def _ask_each(
        self, dialled: Dialled, indices: Sequence[int], seeds: Sequence[int | None], each: Sequence[Any]
    ) -> None:
        groups: dict[bytes, list[int]] = {}
        for row, options in enumerate(each):
            groups.setdefault(pack_options(options), []).append(row)
        dialled.turns.check_idle(indices)
        for packed, rows in groups.items():
            dialled.exchange.reset([indices[row] for row in rows], [seeds[row] for row in rows], packed)

    def finish_reset(self, timeout: float | None) -> tuple[Any, dict[str, Any]]:
        """Wait for what `begin_reset` began."""
        return self._finish("reset", timeout)[:2]

    def begin_step(self, actions: Any, env_id: Any = None) -> None:
        """Begin a step of the environments `env_id` (None: all); `finish_step` gives its result."""
        dialled = self._dialled
        if dialled is None or not dialled.turns.clear:
            dialled = self._dialled = self._remote.free("step")
        indices = None if env_id is None else self._some(dialled, env_id)
        if dialled.turns.disabled:
            dialled.turns.check_not_over(indices)
        encoded = dialled.encoder.encode(actions, self._everyone if indices is None else indices)
        rows = self._num_envs if indices is None else len(indices)
        batch = Batch(rows, rows, order=indices)
        dialled.turns.begin("step", batch)  # before it is sent: an interrupt must not lose it
        try:
            dialled.exchange.step(indices, encoded, True)
            batch.asked = True
        except Exception:
            dialled.turns.end()
            raise

    def _some(self, dialled: Dialled, env_id: Any) -> list[int] | None:
        """Return whom to step or reset; None if it is all of them in order, which is a whole step."""
        indices = env_indices(env_id, self._num_envs)
        if indices == list(self._everyone):
            return None
        if dialled.told.is_vector:
            raise MisuseError("env_id: the server hosts a vector environment, which steps as a whole: leave env_id out")
        return indices

    def finish_step(self, timeout: float | None) -> StepResult:
        """Wait for what `begin_step` began."""
        observations, infos, batch = self._finish("step", timeout)
        return observations, batch.rewards, batch.terminations, batch.truncations, infos

    def _finish(self, name: str, timeout: float | None) -> tuple[Any, dict[str, Any], Batch]:
        """Gather all parts of the pending reset or step; what was gathered survives a timeout and an interrupt.

        Returns:
            Observations and infos of all, and the batch.
        """
        dialled = self._dialled
        if dialled is None or dialled.turns.pending != name or self._remote.closed:
            dialled = self._remote.awaited(name)
        batch = dialled.turns.batch
        assert batch is not None
        try:
            while batch.missing > 0:
                if not batch.asked:
                    dialled.exchange.check_busy(name)
                dialled.exchange.deliver(partial(dialled.batches.add, batch), timeout)
            # Raises for infos that do not aggregate, as locally: the step is done.
            observations = dialled.batches.commit(batch, self._copy)
            if batch.failures:
                raise first_failure(batch.failures)
        except TimedOut:
            raise late(name, timeout) from None
        except Exception:
            dialled.turns.end()
            raise
        except BaseException:
            batch.asked = False  # an interrupt: what makes up for a loss may not have been asked for
            raise
        if self._remote.shows:
            self._remote.show()
        if batch.notes or dialled.reader.told:
            self._remote.warn_of(batch.notes)
        # After an interrupt an answer may be left that was applied and not taken: what begins next looks for it.
        dialled.turns.end(clear=batch.asked and not batch.notes)
        infos: Any = batch.infos if batch.infos or not self._lists else listed({}, len(batch.rewards))
        return observations, infos, batch

    # Batches of whoever is ready first

    def reset_some(self, seed: Any, options: Any, env_id: Any = None) -> None:
        """Begin a reset; `receive` gives the first observations."""
        dialled = self._asynchronous("async_reset")
        these = self._these(dialled, options, env_id)
        if these is None:
            self._reset(dialled, seed, options)
        else:
            self._reset_these(dialled, seed, options, these)

    def step_some(self, actions: Any, env_id: Any) -> None:
        """Begin a step of the environments `env_id`; `receive` gives the results."""
        dialled = self._asynchronous("send")
        indices = self._everyone if env_id is None else env_indices(env_id, self._num_envs)
        dialled.turns.check_idle(indices)
        dialled.turns.check_not_over(indices)
        encoded = dialled.encoder.encode(actions, indices)
        dialled.exchange.step(None if env_id is None else indices, encoded)

    def receive(self, timeout: float | None, everything: bool = False) -> StepResult:
        """Wait for the first `batch_size` environments that are ready, or for `everything` that was started."""
        dialled = self._asynchronous("recv")
        ready, rows = dialled.ready, None if everything else self._batch_size
        self._gather(dialled, rows, timeout)
        first, rest = ready.first(ready.rows if rows is None else rows)
        try:
            observations, batch = dialled.batches.join(first, self._copy)
        except Exception:  # infos that do not aggregate: these environments are received, and others may follow
            ready.keep(rest)
            raise
        if self._remote.shows:
            self._remote.show()
        result = observations, batch.rewards, batch.terminations, batch.truncations, batch.infos
        ready.keep(rest)
        if batch.notes or dialled.reader.told:
            self._remote.warn_of(batch.notes)
        return result

    def _gather(self, dialled: Dialled, rows: int | None, timeout: float | None) -> None:
        """Return when `rows` environments are ready; None: all that were started, at least one."""
        while True:
            if failures := dialled.ready.failures():
                raise first_failure(failures)
            if dialled.ready.rows >= (rows or 1) and (rows or not dialled.exchange.in_flight.any()):
                return
            dialled.turns.check_enough(rows)
            dialled.exchange.deliver(dialled.ready.add, timeout)

    def _asynchronous(self, name: str) -> Dialled:
        dialled = self._remote.opened(name)
        if dialled.told.is_vector:
            raise MisuseError(f"`{name}`: the server hosts a vector environment, which steps as a whole: use `step`")
        dialled.exchange.counts = True
        dialled.turns.clear = False
        return dialled
