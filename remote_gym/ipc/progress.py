"""Both sides: shared memory on which a worker shows what it is doing, and on which it dies.

The server reads it to tell a hung environment from a worker that has many to step: as long as the count or the env_id
moves, no environment has hung. Words are written by the worker only, one at a time; a torn reading costs at most one
more check. Behind the first page the C library's last words are kept: what `faulthandler` writes when the worker
crashes. On the common pipe nobody could say whose command they belong to.
"""

from __future__ import annotations

from typing import Any, Final

OPERATIONS: Final = ("idle", "build", "reset", "step", "call", "render", "close")
REPORT_OFFSET: Final = 4_096
SIZE_BYTES: Final = REPORT_OFFSET + 28_672
"""A page of words, and room for the stacks of the threads of a crash; `faulthandler` stops where it ends."""

IDLE, BUILD, RESET, STEP, CALL, RENDER, CLOSE = range(len(OPERATIONS))

NO_ENV_ID: Final = 2**64 - 1

NO_GROUP: Final = 0

COUNT, ENV_ID, OPERATION, STEP_NANOSECONDS, GROUP, STEPS, STEPS_NANOSECONDS, BUSY_SINCE, BUSY_NANOSECONDS = range(9)

FIRST_OCTAVE: Final = 10
OCTAVES: Final = 27
HISTOGRAM: Final = 16
"""From this word on: how many environments' steps took how long: two words for each octave of nanoseconds, from 2 ** 10
(about a microsecond) to 2 ** 37 (about two minutes); what is less counts for the first, what is more for the last."""

STEP_BOUNDS_SECONDS: Final = tuple(
    1e-9 * 2**octave * half for octave in range(FIRST_OCTAVE, FIRST_OCTAVE + OCTAVES) for half in (1.5, 2.0)
)
"""Upper bounds of these words, but that what is above the last counts for it, too."""


def bucket_of(nanoseconds: int) -> int:
    """Return the word of `HISTOGRAM` in which a step of that duration counts."""
    octave = nanoseconds.bit_length() - 1 - FIRST_OCTAVE
    if octave < 0:
        return HISTOGRAM
    if octave >= OCTAVES:
        return HISTOGRAM + 2 * OCTAVES - 1
    return HISTOGRAM + 2 * octave + (nanoseconds >> (octave + FIRST_OCTAVE - 1) & 1)


class Board:
    """64-bit words: a count that moves with every operation, the current one's env_id and kind, the duration of a step.

    Attributes:
        words: The words themselves. On the hot path, a step, a worker writes them itself: the kind of operation once,
            ``words[ENV_ID]`` for each environment, how long one of them took lately, ``words[STEP_NANOSECONDS]``, and
            how many there were so far and how long they took together: ``words[STEPS]``, ``words[STEPS_NANOSECONDS]``,
            and how many took how long, see `HISTOGRAM`. Around a round ``words[BUSY_SINCE]`` is the performance
            counter's at its begin, else 0; ``words[BUSY_NANOSECONDS]`` what the earlier ones took.
    """

    def __init__(self, buffer: Any) -> None:
        """Look at the first words of `buffer`."""
        self._whole = memoryview(buffer)
        self.words = self._whole[:REPORT_OFFSET].cast("Q")

    def turn_of(self, group: int) -> None:
        """Child side: say that a command on `group` begins: what happens from here on is its owner's doing.

        `NO_GROUP`: the round is over.
        """
        words = self.words
        words[GROUP] = group
        words[OPERATION] = IDLE  # until it begins one
        words[COUNT] += 1

    def clear(self) -> None:
        """Parent side: say, before the worker starts, that no environment has had its turn."""
        self.words[ENV_ID] = NO_ENV_ID

    def begin(self, operation: int, env_id: int) -> None:
        """Child side: say that `OPERATIONS[operation]` of `env_id` begins."""
        words = self.words
        words[ENV_ID] = env_id
        words[OPERATION] = operation
        words[COUNT] += 1

    @property
    def step_seconds(self) -> float:
        """Parent side: how long one environment's step takes here, lately; 0 if that is not known yet."""
        return float(self.words[STEP_NANOSECONDS]) * 1e-9

    @property
    def steps(self) -> tuple[int, float]:
        """Parent side: how many environments' steps were made here, and how many seconds they took together."""
        return self.words[STEPS], float(self.words[STEPS_NANOSECONDS]) * 1e-9

    def busy_seconds(self, now: int) -> float:
        """Parent side: how long the worker has been at work; `now` is the performance counter's, in nanoseconds."""
        words = self.words
        for _ in range(3):  # a round may end between the readings
            since, before = words[BUSY_SINCE], words[BUSY_NANOSECONDS]
            if words[BUSY_SINCE] == since:
                break
        return 1e-9 * (before + (max(0, now - since) if since else 0))

    @property
    def step_counts(self) -> list[int]:
        """Parent side: how many environments' steps took how long, by `STEP_BOUNDS_SECONDS`."""
        return self.words[HISTOGRAM : HISTOGRAM + 2 * OCTAVES].tolist()

    def current(self) -> tuple[int, int] | None:
        """Child side: whose turn it is, as (group, env_id); None between rounds."""
        return (self.words[GROUP], self.words[ENV_ID]) if self.words[OPERATION] else None

    @property
    def group(self) -> int:
        """Parent side: the group whose command runs, or ran when the worker died; `NO_GROUP` between rounds."""
        return self.words[GROUP]

    def report(self) -> str:
        """Parent side: what the worker wrote when it crashed; empty if it did not."""
        raw = self._whole[REPORT_OFFSET:].tobytes()
        return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")

    def read(self) -> tuple[int, int, str]:
        """Parent side: return count, env_id and operation."""
        words = self.words
        return words[COUNT], words[ENV_ID], OPERATIONS[words[OPERATION]]

    def close(self) -> None:
        """Let go of the buffer."""
        self.words.release()
        self._whole.release()
