"""Trainer process, no I/O: answers to resets and steps -> parts, whose arrays are views of what came.

They are writable only where what came is nobody else's, and is to be handed out as it is.

`TransitionReader.read` checks whatever a server says; what comes after it relies on that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from remote_gym import values
from remote_gym.client.checks import Share, check_flags, rewards_dtype
from remote_gym.client.compressed import CompressedRows, Filling
from remote_gym.client.failures import relocated
from remote_gym.client.parts import Part
from remote_gym.client.warned import warn
from remote_gym.errors import ProtocolError
from remote_gym.info_blocks import InfoBlock, unpack_infos
from remote_gym.key_orders import KeyOrders
from remote_gym.leaves import Array, leaves_of, variable_leaves_of
from remote_gym.messages import Buffer, Transition
from remote_gym.texts import printable

MAX_BASES = 16
"""Types of which a caller is warned that their values arrive as another one; a server may name more."""


class TransitionReader:
    """Turns answers into parts.

    Attributes:
        frames: By env index, the frames that came with the last answers, where they travel with the steps.
        told: What to warn the caller of, of each type once, as soon as the answer was taken in; who warns empties it.
    """

    def __init__(
        self, space: spaces.Space[Any], num_envs: int, compression: str | None = None, writable: bool = False
    ) -> None:
        """Prepare for environments with this (single) observation space, and what the session was opened with.

        Args:
            space: Of one environment.
            num_envs: How many there are.
            compression: With which observations travel.
            writable: Whether arrays may be written that look into memory of the answer's own.
        """
        self._writable = writable
        self._leaves = leaves_of(space)
        self._layout = [(leaf.shape, leaf.dtype, leaf.row_bytes) for leaf in self._leaves]
        self._flags = [at for at, leaf in enumerate(self._leaves) if leaf.dtype.kind == "b"]
        self._compressed = None if compression is None else CompressedRows(self._leaves, compression)
        self._variable = len(variable_leaves_of(space))
        self._key_orders = KeyOrders(space)
        # Whether any bytes of the right size are an observation.
        self._is_plain = not self._flags and not self._variable and compression is None
        self._num_envs = num_envs
        self._warned = False
        self.told = ""
        self._bases: set[str] = set()
        self.frames: dict[int, Any] = {}

    def read(self, answer: Transition, first: int = 0, count: int | None = None) -> Part:
        """Return what a server answered.

        Args:
            answer: As it came; its arrays are looked into.
            first: The env index of the first environment of its session.
            count: Environments of that session; None: all there are.

        Raises:
            ProtocolError, CodecError: It does not fit the spaces, or is malformed.
            Exception: The same; whatever else hostile bytes provoke. `misread`, of the session, makes one error of all.
        """
        if count is None:
            count = self._num_envs
        whole = count == self._num_envs  # else it is one server of several
        if answer.indices is None and whole and self._is_plain and not answer.infos and not answer.failures:
            return self._scalars(answer, Part(None, self._arrays(answer, count)), count)  # the usual case
        share = Share(answer.indices, count, first)
        rows = len(share.indices)
        indices = answer.indices
        if not whole:
            own = share.indices
            indices = range(first, first + rows) if answer.indices is None else [first + index for index in own]
        failures = [relocated(failure, first) for failure in answer.failures] if first else list(answer.failures)
        part = self._scalars(answer, Part(indices, self._arrays(answer, rows), failures=failures), rows)
        filling = None if self._compressed is None else self._compressed.begin(part.leaves, answer)
        part.unpacked = filling is not None
        for said in answer.infos:
            self._take(part, values.unpack(said, "infos"), share, filling)
        failed = [failure.index for failure in answer.failures]
        if failed:
            share.check(failed, "a failure")
        if filling is not None:
            filling.finish(failed)
        for at in self._flags:
            check_flags(part.leaves[at])
        if self._variable:
            self._check_variable(part, share, failed)
        return part

    @staticmethod
    def _scalars(answer: Transition, part: Part, rows: int) -> Part:
        """Return `part` with the rewards and flags of `answer`."""
        if len(answer.rewards) > 0:
            part.rewards = _flat(answer.rewards, np.float64, rows)
            # Bytes of 0 and 1: the readers of the wire see to that.
            part.terminations = _flat(answer.terminations, np.bool_, rows)
            part.truncations = _flat(answer.truncations, np.bool_, rows)
        elif len(answer.terminations) or len(answer.truncations):
            raise ProtocolError("flags without rewards")
        return part

    def _take(self, part: Part, said: Any, share: Share, filling: Filling | None) -> None:
        block, exact, variable, extras = said
        if block is not None:
            part.blocks.append(self._block(block, share))
            part.info_bytes += len(block)
        if exact is not None:
            share.check(exact, "an exact value")
            if not {dict}.issuperset(map(type, exact.values())):
                raise ProtocolError("exact values must be dicts")
            for kept in exact.values():
                if "order" in kept:
                    self._key_orders.check(kept["order"])
            part.exact.update(exact)
        if variable is not None:
            self._take_variable(part, variable, share)
        if extras is None:
            return
        if type(extras) is not dict:
            raise ProtocolError(f"extras of type {type(extras).__name__}")
        if filling is not None and "compressed" in extras:
            filling.take(extras["compressed"])
        else:
            self._take_extras(part, extras, share)

    def _block(self, data: Any, share: Share) -> InfoBlock:
        if type(data) is not bytes:
            raise ProtocolError(f"an info block of type {type(data).__name__}")
        infos = unpack_infos(data)
        if share.said is not None:
            share.check(infos.indices, "an info")
        elif any(group.indices[-1] >= share.count for group in infos.groups):  # they rise
            raise ProtocolError(f"an info of an environment beyond the {share.count} of its session")
        return infos.select(np.arange(share.first, share.first + share.count)) if share.first else infos

    def _take_variable(self, part: Part, said: Any, share: Share) -> None:
        indices, rows = said
        if type(indices) is not list or type(rows) is not list or len(indices) != len(rows):
            raise ProtocolError("variable elements must be two lists of one length")
        share.check(indices, "a variable element")
        if any(type(row) is not list or len(row) != self._variable for row in rows):
            raise ProtocolError(f"variable elements must come in lists of {self._variable}")
        part.variable.update((share.first + index, row) for index, row in zip(indices, rows, strict=True))

    @staticmethod
    def _check_variable(part: Part, share: Share, failed: Sequence[int]) -> None:
        lacking = set(share.indices).difference(failed, (index - share.first for index in part.variable))
        if lacking:
            raise ProtocolError(f"the variable elements of environment {min(lacking)} are missing")

    def _take_extras(self, part: Part, extras: dict[Any, Any], share: Share) -> None:
        frames = extras.get("frames")
        if frames is not None:
            share.check(frames, "a frame")
            self.frames.update((share.first + index, frame) for index, frame in frames.items())
        if "infos" in extras:
            if not isinstance(extras["infos"], dict):
                raise ProtocolError(f"infos of type {type(extras['infos']).__name__}")
            part.whole = extras["infos"], rewards_dtype(extras.get("rewards_dtype"))
        dropped = extras.get("dropped")
        if dropped is not None and (type(dropped) is not list or not {str}.issuperset(map(type, dropped))):
            raise ProtocolError("what was dropped must be a list of paths")
        if dropped and not self._warned:
            self._warned = True
            paths = ", ".join(map(printable, dropped[:8]))
            warn(f"infos hold what cannot travel; left out, here and from now on: {paths}")
        based = extras.get("based")
        if based is not None:
            if type(based) is not list or not {str}.issuperset(map(type, based)):
                raise ProtocolError("what travels as its base must be a list of sentences")
            new = {*map(printable, based[:MAX_BASES])} - self._bases
            if new and len(self._bases) < MAX_BASES:  # of a server that never ends, not each
                self._bases |= new
                said = f"infos hold what arrives as its base from now on: {', '.join(sorted(new))}"
                self.told = f"{self.told}; {said}" if self.told else said

    def _arrays(self, part: Transition, rows: int) -> list[Array]:
        if len(part.observations) != len(self._leaves):
            raise ProtocolError(f"{len(part.observations)} observation leaves, expected {len(self._leaves)}")
        compressed = () if self._compressed is None else self._compressed.numbers
        arrays = []
        for at, ((shape, dtype, row_bytes), data) in enumerate(zip(self._layout, part.observations, strict=True)):
            if not self._writable and type(data) is memoryview and not data.readonly:
                data = _sealed(data)
            room = at in compressed and not len(data)  # without a buffer: room, to be filled
            if not room and len(data) != rows * row_bytes:
                said = f"observation leaf {at} has {len(data)} bytes"
                raise ProtocolError(f"{said}, its space says {rows} rows of {row_bytes}")
            arrays.append(np.ndarray((rows, *shape), dtype, None if room else data))
        return arrays


def _sealed(data: memoryview) -> memoryview:
    """Return `data` read-only; NumPy's memory is made so itself, or whoever holds a view could make it writable."""
    if isinstance(data.obj, np.ndarray):
        data.obj.flags.writeable = False
    return data.toreadonly()


def _flat(data: Buffer, dtype: Any, rows: int) -> Array:
    array = np.frombuffer(bytearray(data), dtype)  # the bytearray is the copy: it is quicker than NumPy's
    if len(array) != rows:
        raise ProtocolError(f"{len(array)} rewards or flags for {rows} environments")
    return array
