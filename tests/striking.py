"""An interrupt at a chosen point: where the interpreter looks for signals, one point after the other."""

from __future__ import annotations

import dis
import functools
import weakref
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """What strikes."""


class Striking:
    """Raises, or does what a handler would, at the `at`-th point of the code in `files`, counted from 1.

    To be given to `sys.settrace`.

    Attributes:
        left: How many points are left; above 0: it has not struck.
        where: The line at which it has struck.
    """

    def __init__(self, at: int, *files: str, handler: Callable[[], object] | None = None) -> None:
        self.left = at
        self._handler = handler
        self.where = ""
        self._files = files
        self._previous: dict[Any, str] = {}

    def trace(self, frame: Any, event: str, _argument: Any) -> Any:
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_code.co_filename in self._files:
            # After a call, a jump back, and the beginning of a function; never between the two halves of a `with`.
            if self._previous.get(frame, "RESUME").startswith(("CALL", "JUMP_ABSOLUTE", "JUMP_BACKWARD", "RESUME")):
                self.left -= 1
                if self.left == 0 and is_of_a_finalizer(frame):
                    self.left = 1  # what it raises there, of garbage of other tests even, nobody hears
                elif self.left == 0:
                    self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                    if self._handler is None:
                        raise Interrupted
                    self._handler()
            self._previous[frame] = _names(frame.f_code)[frame.f_lasti]
        return self.trace


def is_of_a_finalizer(frame: FrameType | None) -> bool:
    """Whether it runs within one: what is raised there nobody hears."""
    while frame is not None:
        if frame.f_code.co_filename == weakref.__file__ or frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


@functools.cache
def _names(code: CodeType) -> dict[int, str]:
    return {one.offset: one.opname for one in dis.get_instructions(code)}
