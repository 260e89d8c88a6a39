"""No I/O: what went wrong in one environment; the same type in the worker, between the processes and on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class FailureKind(IntEnum):
    """What went wrong in one environment."""

    RAISED = 1
    NEEDS_RESET = 2
    LOST = 3
    INVALID = 4
    GONE = 5


@dataclass(frozen=True)
class Failure:
    """Something went wrong in the environment at `index`; what each field holds for each kind: see the contract."""

    index: int
    kind: FailureKind
    type: str = ""
    message: str = ""
    detail: str = ""
    base: str = ""
