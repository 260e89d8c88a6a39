"""Server process: the admin socket: the server's owner lists sessions, ends them, and the server. For nobody else.

A unix-domain socket of mode 0600, whose peers must be the server's own user, or root (`SO_PEERCRED`; without that, as
on macOS, the file's mode decides). One line of JSON comes, one goes back, and the connection ends:

    {"do": "list"}                           {"server": {...}, "sessions": [{...}, ...]}
    {"do": "end", "sessions": ["1a2b", ...]} {"ended": [{...}, ...]}
    {"do": "drain"}                          {"draining": true}
    anything else                            {"error": "..."}

It is not gRPC: a gRPC server offers all its services on all its ports, so this would take a second one, and the command
that asks would take a second to load it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import SystemRandom
from typing import Any, TypeVar

from remote_gym.server import admin_places
from remote_gym.server.admin_places import AUTO
from remote_gym.server.json_lines import json_line
from remote_gym.server.session import Session
from remote_gym.server.sessions import Sessions
from remote_gym.server.socket_files import SocketFile
from remote_gym.server.sockets import listen_unix, peer_uid
from remote_gym.texts import printable
from remote_gym.version import __version__

logger = logging.getLogger("remote_gym.server")

MAX_REQUEST_BYTES = 65_536
"""Of a request: the ids of some 1,800 sessions."""

TIMEOUT_SECONDS = 10.0
"""How long a request, and taking the answer, may take."""

MAX_CONNECTIONS = 16
"""At once; more are ended."""

MIN_ID = 4
"""Hexadecimal digits of a session's id that may stand for all of it, if no other begins so."""

REASON = "ended by the server's owner"

TRIES = 4
"""How often a socket is made, where others may remove the folder meanwhile."""

WAIT_SECONDS = 0.01
"""How often it is looked whether an answer was taken."""

STALE_SECONDS = 60.0
"""How old a socket is that may be a dead server's: on a younger one nobody may listen yet."""

SWEPT = 8
"""How many sockets of the folder are looked at, at a server's start, whether a killed server left them."""

DRAIN_SECONDS = 0.2
"""Before a server that was told to drains: the answer goes first."""

AT_ONCE = 10
"""Sessions that are listed, or ended, while steps wait: a tenth of a millisecond each."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class AdminError(Exception):
    """A request cannot be answered; says why."""


class Admin:
    """The admin sockets of one server. All methods are called on its event loop.

    Closing contract: `close` removes the files, and may be called twice.

    Attributes:
        paths: Where it listens.
        addresses: Where the server does.
    """

    def __init__(self, sessions: Sessions, addresses: Sequence[str], drain: Callable[[], object]) -> None:
        """Answer for `sessions` of the server that listens on `addresses`; `open` opens the sockets.

        `drain` has the server stop as it does at a signal; it returns at once.
        """
        self.paths: list[str] = []
        self._sessions = sessions
        self._drain = drain
        self.addresses = list(addresses)
        self._files: list[SocketFile] = []
        self._servers: list[asyncio.Server] = []
        self._connections = 0

    async def open(self, wanted: str | None, listening: Sequence[tuple[str, int]]) -> None:
        """Listen at `wanted`; `AUTO`: in the usual places of a server that listens on `listening`; None: nowhere.

        Raises:
            OSError: Nothing can listen at `wanted`. Where a usual place is of no use, that is logged.
        """
        if wanted is None:
            return
        if wanted != AUTO:
            await self._listen(wanted)
            return
        for host, port in listening:
            try:
                await self._listen_in_place(host, port)
            except OSError as error:
                logger.warning(
                    "no admin socket (%s): `remote-gym sessions` does not find this server; name a place, "
                    "admin_socket=..., or do without, admin_socket=None", error,
                )  # fmt: skip

    async def _listen_in_place(self, host: str, port: int) -> None:
        for tries_left in reversed(range(TRIES)):
            try:
                path = admin_places.place(host, port)
                await self._listen(path)
            except OSError:  # maybe because the last server that had its socket there has removed the folder
                if not tries_left:
                    raise
            else:
                if admin_places.is_shared(path):
                    sweep(os.path.dirname(path))
                return

    async def _listen(self, path: str) -> None:
        sockets: list[socket.socket] = []
        file = SocketFile(path, lambda: sockets.append(listen_unix(path)))
        self._files.append(file)
        self._servers.append(await asyncio.start_unix_server(self._serve, sock=sockets[0], limit=MAX_REQUEST_BYTES))
        self.paths.append(path)

    def close(self) -> None:
        """Listen no more."""
        for server in self._servers:
            server.close()
        for file in self._files:
            file.remove()
        for path in self.paths:
            if admin_places.is_shared(path):
                with contextlib.suppress(OSError):  # others are there
                    os.rmdir(os.path.dirname(path))
        self._servers, self._files = [], []

    # One connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS:
                await asyncio.wait_for(self._answer(reader, writer), TIMEOUT_SECONDS)
        except (OSError, asyncio.TimeoutError) as error:
            logger.debug("a peer of the admin socket has gone, or is silent: %r", error)
        except Exception:
            logger.exception("the admin socket failed")
        finally:
            self._connections -= 1
            writer.transport.abort()  # the answer was taken, or will not be

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = peer_uid(writer.get_extra_info("socket"))
        try:
            if uid not in (None, 0, os.geteuid()):
                self._sessions.events.admin(uid, "refused")
                raise AdminError("the server belongs to another user")
            reply = await self._replied(_request(await reader.readline()), uid)
        except ValueError:  # of a line without an end
            reply = json_line({"error": f"a request has {MAX_REQUEST_BYTES:,} bytes at most"})
        except AdminError as error:
            reply = json_line({"error": str(error)})
        writer.write(reply.encode() + b"\n")
        await writer.drain()
        while writer.transport.get_write_buffer_size():
            await asyncio.sleep(WAIT_SECONDS)

    async def _replied(self, request: dict[str, Any], uid: int | None) -> str:
        """Return the answer's line. Where sessions are many, others have their turns in between."""
        wanted = request.get("do")
        if wanted == "list":
            listed = await in_turns([*self._sessions.by_id.values(), *self._sessions.opening], _line)
            return f'{{"server": {json_line(self._about())}, "sessions": [{", ".join(listed)}]}}'
        if wanted == "drain":
            self._sessions.events.admin(uid, "drain")
            asyncio.get_running_loop().call_later(DRAIN_SECONDS, self._drain)
            return json_line({"draining": True})
        if wanted != "end":
            raise AdminError(f"the server knows no '{printable(str(wanted))}'")
        given = request.get("sessions")
        if not isinstance(given, list) or not given or not all(isinstance(one, str) for one in given):
            raise AdminError("end takes the ids of sessions")
        ended = await in_turns(await self._found(given), partial(self._end, uid))
        return f'{{"ended": [{", ".join(ended)}]}}'

    def _about(self) -> dict[str, Any]:
        sessions = self._sessions
        return {
            "addresses": self.addresses, "process": os.getpid(), "version": __version__, "draining": sessions.draining,
        }  # fmt: skip

    def _end(self, uid: int | None, session: Session) -> str:
        """End a session, unless it has ended meanwhile; return what it was."""
        line = _line(session)
        if session.reason is None:
            self._sessions.events.admin(uid, "end", session=session.id.hex(), principal=session.principal.name)
            session.revoke(REASON, "ENDED")
        return line

    async def _found(self, ids: Sequence[str]) -> list[Session]:
        """Return the sessions that `ids` mean, each once.

        Raises:
            AdminError: One of them means none, or several.
        """
        sessions = [*self._sessions.by_id.values(), *self._sessions.opening]
        by_hex = {one.id.hex(): one for one in sessions}
        return list(dict.fromkeys(await in_turns(ids, partial(_meant, by_hex))))


