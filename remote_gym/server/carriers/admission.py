"""Server process, no I/O: how many connections a server has, and which must go where there would be too many.

Who connects is *silent* until it has gone far enough to be somebody: said what it wants, and answered what it was
told. Silent ones are bounded for each peer and give way, the oldest first, to whoever comes later: a client of ours is
silent for some round trips, so a flood must be quicker than these to keep it out. Others are never made to go.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

SILENT_PER_PEER = 256
"""Silent connections of one address: as many clients behind one NAT may be in their handshakes at once."""

SILENT_IN_ALL = 1_024
"""Of all peers together; who has not said what it wants is looked at now and then, which takes time."""

UNIX_PEER = "unix:"


class Visitor:
    """One connection, of either carrier. All calls may be repeated; after `leave` none has an effect.

    Attributes:
        peer: Who is at the other end, as gRPC writes it: ``ipv4:127.0.0.1:50001``, ``ipv6:[::1]:50001``, ``unix:``.
        close: Ends the connection when it must go: set by whoever has it.
        key: Connections with the same key are of one peer.
        descriptors: What it takes of the process's.
        has_left: Whether it is gone.
        is_owner: Whether it is the server's owner, over its own unix-domain socket.
    """

    def __init__(self, admission: Admission, peer: str, close: Callable[[], object], is_owner: bool = False) -> None:
        """Come; `Admission.admit` lets in."""
        self.is_owner = is_owner
        self.peer = peer
        self.close = close
        self.key = peer_key(peer)
        self.descriptors = 0
        self.has_left = False
        self._admission = admission

    def widen(self, descriptors: int) -> bool:
        """Take so many descriptors more; returns whether there is room, made if need be."""
        return self._admission._widen(self, descriptors)

    def spoke(self) -> None:
        """Be silent no longer: not made to go from now on."""
        self._admission._spoke(self)

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
        self._silent_per_peer = silent_per_peer
        # Dicts for their order, the oldest first.
        self._silent: dict[Visitor, None] = {}
        self._silent_of: dict[bytes, dict[Visitor, None]] = {}

    @property
    def silent(self) -> int:
        """How many are silent."""
        return len(self._silent)

    def admit(self, visitor: Visitor) -> bool:
        """Let `visitor` in, silent, with one descriptor; returns whether there is room, made if need be."""
        of_peer = self._silent_of.get(visitor.key, {})
        if len(of_peer) >= self._silent_per_peer:
            self._send_away(next(iter(of_peer)))
        elif len(self._silent) >= SILENT_IN_ALL:
            self.make_room()
        if not self._widen(visitor, 1):
            return False
        self._silent[visitor] = None
        self._silent_of.setdefault(visitor.key, {})[visitor] = None
        return True

    def make_room(self, but: Visitor | None = None) -> bool:
        """Send the oldest silent one away, `but` excepted; returns whether there was one."""
        for visitor in self._silent:
            if visitor is not but:
                self._send_away(visitor)
                return True
        return False

    def _widen(self, visitor: Visitor, descriptors: int) -> bool:
        if visitor.has_left:
            return False
        while self._limit is not None and self.descriptors + descriptors > self._limit:
            if not self.make_room(but=visitor):
                return False
        visitor.descriptors += descriptors
        self.descriptors += descriptors
        return True

    def _send_away(self, visitor: Visitor) -> None:
        visitor.leave()  # whatever closing does: it is counted no more
        visitor.close()

    def _spoke(self, visitor: Visitor) -> None:
        if visitor in self._silent:
            del self._silent[visitor]
            of_peer = self._silent_of[visitor.key]
            del of_peer[visitor]
            if not of_peer:
                del self._silent_of[visitor.key]

    def _left(self, visitor: Visitor) -> None:
        self._spoke(visitor)
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
