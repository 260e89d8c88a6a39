"""The user's terminal: ``remote-gym sessions``. Whom a server of one's own serves, and an end for some of them.

It asks over the server's admin socket, on the server's machine, as the server's user: see `server.admin`.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any

from remote_gym.addresses import is_loopback, join_address, split_address
from remote_gym.cli.kinds import choice, path
from remote_gym.cli.quantities import span
from remote_gym.cli.terminal import UsageError, say
from remote_gym.cli.wording import ADDRESS, Word, argument
from remote_gym.errors import RemoteGymError
from remote_gym.server.admin_places import AUTO, candidates
from remote_gym.server.sockets import peer_uid
from remote_gym.texts import printable

DESCRIPTION = (
    "List the sessions of a server on this machine that the same user runs: who has them, from where, and since when. "
    "`end ID ...` ends some: their clients are told that the server's owner has done it, and do not come back. An ID "
    "may be cut to four digits or more, if no other session's begins so."
)

TIMEOUT_SECONDS = 15.0
"""How long the answer may take: longer than the server takes for it."""

MAX_REPLY_BYTES = 64 * 2**20
"""Of an answer; one session takes some 300."""

COLUMNS = ("SESSION", "PRINCIPAL", "PEER", "ENVS", "STATE", "AGE", "REQUESTS")
EVERYWHERE = ("0.0.0.0", "::")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.usage = "remote-gym sessions [-h] [FLAG ...] ADDRESS [end ID ...]"
    parser.add_argument("address", metavar="ADDRESS", help="the server: HOST:PORT (default port: 56765) or unix:PATH")
    action = choice("end")
    parser.add_argument(
        "action", nargs="?", type=action.argument, choices=action.choices, metavar="end", help="end sessions"
    )
    parser.add_argument("ids", nargs="*", default=[], metavar="ID", help="of a session that is to end")
    parser.add_argument("--json", action="store_true", help="print JSON: server and sessions, or what was ended")
    parser.add_argument(
        "--admin-socket", metavar="PATH", type=path().argument,
        help="as the server was told; without it: in the usual places",
    )  # fmt: skip


def words(_arguments: argparse.Namespace) -> list[Word]:
    """Return what this command calls the arguments of a client."""
    return [argument("url", ADDRESS)]


def run(arguments: argparse.Namespace) -> int:
    """List or end."""
    if (arguments.action is None) is not (not arguments.ids):
        raise UsageError("end takes the ID of a session, or several; `remote-gym sessions ADDRESS` lists them")
    host, port = split_address(arguments.address)
    paths = [arguments.admin_socket] if arguments.admin_socket not in (None, AUTO) else _places(host, port)
    if arguments.action is None:
        reply = ask(paths, {"do": "list"}, join_address(host, port))
        lines = _table(reply["sessions"])
    else:
        reply = ask(paths, {"do": "end", "sessions": arguments.ids}, join_address(host, port))
        lines = [_ended(one) for one in reply["ended"]]
    if arguments.json:
        print(json.dumps(reply, indent=2))
        return 0
    if "server" in reply:
        say(_summary(reply))
    for line in lines:
        print(line)
    return 0


def _places(host: str, port: int) -> list[str]:
    """Return where the admin socket may be.

    Raises:
        RemoteGymError: The server is on another machine.
    """
    if not is_loopback(host) and host not in EVERYWHERE and not _is_here(host):
        raise RemoteGymError(
            f"{host} is another machine, and sessions are managed on the server's own; there, as its user: "
            f"remote-gym sessions localhost:{port}"
        )
    return candidates(host, port)


def _is_here(host: str) -> bool:
    """Tell whether `host` is an address of this machine, or its name."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RemoteGymError(f"{host}: the name cannot be looked up: {reason}") from None
    for family, kind, _, _, address in found:
        try:
            with socket.socket(family, kind) as probe:
                probe.bind(address)
        except OSError:
            continue
        return True
    return False


def ask(paths: Sequence[str], request: dict[str, Any], address: str) -> dict[str, Any]:
    """Return what the server says to `request`.

    Args:
        paths: Where its admin socket may be; the first one that answers is asked.
        request: See `server.admin`.
        address: The server's, for errors.

    Raises:
        RemoteGymError: There is no such server, it does not answer, or it refuses; says why.
    """
    reasons = []
    for place in paths:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(TIMEOUT_SECONDS)
            try:
                asking.connect(place)
            except OSError as error:
                reasons.append(f"{place}: {_reason(error)}")
                continue
            if (uid := peer_uid(asking)) not in (None, 0, os.geteuid()) and os.geteuid() != 0:
                reasons.append(f"{place}: uid {uid} listens there")
                continue
            return _exchange(asking, request, place)
    found = "; ".join(reasons) or "there is none"
    raise RemoteGymError(
        f"no admin socket of a server on {address} answers ({found}): it must run on this machine, as the same user "
        f"(uid {os.geteuid()}); the log of a server says where its admin socket is, --admin-socket PATH names it"
    )


def _exchange(asking: socket.socket, request: dict[str, Any], place: str) -> dict[str, Any]:
    data = bytearray()
    try:
        asking.sendall(json.dumps(request).encode() + b"\n")
        while not data.endswith(b"\n") and len(data) < MAX_REPLY_BYTES and (piece := asking.recv(65_536)):
            data += piece
    except OSError as error:
        raise RemoteGymError(f"the server at {place} does not answer: {_reason(error)}") from None
    try:
        reply = json.loads(data)
    except ValueError:
        raise RemoteGymError(f"what listens at {place} is no admin socket, or has ended") from None
    if not isinstance(reply, dict) or "error" in reply:
        said = reply.get("error") if isinstance(reply, dict) else reply
        raise RemoteGymError(printable(str(said), 400))
    return reply


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"silent for {TIMEOUT_SECONDS:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there any more"
    return str(error.strerror or error)


def _summary(reply: dict[str, Any]) -> str:
    server, sessions = reply["server"], reply["sessions"]
    envs = sum(one["envs"] for one in sessions)
    counted = f"{_count(len(sessions), 'session')}, {_count(envs, 'environment')}"
    state = ", draining" if server["draining"] else ""
    addresses = " and ".join(printable(one) for one in server["addresses"])
    return f"remote-gym sessions: {addresses}, process {server['process']}{state}: {counted}"


def _table(sessions: Iterable[dict[str, Any]]) -> list[str]:
    """Return the lines of a table, the oldest session first; none without sessions."""
    rows = [_row(one) for one in sorted(sessions, key=lambda one: -one["age_seconds"])]
    if not rows:
        return []
    digits = _digits([row[0] for row in rows])
    rows = [(row[0][:digits], *row[1:]) for row in rows]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    right = {COLUMNS.index(name) for name in ("ENVS", "AGE", "REQUESTS")}
    return [
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (COLUMNS, *rows)
    ]


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    state = one["state"] if one["kept_seconds"] is None else f"gone, kept {span(one['kept_seconds'])}"
    return (
        one["id"], printable(one["principal"]), printable(one["peer"]), str(one["envs"]), state,
        span(one["age_seconds"]), str(one["requests"]),
    )  # fmt: skip


def _digits(ids: Sequence[str], least: int = 8) -> int:
    """Return how many digits tell all `ids` apart."""
    return next(count for count in range(least, 33) if len({one[:count] for one in ids}) == len(ids) or count == 32)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _ended(one: dict[str, Any]) -> str:
    return f"ended {one['id'][:8]}: {printable(one['principal'])}, {_count(one['envs'], 'environment')}"
