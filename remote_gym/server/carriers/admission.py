"""Server process, no I/O: how many connections a server has, and which must go where there would be too many.

Who connects is *silent* until it has gone far enough to be somebody: said what it wants, and answered what it was
told. From then on it is *idle*, but while it has a session, or opens one. Silent and idle ones are bounded for each
peer and give way, the silent and the oldest first, to whoever comes later: a client of ours has a session after some
round trips, so a flood must be quicker than these to keep it out. Others are never made to go, and for peers that have
had a session some room is kept: they come back when their connection breaks, whoever else is there.
"""

from __future__ import annotations

import ipaddress
import os
from collections import OrderedDict
from collections.abc import Callable

SILENT_PER_PEER = 256
"""Connections of one address without a session: as many clients behind one NAT may be in their handshakes at once."""

SILENT_IN_ALL = 1_024
"""Of all peers together; who has not said what it wants is looked at now and then, which takes time."""

KEPT_SHARE = 8
"""One part in so many of all descriptors is for peers that have had a session."""

MAX_KNOWN = 4_096
"""Peers that have had a session; of more those are forgotten that had theirs first."""

UNIX_PEER = "unix:"


class Visitor:
    """One connection, of either carrier. `spoke` and `leave` may be repeated; after `leave` nothing has an effect.

    Attributes:
        peer: Who is at the other end, as gRPC writes it: ``ipv4:127.0.0.1:50001``, ``ipv6:[::1]:50001``, ``unix:``.
        close: Ends the connection when it must go: set by whoever has it.
        key: Connections with the same key are of one peer.
        descriptors: What it takes of the process's.
        has_left: Whether it is gone.
        uid: Which user of this machine it is, who has come to a Unix socket; None: another one.
        has_spoken: Whether it is silent no longer.
        sessions: How many it has, or opens.
    """

    def __init__(self, admission: Admission, peer: str, close: Callable[[], object]) -> None:
        """Come; `Admission.admit` lets in."""
        self.peer = peer
        self.close = close
        self.key = peer_key(peer)
        self.descriptors = 0
        self.has_left = False
        self.uid: int | None = None
        self.has_spoken = False
        self.sessions = 0
        self._admission = admission

    def widen(self, descriptors: int) -> bool:
        """Take so many descriptors more; returns whether there is room, made if need be."""
        return self._admission._widen(self, descriptors)

    def spoke(self) -> None:
        """Be silent no longer: silent ones go first from now on."""
        self._admission._spoke(self)

    def begin_session(self) -> None:
        """Have a session more, or open one: not made to go until the last has ended."""
        self._admission._began(self)

    def got_session(self) -> None:
        """Have got the session: room is kept for its peer."""
        self._admission._remember(self)

    def end_session(self) -> None:
        """Have a session less."""
        self._admission._ended(self)

    def leave(self) -> None:
        """Be gone: its descriptors are closed."""
        self._admission._left(self)


class Admission:
    """All connections of one server.

    Attributes:
        descriptors: What they take of the process's.
    """

    def __init__(self, limit: int | None, silent_per_peer: int = SILENT_PER_PEER) -> None:
        """Let in as many as take `limit` descriptors; None: as many as come."""
        self.descriptors = 0
        self._limit = limit
        self._per_peer = silent_per_peer
        # Dicts for their order, the oldest first. Who has a session is in none of them.
        self._silent: dict[Visitor, None] = {}
        self._idle: dict[Visitor, None] = {}
        self._of_peer: dict[bytes, dict[Visitor, None]] = {}
        self._known: OrderedDict[bytes, None] = OrderedDict()

    @property
    def silent(self) -> int:
        """How many are silent."""
        return len(self._silent)

    @property
    def idle(self) -> int:
        """How many have spoken and have no session."""
        return len(self._idle)

    def admit(self, visitor: Visitor) -> bool:
        """Let `visitor` in, silent, with one descriptor; returns whether there is room, made if need be."""
        of_peer = self._of_peer.get(visitor.key, {})
        if len(of_peer) >= self._per_peer:
            self._send_away(next((one for one in of_peer if not one.has_spoken), next(iter(of_peer))))
        elif len(self._silent) + len(self._idle) >= SILENT_IN_ALL:
            self.make_room()
        if not self._widen(visitor, 1):
            return False
        self._wait(visitor)
        return True

    def make_room(self, but: Visitor | None = None) -> bool:
        """Send the oldest silent one away, else the oldest idle one, `but` excepted; returns whether there was one."""
        for visitors in (self._silent, self._idle):
            for visitor in visitors:
                if visitor is not but:
                    self._send_away(visitor)
                    return True
        return False

    def _widen(self, visitor: Visitor, descriptors: int) -> bool:
        if visitor.has_left:
            return False
        limit = self._limit_for(visitor)
        while limit is not None and self.descriptors + descriptors > limit:
            if not self.make_room(but=visitor):
                return False
        visitor.descriptors += descriptors
        self.descriptors += descriptors
        return True

    def _limit_for(self, visitor: Visitor) -> int | None:
        if self._limit is None or visitor.uid == os.geteuid() or visitor.key in self._known:
            return self._limit
        return self._limit - self._limit // KEPT_SHARE

    def _send_away(self, visitor: Visitor) -> None:
        visitor.leave()  # whatever closing does: it is counted no more
        visitor.close()

    def _wait(self, visitor: Visitor) -> None:
        """Be among those without a session, as the newest."""
        (self._idle if visitor.has_spoken else self._silent)[visitor] = None
        self._of_peer.setdefault(visitor.key, {})[visitor] = None

    def _wait_no_more(self, visitor: Visitor) -> None:
        self._silent.pop(visitor, None)
        self._idle.pop(visitor, None)
        of_peer = self._of_peer.get(visitor.key, {})
        of_peer.pop(visitor, None)
        if not of_peer:
            self._of_peer.pop(visitor.key, None)

    def _spoke(self, visitor: Visitor) -> None:
        if visitor.has_spoken:
            return
        visitor.has_spoken = True
        if visitor in self._silent:
            del self._silent[visitor]
            self._idle[visitor] = None

    def _began(self, visitor: Visitor) -> None:
        visitor.has_spoken = True
        visitor.sessions += 1
        self._wait_no_more(visitor)

    def _ended(self, visitor: Visitor) -> None:
        visitor.sessions -= 1
        if not visitor.sessions and not visitor.has_left:
            self._wait(visitor)

    def _remember(self, visitor: Visitor) -> None:
        self._known[visitor.key] = None
        self._known.move_to_end(visitor.key)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def _left(self, visitor: Visitor) -> None:
        self._wait_no_more(visitor)
        self.descriptors -= visitor.descriptors
        visitor.descriptors, visitor.has_left = 0, True


def peer_name(address: object) -> str:
    """Return an address, as `socket.accept` gives it, as gRPC writes a peer; IPv4 as such, also if IPv6 brought it."""
    if not isinstance(address, tuple):
        return UNIX_PEER
    host, port = address[:2]
    if ":" not in host:
        return f"ipv4:{host}:{port}"
    mapped = ipaddress.IPv6Address(host.partition("%")[0]).ipv4_mapped
    return f"ipv6:[{host}]:{port}" if mapped is None else f"ipv4:{mapped}:{port}"


def peer_key(peer: str) -> bytes:
    """Return what connections of one peer have in common: its address, of IPv6 the 64 bits that one network has."""
    host = peer.rpartition(":")[0]
    if not host.startswith("ipv6:["):
        return host.encode()
    return ipaddress.IPv6Address(host[len("ipv6:[") : -1].partition("%")[0]).packed[:8]
