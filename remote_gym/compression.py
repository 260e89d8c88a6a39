"""No I/O: compression of observations, chosen by a client when it opens. Both sides know which leaves it covers.

The libraries are an extra, imported when a session first asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Union

from remote_gym.distribution import install
from remote_gym.errors import MisuseError, ProtocolError
from remote_gym.leaves import Leaf

Buffer = Union[bytes, bytearray, memoryview]

MIN_ROW_BYTES = 512
"""Leaves with smaller rows travel as they are: they hardly shrink, and a piece costs some 40 bytes of its own."""

MAX_ROW_BYTES = 32 * 2**20
"""Leaves with larger rows travel as they are too: a piece holds whole rows, and must fit into one packed value."""

MAX_PIECE_BYTES = 16 * 2**20
"""A piece holds no more rows than this many bytes of them, unless a single row is larger."""

WORTH_IT = 7 / 8
"""Rows that do not shrink to this part of their size travel as they are, through shared memory, which costs less. (A
noisy camera shrinks to 9/10, at a cost that even 100 Mbit/s do not give back.)"""

ZSTD_LEVEL = 1
"""The fastest of the usual levels; on rendered frames the higher ones are no smaller by much, and always slower."""


class Codec(NamedTuple):
    """One way to compress. Not thread-safe: each user makes its own with `codec`.

    Attributes:
        compress: Data -> its compressed form.
        decompress: (compressed form, size of the data) -> the data. Takes no more memory than that size, whatever the
            compressed form claims, and raises any exception if it is anything else.
    """

    compress: Callable[[Buffer], bytes]
    decompress: Callable[[Buffer, int], Buffer]


def _lz4() -> Codec:
    from lz4 import block

    return Codec(
        lambda data: block.compress(data, store_size=False),  # type: ignore[no-any-return]
        lambda data, size: block.decompress(data, uncompressed_size=size, return_bytearray=True),  # type: ignore[no-any-return]
    )


def _zstd() -> Codec:
    import zstandard

    decompressor = zstandard.ZstdDecompressor()

    def decompress(data: Buffer, size: int) -> Buffer:
        # The library takes as much memory as the frame says, and knows no other bound then.
        if zstandard.frame_content_size(data) != size:
            raise ValueError(f"a frame that claims another size than {size} bytes")
        whole: bytes = decompressor.decompress(data, max_output_size=size, allow_extra_data=False)
        return whole

    return Codec(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress, decompress)


_CODECS: dict[str, tuple[str, Callable[[], Codec]]] = {"lz4": ("lz4", _lz4), "zstd": ("zstandard", _zstd)}

NAMES = tuple(_CODECS)
"""What `compression` may be, besides None."""


def codec(name: str) -> Codec:
    """Return a new codec.

    Raises:
        MisuseError: There is none of this name, or its library is not installed here; says what to install.
    """
    if name not in NAMES:
        raise MisuseError(f"compression must be None or one of {', '.join(map(repr, NAMES))}, got {name!r}")
    library, make = _CODECS[name]
    try:
        return make()
    except ImportError as error:
        raise MisuseError(
            f"compression={name!r} needs the package {library!r} on both sides, and it cannot be imported here "
            f"({error}): {install('compression')}"
        ) from error


def compressed_leaves(leaves: Sequence[Leaf], name: str | None) -> tuple[int, ...]:
    """Return the positions of the leaves that travel compressed in a session with `name` as its compression."""
    if name is None:
        return ()
    return tuple(at for at, leaf in enumerate(leaves) if MIN_ROW_BYTES <= leaf.row_bytes <= MAX_ROW_BYTES)


def shrink(codec: Codec, data: Any) -> bytes | None:
    """Return `data` compressed, or None if that is not worth it."""
    smaller = codec.compress(data)
    return smaller if len(smaller) <= len(data) * WORTH_IT else None


def grow(codec: Codec, data: Buffer, size: int) -> Buffer:
    """Return the `size` bytes that `shrink` was given.

    Raises:
        ProtocolError: `data` holds anything else. Nothing larger is built to find out.
    """
    try:
        whole = codec.decompress(data, size)
    except Exception as error:  # whatever the library raises at hostile bytes
        raise ProtocolError(f"compressed rows cannot be read: {type(error).__name__}: {error}") from error
    if len(whole) != size:
        raise ProtocolError(f"compressed rows are {len(whole)} bytes, their space says {size}")
    return whole
