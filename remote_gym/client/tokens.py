"""Trainer process, no I/O: a client's token: where it is from, where it may go, and what a pickle says of it.

A token is as good as its owner, so it travels over TLS and Unix sockets alone, is part of no repr, and no pickle holds
it: that tells where this process keeps it in memory. Copies in this process, in processes forked from it and, on Linux,
in others of the same user on the same machine find it there, as long as this process lives; as with the paths of
certificates, what is elsewhere is not there. A copy anywhere else takes the token of its own ``REMOTE_GYM_TOKEN``.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from dataclasses import dataclass, field

from remote_gym.addresses import unix_path
from remote_gym.errors import MisuseError

VARIABLE = "REMOTE_GYM_TOKEN"

MAX_BYTES = 1_024
"""Of what is kept: a name, a line break, and a token."""

_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")


@dataclass(frozen=True)
class Handle:
    """What a pickle has instead of a token.

    Attributes:
        name: At random; tells the token from whatever may come to lie at `path` later.
        path: Where processes of the same user find name and token, on this machine; empty: nowhere.
    """

    name: str = field(repr=False)
    path: str = ""

    def token(self) -> str | None:
        """Return the token; None: it is not to be had here."""
        if (token := _handed.get(self.name)) is not None:
            return token
        try:
            with open(self.path, encoding="ascii") as file:
                name, _, token = file.read(MAX_BYTES).partition("\n")
        except (OSError, ValueError):
            return None
        return token if name == self.name else None


_handed: dict[str, str] = {}
"""Tokens of pickles that this process has made, or a process that it was forked from, by the names of their handles."""

_handles: dict[tuple[int, str], Handle] = {}
"""By process and token: one for each, however often it is pickled."""


def handle_for(token: str | None) -> Handle | None:
    """Return what stands for `token` in a pickle; None: there is no token."""
    if not token:
        return None
    here = os.getpid(), token
    if here not in _handles:
        name = secrets.token_hex(16)
        _handed[name] = token
        _handles[here] = Handle(name, _kept(f"{name}\n{token}"))
    return _handles[here]


def _kept(text: str) -> str:
    """Keep `text` in memory for as long as this process lives; return the path by which its user's others read it."""
    if sys.platform != "linux":
        return ""
    try:
        descriptor = os.memfd_create("remote_gym token")  # closed by `exec`, and on no disk
        os.write(descriptor, text.encode("ascii"))
    except OSError:
        return ""
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def checked(token: object, where: str = "token") -> str | None:
    """Return a token as it was made, without the line break of a file that it was read from; None: there is none.

    Raises:
        MisuseError: It is none; does not repeat it.
    """
    if isinstance(token, Handle):
        token = token.token()
    if token is None:
        return None
    text = token.strip() if isinstance(token, str) else ""
    if not _TOKEN.fullmatch(text):
        raise MisuseError(f"{where} is not what `remote-gym tokens add` prints: visible ASCII characters, at most 512")
    return text


def token_for(token: str | None, host: str, encrypted: bool, allow_insecure: bool) -> str:
    """Return the token to show to a server on `host`; empty: none.

    Args:
        token: The argument; None: what ``REMOTE_GYM_TOKEN`` says. That one stays here where it would travel in
            plaintext: it may well be meant for another server.
        host: Of the server.
        encrypted: Whether what is sent there is.
        allow_insecure: Whether plaintext was allowed.

    Raises:
        MisuseError: `token` would travel in plaintext.
    """
    is_private = encrypted or unix_path(host) is not None
    if token is None:
        default = checked(os.environ.get(VARIABLE) or None, VARIABLE)
        return default if default and (is_private or allow_insecure) else ""
    if not is_private and not allow_insecure:
        raise MisuseError(
            f"refusing to send a token to {host} without TLS: others on the way, or on this machine, could use it. "
            f"Pass client_credentials_paths=(ca.pem[, client.pem, client-key.pem]), connect by a Unix socket, or spell "
            f"out allow_insecure=True"
        )
    return token
