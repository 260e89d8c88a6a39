"""Changes of bytes at random, for where no engine guides them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

MAX_BYTES = 65_536
"""Of an input: costs are in proportion, so what is dear shows in small inputs."""

_VARINTS = (b"\0", b"\x7f", b"\x80\0", b"\xff" * 9 + b"\1", b"\xff" * 11, b"\xff\xff\xff\xff\x0f", b"\x80" * 10)


def _replace(data: bytearray, at: int, chance: Random) -> None:
    data[at] = chance.randrange(256)


def _flip(data: bytearray, at: int, chance: Random) -> None:
    data[at] ^= 1 << chance.randrange(8)


def _delete(data: bytearray, at: int, chance: Random) -> None:
    del data[at : at + chance.randint(1, 8)]


def _insert(data: bytearray, at: int, chance: Random) -> None:
    data[at:at] = chance.randbytes(chance.randint(1, 8))


def _number(data: bytearray, at: int, chance: Random) -> None:
    data[at : at + chance.randint(0, 2)] = chance.choice(_VARINTS)


def _copy(data: bytearray, at: int, chance: Random) -> None:
    start = chance.randrange(len(data))
    data[at:at] = data[start : start + chance.randint(1, 30)]


def _repeat(data: bytearray, at: int, chance: Random) -> None:
    """A piece a thousand times: what costs a little more than its bytes costs a lot then."""
    piece = data[at : at + chance.randint(1, 16)]
    data[at:at] = piece * chance.choice([10, 100, 1_000, 10_000])


def _cut(data: bytearray, at: int, _chance: Random) -> None:
    del data[at:]


_CHANGES: tuple[Callable[[bytearray, int, Random], None], ...] = (
    _replace, _replace, _flip, _flip, _delete, _insert, _number, _copy, _cut,
)  # fmt: skip


def mutate(data: bytes, chance: Random, max_bytes: int = MAX_BYTES) -> bytes:
    """Return `data` with a few changes, or none."""
    changed = bytearray(data)
    for _ in range(chance.choice([0, 1, 1, 2, 3, 8])):
        if not changed:
            changed = bytearray(chance.randbytes(3))
        change = _repeat if chance.random() < 0.05 else chance.choice(_CHANGES)
        change(changed, chance.randrange(len(changed)), chance)
    return bytes(changed[:max_bytes])
