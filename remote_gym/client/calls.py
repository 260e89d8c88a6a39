"""Trainer process: methods, attributes and frames of all environments, over one server or several."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from remote_gym.client.exchange import Exchange
from remote_gym.client.fleet import Fleet, Shard
from remote_gym.errors import RemoteGymError, SessionLost
from remote_gym.messages import Call, Render

Begun = list["tuple[Shard, Call | Render]"]


class Calls:
    """Calls on every environment of a vector environment. What goes wrong in one raises, whatever the policies say."""

    def __init__(self, fleet: Fleet, exchange: Exchange) -> None:
        """Call through `fleet`; `exchange` mends sessions that turn out to be lost."""
        self._fleet = fleet
        self._exchange = exchange

    def begin(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Begun:
        """Begin to call the method, or read the attribute, `name` everywhere; `gather` gets the results.

        Raises:
            MisuseError: The name is private, or an argument cannot travel.
            SessionLost: A server no longer holds the environments.
        """
        return self._begin(lambda shard: shard.connection.begin_call(name, args, kwargs))

    def _begin(self, ask: Callable[[Shard], Call | Render]) -> Begun:
        begun: Begun = []
        for shard in self._fleet.shards:
            with self._mending(shard):
                begun.append((shard, ask(shard)))
        return begun

    def gather(self, begun: Begun, timeout: float | None = None) -> list[Any]:
        """Return what was begun, one value per environment.

        Raises:
            TimeoutError: Not all came in `timeout` seconds; those that did are kept for the next `gather`.
            EnvironmentRaised, EnvironmentLost: In the environment with the lowest index that failed.
            SessionLost: A server no longer holds the environments.
        """
        gathered: list[Any] = []
        errors: list[RemoteGymError] = []
        for shard, request in begun:
            try:
                with self._mending(shard):
                    gathered += shard.connection.gather(request, timeout)
            except RemoteGymError as error:  # the others have answered too, and must not be left unread
                errors.append(error)
        if errors:
            raise errors[0]
        return gathered

    def set_attribute(self, name: str, new: Sequence[Any]) -> None:
        """Set the attribute `name` of each environment to its item of `new`; raises like `begin` and `gather`."""
        self.gather(self._begin(lambda shard: shard.connection.begin_set(name, new[shard.first : shard.stop])))

    def render(self) -> list[Any]:
        """Return the rendered frame of each environment; raises like `gather`."""
        return self.gather(self._begin(lambda shard: shard.connection.begin_render()))

    @contextlib.contextmanager
    def _mending(self, shard: Shard) -> Iterator[None]:
        """Raise what has happened to a session, and let the next step go on with a new one if that is wanted."""
        try:
            yield
        except SessionLost as error:
            self._exchange.session_lost(shard, error)
            raise
