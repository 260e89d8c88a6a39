"""Trainer process: environments that were lost, and how their episodes end and begin again. No I/O.

A lost environment is built anew by its server and needs a reset; what the trainer sees of that, with
``on_worker_failure="truncate"``, is decided here: its episode ends truncated, flagged in ``infos["remote_gym"]``,
and the next one begins as the autoreset mode says, with a seed of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from remote_gym.client.batch_arguments import each_seed
from remote_gym.client.warned import warn
from remote_gym.errors import MisuseError
from remote_gym.texts import printable, shortened

MAX_RESETS = 3
"""Resets of one environment that may be lost in a row; an environment that dies of every reset must not be hidden."""

REOPENED = frozenset({"SERVER_RESTARTED", "EXPIRED", "GAVE_WAY"})
"""Reasons of a lost session that a new one makes up for. FENCED is another client's doing, ENDED and REVOKED the
server owner's, BROKEN a bug: all raise."""

MOVED_BY = {"move": REOPENED | {"UNREACHABLE", "DRAINING"}, "truncate": frozenset({"UNREACHABLE"})}
"""Reasons that other servers make up for, where there are several, by `on_session_lost`."""

NAMED = 8
"""Lost environments of which a warning names the indices; of more it says how many."""


def warn_of_losses(indices: Sequence[int], reason: str) -> None:
    """Warn that episodes were cut short; once per client is enough."""
    more = len(indices) - NAMED
    others = f" and {more} more, {len(indices)} in all," if more > 0 else ""
    warn(
        f"environments {list(indices)[:NAMED]}{others} were lost: {printable(reason, 400)}. Their episodes "
        f"ended truncated, flagged in infos['remote_gym']; later losses are flagged only"
    )


class Losses:
    """What is known of each environment's losses and seeds."""

    def __init__(self, num_envs: int) -> None:
        """Begin with `num_envs` environments that were never lost."""
        self.generations = [0] * num_envs  # how often each was lost or moved
        self._seeds: list[int | None] = [None] * num_envs
        self._lost_resets = [0] * num_envs
        self._lost: set[int] = set()  # and not reset since
        self.due: set[int] = set()  # those of them that the next step resets
        self.untold: dict[int, str] = {}  # lost with nothing in flight, by reason: the next step tells
        self._again: set[int] = set()  # those of them whose loss was told, and is told once more

    def seed(self, indices: Iterable[int], seeds: Sequence[int | None]) -> list[int | None]:
        """Take note of what a reset of `indices` was given, and return what to send.

        An environment that was lost after a seeded reset, and is reset without a seed, gets
        ``SeedSequence([seed, env index, generation])``: another episode than the lost one, and the same in every run.
        """
        sent: list[int | None] = []
        for index, seed in zip(indices, seeds, strict=True):
            if seed is not None:
                self._seeds[index] = seed
                sent.append(seed)
            else:
                sent.append(self.fresh_seed(index) if index in self._lost else None)
        return sent

    def seed_whole(self, seed: Any, num_envs: int) -> Any:
        """Do what `seed` does for a hosted vector environment, which gets the seed as it is unless it was lost."""
        try:
            sent = self.seed(range(num_envs), each_seed(seed, num_envs))
        except MisuseError:  # not a seed of ours to judge: the vector environment may know what it means
            return seed
        return sent if seed is None and any(one is not None for one in sent) else seed

    def fresh_seed(self, index: int, generation: int | None = None) -> int | None:
        """Return the seed for the first reset of an environment that is another one; None if it was never given one.

        Of this `generation`; None: of the newest.
        """
        seed = self._seeds[index]
        if seed is None:
            return None
        generation = self.generations[index] if generation is None else generation
        sequence = np.random.SeedSequence([abs(seed), index, generation])
        return int(sequence.generate_state(1)[0])

    def moved(self, index: int, generation: int) -> None:
        """Take note that the environment is another one now, at the end of its episode, and needs a reset.

        It is seeded as after a loss; `generation` counts both.
        """
        self.generations[index] = generation
        self._lost.add(index)
        self.due.add(index)

    def tell(self, index: int) -> dict[str, Any]:
        """Return what `lost` does, for a loss that was not told yet."""
        reason = self.untold.pop(index)
        if index in self._again:
            self._again.discard(index)
            return self.note(index, reason)
        return self.lost(index, reason, True)

    def tell_again(self, index: int, reason: str) -> None:
        """Let the next step tell once more of a loss, which is the same one."""
        self._again.add(index)
        self.untold[index] = reason

    def retell(self, notes: Mapping[int, dict[str, Any]]) -> None:
        """Let the next step tell of losses whose `notes`, by env index, nobody has seen."""
        self.untold.update(
            (index, note["remote_gym"]["reason"]) for index, note in notes.items() if note["remote_gym"]["lost"]
        )

    def lost(self, index: int, reason: str, due: bool) -> dict[str, Any]:
        """Take note of a loss and return what to tell in the environment's info.

        With `due` the next step resets the environment; otherwise its user has to.
        """
        self.generations[index] += 1
        self._lost.add(index)
        if due:
            self.due.add(index)
        return self.note(index, reason)

    def note(self, index: int, reason: str, **more: Any) -> dict[str, Any]:
        """Return what to tell in the environment's info of its last loss."""
        reason = shortened(reason)  # a server's words
        return {"remote_gym": {"lost": True, "reason": reason, "generation": self.generations[index], **more}}

    def lost_in_reset(self, index: int) -> bool:
        """Take note of a reset that was lost; return whether to try it again."""
        self._lost_resets[index] += 1
        return self._lost_resets[index] <= MAX_RESETS

    def was_reset(self, indices: Iterable[int]) -> None:
        """Take note of resets that went well."""
        if not self._lost:
            return
        for index in indices:
            self._lost.discard(index)
            self.due.discard(index)
            self._lost_resets[index] = 0
