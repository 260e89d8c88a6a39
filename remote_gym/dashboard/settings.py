"""Dashboard process, no I/O: what it is told, by `remote-gym serve` as one line of JSON or by its own command."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

HOSTS = ("localhost", "127.0.0.1", "::1")
"""What a browser on this machine calls it, however it gets there: ``ssh -L`` included."""


@dataclass(frozen=True)
class Watched:
    """A server that is looked at.

    Attributes:
        address: ``host:port`` or ``unix:/path``.
        label: What the page calls it.
        admin_sockets: Where its owner's socket may be, for the page's buttons; none: there are no buttons.
        options: Further arguments of `watch`: credentials and the like.
    """

    address: str
    label: str
    admin_sockets: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Settings:
    """All that a dashboard is told.

    Attributes:
        servers: What it shows, in this order.
        token: Who knows it may look.
        hosts: What the page may be called in an address, without the port; any other name is another's, which leads
            here (DNS rebinding).
        admin: Whether who looks may end sessions and have servers drain, where these have an admin socket.
        period_seconds: Between two snapshots of a server.
    """

    servers: tuple[Watched, ...]
    token: str = field(repr=False)
    hosts: tuple[str, ...] = HOSTS
    admin: bool = False
    period_seconds: float = 1.0

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Settings:
        """Return what `to_json` has written."""
        said = json.loads(line)
        servers = tuple(Watched(**{**one, "admin_sockets": tuple(one["admin_sockets"])}) for one in said.pop("servers"))
        return cls(**{**said, "servers": servers, "hosts": tuple(said.get("hosts", HOSTS))})
