"""Both sides: one page of shared memory on which a worker shows what it is doing.

The server reads it to tell a hung environment from a worker that has many to step: as long as `count` moves, no
environment has hung. Words are written by the worker only, one at a time; a torn reading costs at most one more check.
"""

from __future__ import annotations

from typing import Any, Final

OPERATIONS: Final = ("idle", "build", "reset", "step", "call", "render", "close")
SIZE_BYTES: Final = 4_096

IDLE, BUILD, RESET, STEP, CALL, RENDER, CLOSE = range(len(OPERATIONS))

NO_ENV_ID: Final = 2**64 - 1

_COUNT, _ENV_ID, _OPERATION = 0, 1, 2


class Board:
    """Three 64-bit words: operations begun or ended so far, the env_id of the current one, and its kind."""

    def __init__(self, buffer: Any) -> None:
        """Look at the first words of `buffer`."""
        self._words = memoryview(buffer).cast("Q")

    def clear(self) -> None:
        """Parent side: say, before the worker starts, that no environment has had its turn."""
        self._words[_ENV_ID] = NO_ENV_ID

    def begin(self, operation: int, env_id: int) -> None:
        """Child side: say that `OPERATIONS[operation]` of `env_id` begins."""
        words = self._words
        words[_ENV_ID] = env_id
        words[_OPERATION] = operation
        words[_COUNT] += 1

    def idle(self) -> None:
        """Child side: say that the round is over."""
        self._words[_OPERATION] = 0
        self._words[_COUNT] += 1

    def current_env_id(self) -> int | None:
        """Child side: whose turn it is; None between rounds."""
        return self._words[_ENV_ID] if self._words[_OPERATION] else None

    def read(self) -> tuple[int, int, str]:
        """Parent side: return count, env_id and operation."""
        words = self._words
        return words[_COUNT], words[_ENV_ID], OPERATIONS[words[_OPERATION]]

    def close(self) -> None:
        """Let go of the buffer."""
        self._words.release()
