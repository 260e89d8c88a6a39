"""Trainer process, no I/O: what a carrier brings -> whole messages. Fragments joined, bundles opened, floods ended."""

from __future__ import annotations

from collections.abc import Iterator

from remote_gym.errors import ProtocolError
from remote_gym.messages import Bundle, Fragment, ServerMessage
from remote_gym.wire.codec import Joiner, read_server

MAX_BUNDLED = 65_536
"""Messages in one bundle: four for each environment of the largest session. An empty one takes 2 bytes there."""

MAX_PIECES = 2**18
"""Fragments of one message: 1 GiB in pieces of 4 KiB. They may be empty, and would be collected for ever."""


class Assembly:
    """The messages of one carrier, in order.

    Attributes:
        pieces: How many fragments are here of a message that is not whole yet; the next one must continue it.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._joiner = Joiner(read_server)
        self.pieces = 0

    def feed(self, message: ServerMessage | Fragment | Bundle) -> Iterator[ServerMessage]:
        """Yield the messages that are whole with `message`, as it was read: none for a piece, several for a bundle.

        Raises:
            ProtocolError: What came is no message; the carrier is of no use any more.
        """
        whole = self._joiner.join(message)
        if whole is None:
            self.pieces += 1
            if self.pieces > MAX_PIECES:
                raise ProtocolError("more fragments than any message has")
            return
        self.pieces = 0
        if type(whole) is not Bundle:
            yield whole
            return
        if not 0 < len(whole.messages) <= MAX_BUNDLED:
            raise ProtocolError(f"a bundle of {len(whole.messages)} messages")
        for one in whole.messages:
            inner = read_server(one)
            if type(inner) in (Fragment, Bundle):
                raise ProtocolError("a fragment in a bundle, or a bundle in another")
            yield inner  # type: ignore[misc]
