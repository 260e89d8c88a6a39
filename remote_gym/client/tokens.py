"""Trainer process, no I/O: a client's token: where it is from, where it may go, and what a pickle says of it.

A token is as good as its owner, so it travels over TLS and Unix sockets alone, is part of no repr, and no pickle holds
it: that holds a random handle, by which copies in this process, and in processes forked from it, find the token in
memory. A copy elsewhere takes the token of its own ``REMOTE_GYM_TOKEN``.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass, field

from remote_gym.addresses import unix_path
from remote_gym.errors import MisuseError

VARIABLE = "REMOTE_GYM_TOKEN"

_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")

_handed: dict[str, str] = {}
"""Tokens of pickles that this process has made, or a process that it was forked from, by their handles."""


@dataclass(frozen=True)
class Handle:
    """What a pickle has instead of a token: of use only where the token is known anyway."""

    text: str = field(repr=False)

    def token(self) -> str | None:
        """Return the token; None: nobody knows it here."""
        return _handed.get(self.text)


def handle_for(token: str | None) -> Handle | None:
    """Return what stands for `token` in a pickle; None: there is no token."""
    if token is None:
        return None
    for text, known in _handed.items():
        if known == token:
            return Handle(text)
    handle = Handle(secrets.token_hex(16))
    _handed[handle.text] = token
    return handle


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
