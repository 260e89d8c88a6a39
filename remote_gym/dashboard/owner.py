"""Dashboard process: what a page may change, for its server's owner: over the admin socket, see `server.admin`.

The socket takes this machine's user alone, and the page has it only where its owner has said so.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

from remote_gym.errors import RemoteGymError
from remote_gym.texts import printable

TIMEOUT_SECONDS = 15.0
"""How long the answer may take: longer than the server takes for it."""

MAX_REPLY_BYTES = 2**20


def end(paths: Sequence[str], session: str) -> None:
    """End a session.

    Args:
        paths: Where the server's admin socket may be.
        session: Its id, in hexadecimal digits.

    Raises:
        RemoteGymError: The server cannot be asked, or refuses; says why.
    """
    _ask(paths, {"do": "end", "sessions": [session]})


def drain(paths: Sequence[str]) -> None:
    """Have a server drain, and end.

    Raises:
        RemoteGymError: The server cannot be asked, or refuses; says why.
    """
    _ask(paths, {"do": "drain"})


def _ask(paths: Sequence[str], request: dict[str, Any]) -> dict[str, Any]:
    """Return what the first admin socket says that is there."""
    reasons = []
    for path in paths:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(TIMEOUT_SECONDS)
            try:
                if os.stat(path).st_uid not in (0, os.geteuid()):
                    raise OSError("it is another user's")
                asking.connect(path)
                asking.sendall(json.dumps(request).encode() + b"\n")
                return _reply(asking)
            except OSError as error:
                reasons.append(str(error.strerror or error))
    raise RemoteGymError(f"the server's admin socket does not answer: {'; '.join(reasons) or 'it has none'}")


def _reply(asking: socket.socket) -> dict[str, Any]:
    data = bytearray()
    while not data.endswith(b"\n") and len(data) < MAX_REPLY_BYTES and (piece := asking.recv(65_536)):
        data += piece
    try:
        reply = json.loads(data)
    except ValueError:
        raise RemoteGymError("what listens at the server's admin socket is none, or has ended") from None
    if not isinstance(reply, dict) or "error" in reply:
        raise RemoteGymError(printable(str(reply.get("error") if isinstance(reply, dict) else reply), 400))
    return reply
