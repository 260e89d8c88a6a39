"""Both sides: one page of shared memory on which a worker shows what it is doing.

The server reads it to tell a hung environment from a worker that has many to step: as long as the count or the env_id
moves, no environment has hung. Words are written by the worker only, one at a time; a torn reading costs at most one
more check.
"""

from __future__ import annotations

from typing import Any, Final

OPERATIONS: Final = ("idle", "build", "reset", "step", "call", "render", "close")
SIZE_BYTES: Final = 4_096

IDLE, BUILD, RESET, STEP, CALL, RENDER, CLOSE = range(len(OPERATIONS))

NO_ENV_ID: Final = 2**64 - 1

COUNT, ENV_ID, OPERATION, STEP_NANOSECONDS = 0, 1, 2, 3


class Board:
    """64-bit words: a count that moves with every operation, the current one's env_id and kind, the duration of a step.

    Attributes:
        words: The words themselves. On the hot path a worker begins an operation once and then only writes
            ``words[ENV_ID]`` for each environment.
    """

    def __init__(self, buffer: Any) -> None:
        """Look at the first words of `buffer`."""
        self.words = memoryview(buffer).cast("Q")

    def clear(self) -> None:
        """Parent side: say, before the worker starts, that no environment has had its turn."""
        self.words[ENV_ID] = NO_ENV_ID

    def begin(self, operation: int, env_id: int) -> None:
        """Child side: say that `OPERATIONS[operation]` of `env_id` begins."""
        words = self.words
        words[ENV_ID] = env_id
        words[OPERATION] = operation
        words[COUNT] += 1

    def idle(self) -> None:
        """Child side: say that the round is over."""
        self.words[OPERATION] = 0
        self.words[COUNT] += 1

    def stepped(self, nanoseconds: int) -> None:
        """Child side: say how long one environment's step took; kept as a moving average over the last few commands."""
        old = self.words[STEP_NANOSECONDS] or nanoseconds
        self.words[STEP_NANOSECONDS] = (7 * old + nanoseconds) // 8

    @property
    def step_seconds(self) -> float:
        """Parent side: how long one environment's step takes here; 0 if that is not known yet."""
        return float(self.words[STEP_NANOSECONDS]) * 1e-9

    def current_env_id(self) -> int | None:
        """Child side: whose turn it is; None between rounds."""
        return self.words[ENV_ID] if self.words[OPERATION] else None

    def read(self) -> tuple[int, int, str]:
        """Parent side: return count, env_id and operation."""
        words = self.words
        return words[COUNT], words[ENV_ID], OPERATIONS[words[OPERATION]]

    def close(self) -> None:
        """Let go of the buffer."""
        self.words.release()
