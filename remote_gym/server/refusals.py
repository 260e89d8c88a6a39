"""No I/O: the one way in which the server says no; `carriers.edge` and `session` tell the peer."""

from __future__ import annotations

from remote_gym.messages import Failure
from remote_gym.texts import shortened


class RefusalError(Exception):
    """A request or an opening cannot be done; nothing was executed."""

    def __init__(self, limit: str, message: str, failure: Failure | None = None) -> None:
        """State the limit or rule, what to do, and the failed environment if that is why."""
        self.limit = limit
        self.failure = failure
        super().__init__(shortened(message))  # a refusal does not repeat megabytes of what was refused