async def in_turns(items: Sequence[Item], each: Callable[[Item], Result]) -> list[Result]:
    """Return what `each` makes of `items`, and let the event loop do other things now and then."""
    results = []
    for number, item in enumerate(items):
        if number % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)
        results.append(each(item))
    return results


def _meant(by_hex: Mapping[str, Session], given: str) -> Session:
    begin = given.lower()
    if (exact := by_hex.get(begin)) is not None:
        return exact
    if len(begin) < MIN_ID:
        raise AdminError(f"'{printable(given)}' is too short for an id: {MIN_ID} digits at least")
    found = [one for whole, one in by_hex.items() if whole.startswith(begin)]
    if not found:
        raise AdminError(f"there is no session '{printable(given)}'")
    if len(found) > 1:
        raise AdminError(f"{len(found)} sessions have ids that begin with '{printable(given)}'")
    return found[0]


def _line(session: Session) -> str:
    return json.dumps(about(session))


def about(session: Session) -> dict[str, Any]:
    """Return what an owner wants to know of a session."""
    kept = session.kept_seconds
    return {
        "id": session.id.hex(),
        "principal": printable(session.principal.name),
        "peer": printable(session.peer),
        "envs": session.num_envs,
        "state": session.ledger.state.value,
        "kept_seconds": None if kept is None else round(kept, 3),
        "age_seconds": round(time.monotonic() - session.began, 3),
        "requests": session.requests,
        "running": session.running,
    }


def _request(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise AdminError("a request is one line of JSON") from None
    if not isinstance(request, dict):
        raise AdminError("a request is one line of JSON, an object")
    return request


def sweep(folder: str) -> None:
    """Remove what killed servers have left in `folder`, which is this user's alone; a few at a time."""
    with contextlib.suppress(OSError):
        names = os.listdir(folder)
        for name in SystemRandom().sample(names, min(SWEPT, len(names))):
            remove_if_stale(os.path.join(folder, name))


def remove_if_stale(path: str) -> None:
    """Remove the socket at `path` if nobody listens there."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        about_it = os.lstat(path)
        if not stat.S_ISSOCK(about_it.st_mode) or time.time() - about_it.st_mtime < STALE_SECONDS:
            return
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
