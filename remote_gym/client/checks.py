"""Trainer process, no I/O: whether what a server says in one answer may be true. Raises, and builds nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from remote_gym.client.vector_infos import room_for
from remote_gym.errors import ProtocolError
from remote_gym.info_blocks import InfoBlock
from remote_gym.leaves import Array
from remote_gym.messages import Indices

LARGE_INFOS = 2**28
"""Bytes of info blocks times environments, up to which nobody looks how much aggregating them takes: a key takes three
bytes at least, and becomes about nine for each environment, so it is less than a GiB."""

MAX_INFO_BYTES = 8 * 2**30
"""Of all arrays that the infos of one batch become. A key of one environment becomes an array for all of them, so that
64 MiB of keys could otherwise take hundreds of GiB."""


class Share:
    """Whom an answer is for, as its server counts."""

    __slots__ = ("count", "first", "indices", "said")

    def __init__(self, said: Indices, count: int, first: int) -> None:
        self.said, self.count, self.first = said, count, first
        self.indices: Sequence[int] = range(count) if said is None else said
        if said is None:
            return
        if len(set(said)) != len(said) or not said or min(said) < 0 or max(said) >= count:
            raise ProtocolError(f"an answer that names an environment twice, or beyond the {count} of its session")

    def check(self, indices: Any, what: str) -> None:
        """Refuse `indices`, a list or the keys of a dict, that are not all among those of the answer."""
        if type(indices) not in (list, dict) or not {int}.issuperset(map(type, indices)):
            raise ProtocolError(f"{what} without an env index")
        if not set(indices).issubset(self.indices):
            raise ProtocolError(f"{what} of an environment that the answer is not for")


def check_flags(flags: Array) -> None:
    """Refuse a bool that is neither 0 nor 1: NumPy relies on that, for one when it sizes what a mask selects."""
    if flags.size and flags.view(np.uint8).max() > 1:
        raise ProtocolError("a bool that is neither 0 nor 1")


def rewards_dtype(text: Any) -> np.dtype[Any] | None:
    """Return the dtype of rewards, of which there are few: others' names make NumPy do more than look them up."""
    if text is None:
        return None
    if type(text) is not str or not _REWARDS_DTYPE.fullmatch(text):
        raise ProtocolError(f"rewards of dtype {str(text)[:40]!r}")
    return np.dtype(text)


_REWARDS_DTYPE = re.compile(r"[<>|][biufc]\d{1,2}|\|O")
"""Numbers, and objects: Python's floats then, out of the float64 that travel."""


def check_room(blocks: Iterable[InfoBlock], num_envs: int) -> None:
    """Refuse infos whose arrays would take far more memory than any honest ones."""
    if (size := room_for(blocks, num_envs)) > MAX_INFO_BYTES:
        raise ProtocolError(f"infos that would take {size:,} bytes for {num_envs} environments")
