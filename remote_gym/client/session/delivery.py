"""Trainer process, no I/O: frames of one carrier -> answers in the inbox, and what else the server says.

Fed by whoever has the turn to read the carrier: the session's reader thread, or the caller that stands in for it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from remote_gym.client.session.assembly import Assembly
from remote_gym.client.session.outstanding import ANSWERS
from remote_gym.client.session.protocol import Phase, SessionProtocol
from remote_gym.errors import ProtocolError
from remote_gym.messages import Buffer, Load, ServerMessage, Transition
from remote_gym.wire.codec import read_server
from remote_gym.wire.frames import TRANSITION_BYTE, UnusualEncoding, read_transition


class Delivery:
    """What one carrier brings."""

    def __init__(self, protocol: SessionProtocol) -> None:
        """Begin with nothing; answers are for `protocol` and its inbox."""
        self._protocol = protocol
        self._assembly = Assembly()
        self._size = 0  # of the frames whose messages are not in the inbox

    def messages(self, frame: Buffer) -> Iterable[ServerMessage]:
        """Return the messages that are whole with `frame`; to be dealt with in order, each before the next is made.

        Raises:
            ProtocolError: It is no message.
        """
        self._size += len(frame)
        message = read_server(frame)
        if type(message) is Transition and not self._assembly.pieces:  # the usual case
            return (message,)
        return self._assembly.feed(message)

    def take(self, message: ServerMessage) -> bool | None:
        """Take in an answer; return whether it is in the inbox now, None if it is no answer or there can be none.

        The server's load is taken note of, and is in no inbox.

        Raises:
            ProtocolError: As `Outstanding.take` and `take_load`.
        """
        protocol = self._protocol
        if protocol.phase is not Phase.ATTACHED:
            return None
        if type(message) is Load:
            protocol.outstanding.take_load(message)
            return False
        if type(message) not in ANSWERS:
            return None
        if protocol.ending or not protocol.outstanding.take(message, self._size):  # type: ignore[arg-type]
            return False
        self._size = 0  # of a bundle, the first message counts for all
        return True

    def take_usual(self, frame: Buffer) -> bool:
        """Take in what is in `frame` if it is the usual answer to a step; if not, nothing has happened.

        For a caller that stands in; wherever an interrupt strikes, nothing comes twice.
        """
        protocol = self._protocol
        if protocol.ending or protocol.phase is not Phase.ATTACHED or self._assembly.pieces:
            return False
        if frame[:1] != TRANSITION_BYTE:
            return False
        try:
            answer = read_transition(frame)
        except (UnusualEncoding, ProtocolError):  # the thread reads it in another way, or says so
            return False
        took = protocol.outstanding.take_usual(answer, self._size + len(frame))
        if took:
            self._size = 0
        return took


def landing(size: int) -> memoryview:
    """Return a buffer for a frame: arrays are views of it, so it is never used again.

    NumPy's memory, which is not cleared first, and lies as that of any array does: what a frame has at a multiple of 16
    bytes is aligned.
    """
    return np.empty(size, np.uint8).data
