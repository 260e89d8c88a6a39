"""In an actor of its own, no I/O: what is known of a farm's servers, and the authority that signs their certificates.

Everything but the plan and the authority is what servers have reported lately. So nothing is lost when Ray starts it
anew with the arguments of its first start: a second later the servers have reported again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from remote_gym.certificates import Authority
from remote_gym.ray.names import TLS_NAME, Slot

REPORT_SECONDS = 1.0
"""Between two reports of a server."""

SILENT_SECONDS = 3.0
"""After so long without a report a server is nobody's to send to: less than the clients' move timeout, by default 5 s,
so that who has lost it is not told of it again."""

HANGS_SECONDS = 15.0
"""After so long it is taken for one that hangs: clients have moved all they had there."""

GRANT_SECONDS = 10.0
"""For how long a server that was given to somebody counts as in use before it reports a session."""

STARTING, RUNNING, DRAINING, SILENT, FAILED = "starting", "running", "draining", "silent", "failed"


@dataclass(frozen=True)
class Plan:
    """What a farm is made of, the same for all of its servers.

    Attributes:
        entrypoint: Of the environments, as a server takes it.
        source: What is in the file that the entrypoint names; None: it is on the nodes, or names no file.
        server_args: Arguments of `create_remote_environment_server` beside the entrypoint, by name.
        args: Other `RemoteArgs`.
        bundle: Resources of each server.
        runtime_env: Of each server, as Ray takes it; None: the job's.
        per_node: Whether no two of them may be on one node.
        detached: Whether the farm outlives the driver that has made it.
    """

    entrypoint: str
    source: bytes | None = field(default=None, repr=False)
    server_args: Mapping[str, Any] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)
    bundle: Mapping[str, float] = field(default_factory=dict)
    runtime_env: Mapping[str, Any] | None = None
    per_node: bool = False
    detached: bool = False


class Told(NamedTuple):
    """What a server says of itself.

    Attributes:
        node: Ray's id of its node.
        address: ``host:port``; empty while there is none.
        workers: Worker processes that run.
        envs: Environments it holds.
        sessions: Sessions it holds.
        failure: Why it cannot serve; empty: it can.
    """

    node: str
    address: str = ""
    workers: int = 0
    envs: int = 0
    sessions: int = 0
    failure: str = ""


class ServerStatus(NamedTuple):
    """One server of a farm.

    Attributes:
        node: Ray's id of its node; empty while it has none.
        address: ``host:port``; the last one, if it is not running.
        state: ``"running"``; ``"starting"``: Ray has no room for it, or starts it (again); ``"silent"``: it has not
            reported for 3 s, or longer: its process or its node is gone, or hangs; ``"draining"``: it was told to end;
            ``"failed"``: it cannot serve, for what `failure` says, and tries again.
        workers: Worker processes that run.
        envs: Environments it holds.
        failure: Why it has failed; else empty.
    """

    node: str
    address: str
    state: str
    workers: int
    envs: int
    failure: str


class Keeper:
    """See above. Its methods are called by any process, and by several at once."""

    def __init__(self, plan: Plan, authority: Authority, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to know nothing but this."""
        self._plan, self._authority, self._clock = plan, authority, clock
        self._client = authority.client("remote-gym farm").client_credentials(servers=authority)
        self._lock = threading.Lock()  # of all that follows
        self._reports: dict[Slot, tuple[float, Told]] = {}
        self._retired: set[Slot] = set()
        self._hung: set[Slot] = set()  # and was told of as such
        self._grants: dict[str, tuple[float, Slot]] = {}

    def plan(self) -> Plan:
        """Return what was planned."""
        return self._plan

    def admit(self) -> tuple[Plan, tuple[bytes, ...]]:
        """Return what a server needs: the plan, and a certificate of its own with what is to be shown to it."""
        leaf = self._authority.server([TLS_NAME])
        return self._plan, leaf.server_credentials(clients=self._authority)

    def client_credentials(self) -> tuple[bytes, ...]:
        """Return what clients take as `client_credentials_paths`, the same for all of them."""
        return self._client

    # What servers say

    def report(self, slot: Slot, told: Told) -> None:
        """Take note of what a server says of itself now."""
        with self._lock:
            self._reports[slot] = self._clock(), told
            self._hung.discard(slot)

    def hanging(self) -> list[Slot]:
        """Return the servers that have stopped to report, each once."""
        with self._lock:
            since = self._clock() - HANGS_SECONDS
            hanging = [slot for slot, (at, _) in self._reports.items() if at < since and slot not in self._hung]
            self._hung.update(hanging)
            return [slot for slot in hanging if slot not in self._retired]

    def retire(self, slots: list[Slot]) -> None:
        """Send nobody to these any more: they are about to end."""
        with self._lock:
            self._retired.update(slots)

    def forget(self, slots: list[Slot]) -> None:
        """Know nothing of these any more: they have ended, and others may come in their place."""
        with self._lock:
            for slot in slots:
                self._reports.pop(slot, None)
            self._hung.difference_update(slots)
            self._retired.difference_update(slots)

    # What clients ask

    def addresses(self) -> list[str]:
        """Return where the servers are that run."""
        with self._lock:
            return [told.address for told in self._running().values()]

    def addresses_for(self, who: str, node: str) -> list[str]:
        """Return the same, but the server first that is `who`'s own, on whose node a process called `who` is.

        The same one as before, while it runs; else the one with the fewest sessions, on `node` if several have so few.
        """
        with self._lock:
            if not (running := self._running()):
                return []
            _, own = self._grants.get(who, (0.0, None))
            if own is None or own not in running:
                loads = {slot: told.sessions + self._granted(slot) for slot, told in running.items()}
                own = min(running, key=lambda slot: (loads[slot], running[slot].node != node, slot))
                self._grants[who] = self._clock(), own
            return [running.pop(own).address, *(told.address for told in running.values())]

    def _granted(self, slot: Slot) -> int:
        since = self._clock() - GRANT_SECONDS
        return sum(to == slot and at >= since for at, to in self._grants.values())

    def _running(self) -> dict[Slot, Told]:
        since = self._clock() - SILENT_SECONDS
        running = {slot: told for slot, (at, told) in self._reports.items() if at >= since and told.address}
        return {slot: running[slot] for slot in sorted(running.keys() - self._retired)}

    def status(self, slots: list[Slot]) -> list[ServerStatus]:
        """Return what is known of these servers."""
        with self._lock:
            return [self._status(slot) for slot in slots]

    def _status(self, slot: Slot) -> ServerStatus:
        at, told = self._reports.get(slot, (self._clock(), Told("")))
        state = RUNNING if told.address else FAILED if told.failure else STARTING
        if slot in self._retired:
            state = DRAINING
        elif self._clock() - at > SILENT_SECONDS:
            state = SILENT
        return ServerStatus(told.node, told.address, state, told.workers, told.envs, told.failure)
