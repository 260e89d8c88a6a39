"""Trainer process, no I/O: what has gone between a client and one of its servers, counted where it happens."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Protocol

from remote_gym.client.session.session import Session


@dataclass
class Tally:
    """Of some environments' sessions, or of all with one server.

    Attributes:
        env_steps: Steps of environments that were answered.
        sent_bytes: Of requests, before TLS.
        received_bytes: Of answers, likewise.
        reconnects: How often a session was carried on over a new connection.
        moved_in: How many environments were built there whose server was another one before.
        moved_out: How many were lost there, and built elsewhere.
    """

    env_steps: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    reconnects: int = 0
    moved_in: int = 0
    moved_out: int = 0

    @classmethod
    def of(cls, session: Session) -> Tally:
        """Return what one session has counted by itself."""
        seen = session.outstanding
        return cls(0, seen.sent_bytes, seen.received_bytes, seen.reattached)

    def __add__(self, other: Tally) -> Tally:
        """Return both together."""
        return Tally(*map(sum, zip(astuple(self), astuple(other), strict=True)))


class Counted(Protocol):
    """Environments on one server.

    Attributes:
        count: How many.
        session: On them.
        took: Seconds of the last steps, until each answer was here.
        tally: What has gone there and back, but for what `session` counts itself.
    """

    count: int
    session: Session
    took: deque[float]
    tally: Tally

    @property
    def name(self) -> str:
        """Of the server."""


def counted(one: Counted) -> Tally:
    """Return all that has gone there and back."""
    return one.tally + Tally.of(one.session)


class Gone:
    """What has gone there and back of environments that were lost, by server.

    Attributes:
        by_server: That. Assigned whole, so that other threads may look.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.by_server: dict[str, Tally] = {}

    def add(self, lost: Counted, rows: int) -> None:
        """Take note of environments that are no more there, of which `rows` had not left before."""
        tally = self.by_server.get(lost.name, Tally()) + counted(lost) + Tally(moved_out=rows)
        self.by_server = {**self.by_server, lost.name: tally}


def tallies_by_server(all_there: Sequence[Counted], gone: Gone) -> dict[str, Tally]:
    """Return what has gone there and back, by server."""
    tallies = dict(gone.by_server)
    for one in all_there:
        tallies[one.name] = tallies.get(one.name, Tally()) + counted(one)
    return tallies


def took_by_server(all_there: Sequence[Counted]) -> dict[str, list[float]]:
    """Return the seconds of the last steps, by server."""
    took: dict[str, list[float]] = {}
    for one in all_there:
        took.setdefault(one.name, []).extend(one.took.copy())
    return took


def env_step_seconds(all_there: Sequence[Counted]) -> dict[str, float]:
    """Return how long one environment's step takes, by server, as far as they have told it."""
    loads = {one.name: one.session.outstanding.load for one in all_there}
    return {name: load.env_step_seconds for name, load in loads.items() if load is not None}
