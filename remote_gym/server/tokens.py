"""Server process, and the command that writes the file: tokens, and the file that lists who has one.

A token is a name's proof for who has no certificate: 32 random bytes as text. The file holds a SHA-256 of each, never
the token itself: whoever reads it cannot connect. That needs no salt and no slow hash, as passwords do: nobody can go
through 2^256 tokens, however quick the hash is. One line for each token::

    alice  sha256:9f86d081...  2027-02-24T16:00:00Z
    robot  sha256:60303ae2...  never

A name may have several, so that a new one can be handed out before the old one goes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from remote_gym.server.principals import unfit
from remote_gym.server.watched_files import WatchedFile, lines

TOKEN_BYTES = 32
PREFIX = "rgym_"
"""By which people, and programs that look for secrets in the wrong place, know a token."""

NEVER = "never"
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Token:
    """One line of the file.

    Attributes:
        name: Whose it is.
        digest: SHA-256 of its text.
        expires: Seconds since 1970 (UTC) at which it ends; None: never.
    """

    name: str
    digest: bytes
    expires: float | None

    def __str__(self) -> str:
        """Return the line."""
        return f"{self.name}  sha256:{self.digest.hex()}  {time_text(self.expires)}"

    def has_expired(self) -> bool:
        """Whether it has, by this machine's clock."""
        return self.expires is not None and time.time() >= self.expires


def new_token() -> str:
    """Return a token nobody has."""
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def digest_of(token: str) -> bytes:
    """Return what the file holds of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def time_text(expires: float | None) -> str:
    """Return when a token ends, as the file has it."""
    return NEVER if expires is None else datetime.fromtimestamp(expires, timezone.utc).strftime(_TIME)


def check_name(name: str) -> None:
    """Check who a token may be for.

    Raises:
        ValueError: Not for this one; says why.
    """
    if (wrong := unfit(name)) is not None:
        raise ValueError(wrong)
    if "#" in name or any(map(str.isspace, name)):
        raise ValueError("the name of a token has no space and no #")


def read_line(line: str) -> Token:
    """Return what a line says.

    Raises:
        ValueError: It is none; says why, without the hash.
    """
    fields = line.split()
    if len(fields) != 3:
        raise ValueError(f"{len(fields)} fields, not three: name, sha256:HASH, and when it expires or {NEVER}")
    name, hashed, until = fields
    check_name(name)
    if (found := _HASH.fullmatch(hashed.lower())) is None:
        raise ValueError("the second field is not sha256: and 64 hexadecimal digits")
    if until == NEVER:
        return Token(name, bytes.fromhex(found[1]), None)
    try:
        expires = datetime.strptime(until, _TIME).replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        raise ValueError(
            f"it expires at {until[:40]!r}, which is neither {NEVER} nor like 2027-02-24T16:00:00Z"
        ) from None
    return Token(name, bytes.fromhex(found[1]), expires)


def read_tokens(text: str) -> tuple[list[Token], list[str]]:
    """Return the tokens that a file lists, and what is wrong with the lines that are none."""
    tokens: list[Token] = []
    wrong: list[str] = []
    known: dict[bytes, int] = {}
    for number, line in lines(text):
        try:
            token = read_line(line)
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
            continue
        if (first := known.setdefault(token.digest, number)) != number:
            wrong.append(f"line {number}: the same token as in line {first}")
            continue
        tokens.append(token)
    return tokens, wrong


class Tokens:
    """The tokens that hold, as the file has them now."""

    def __init__(self, argument: str, path: str | os.PathLike[str]) -> None:
        """Read the file at `path`.

        Raises:
            MisuseError: See `WatchedFile`.
        """
        self._tokens: list[Token] = []
        self._file = WatchedFile(argument, path, self._take, self._forget)
        self.refresh: Callable[[], None] = self._file.refresh

    def _take(self, text: str) -> list[str]:
        self._tokens, wrong = read_tokens(text)
        return wrong

    def _forget(self) -> None:
        self._tokens = []

    def find(self, digest: bytes) -> Token | None:
        """Return the token with that digest, expired or not; compared with all, so that time tells nothing."""
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found
