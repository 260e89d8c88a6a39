"""Trainer process, no I/O: what a carrier brings -> whole messages. Fragments joined, bundles opened, floods ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from remote_gym.errors import ProtocolError
from remote_gym.messages import Bundle, ServerMessage
from remote_gym.wire.codec import Joiner, read_server

MAX_BUNDLED = 65_536
"""Messages in one bundle: four for each environment of the largest session. An empty one takes 2 bytes there."""

MAX_PIECES = 2**18
"""Fragments of one message: 1 GiB in pieces of 4 KiB. They may be empty, and would be collected for ever."""


class Assembly:
    """The messages of one carrier, in order."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._joiner = Joiner(read_server)
        self._pieces = 0  # fragments in a row

    def feed(self, frame: bytes | memoryview) -> Iterator[ServerMessage]:
        """Yield the messages that are whole with `frame`: none for a piece, several for a bundle.

        Raises:
            ProtocolError: What came is no message; the carrier is of no use any more.
        """
        message = self._read(bytes(frame))  # of bytes no copy; the codec does not read other buffers yet
        if type(message) is Bundle:
            if not 0 < len(message.messages) <= MAX_BUNDLED:
                raise ProtocolError(f"a bundle of {len(message.messages)} messages")
            for one in message.messages:
                inner = self._read(one)
                if inner is None or type(inner) is Bundle:
                    raise ProtocolError("a fragment in a bundle, or a bundle in another")
                yield inner
        elif message is None:
            self._pieces += 1
            if self._pieces > MAX_PIECES:
                raise ProtocolError("more fragments than any message has")
        else:
            self._pieces = 0
            yield message

    def _read(self, data: Any) -> Any:
        try:
            return self._joiner.feed(data)
        except ProtocolError:
            raise
        except Exception as error:  # whatever hostile bytes provoke in protobuf, NumPy or here
            raise ProtocolError(f"a message cannot be read: {type(error).__name__}: {error}") from error
