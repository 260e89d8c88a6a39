"""Trainer process, no I/O: whether the peer of a direct connection is there; when to ask it, when to give it up."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from remote_gym.wire.direct import PING_SECONDS, SILENCE_SECONDS

CLOSE_PING_SECONDS = 1.0
"""How often a peer is asked at least that is gone soon; and at least five times until then."""


@dataclass(frozen=True)
class Watch:
    """How closely a peer is watched.

    Attributes:
        ping_seconds: It is asked after so long a silence, and again and again.
        silence_seconds: It is given up after so long a silence.
    """

    ping_seconds: float
    silence_seconds: float

    @classmethod
    def of_one_that_is_gone_after(cls, seconds: float) -> Watch:
        """Return how closely to watch who is to be found gone so soon; half of the time is for reaching it anew."""
        return cls(min(CLOSE_PING_SECONDS, seconds / 5), seconds / 2)


class Liveness:
    """What is known of a peer that is to be asked when it is silent, and taken for dead when it does not answer.

    Attributes:
        spoke: When it was last sent something, on the monotonic clock.
        heard: When it has last sent something, or taken some of what waited for it.
    """

    def __init__(self, watch: Watch | None = None) -> None:
        """Begin with a peer that was just heard; `watch` None: as a network that swallows everything is found out."""
        self._watch = watch or Watch(PING_SECONDS, SILENCE_SECONDS)
        self.spoke = self.heard = time.monotonic()
        self._asked = -math.inf  # when the first ping was sent since it was heard

    def asks(self) -> None:
        """Take note that it is being asked."""
        self.spoke = time.monotonic()
        if not self._is_asked:
            self._asked = self.spoke

    @property
    def is_long_spoken_to(self) -> bool:
        """Whether it was sent nothing for so long that it may take us for dead."""
        return time.monotonic() - self.spoke >= self._watch.ping_seconds

    @property
    def is_to_be_asked(self) -> bool:
        """Whether it is time to ask, or to give it up."""
        return time.monotonic() >= self._due

    @property
    def seconds_left(self) -> float:
        """How long until it is to be asked, or given up."""
        return max(0.0, self._due - time.monotonic())

    @property
    def silence(self) -> str | None:
        """What to say of a peer that is given up; None: it is not."""
        now = time.monotonic()
        if not self._is_asked or now < self._given_up:
            return None
        return f"the server has sent nothing for {now - self.heard:.0f} s"

    @property
    def _is_asked(self) -> bool:
        return self._asked > self.heard

    @property
    def _due(self) -> float:
        if not self._is_asked:
            return self.heard + self._watch.ping_seconds
        return min(self.spoke + self._watch.ping_seconds, self._given_up)

    @property
    def _given_up(self) -> float:
        # Not before it was asked: this process may have been stopped meanwhile.
        return max(self.heard, self._asked - self._watch.ping_seconds) + self._watch.silence_seconds
