"""Server process: who a client is, as everything that gives, limits and tells by name sees it. No I/O.

A principal is a name, and who may use the name is the owner's choice: the CA signs it, the file of tokens lists it, or
this machine's system knows it. One name is one person, whichever of the three has told it; what names users of this
machine, and nobody, none of the others can give.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_NAME_CHARACTERS = 256
"""Of a principal: those in certificates have 64 (RFC 5280, A.1), URIs more."""

_OF_A_USER = "uid:"


@dataclass(frozen=True)
class Principal:
    """Who a client is: a name. Two connections that may use the same name are the same person.

    Attributes:
        name: Of a certificate, a token or a user of this machine; ``anonymous`` without any.
        token: SHA-256 of the token that has proved it, None without one; which one it was does not tell people apart.
        fingerprint: SHA-256 of the certificate that was shown, None without one; likewise.
        is_owner: Whether it came as the server's own user over its Unix socket; likewise.
    """

    name: str
    token: bytes | None = field(default=None, compare=False, repr=False)
    fingerprint: bytes | None = field(default=None, compare=False, repr=False)
    is_owner: bool = field(default=False, compare=False, repr=False)


ANONYMOUS = Principal("anonymous")
"""Whoever has shown nothing that has a name: all of them are one principal."""


def of_user(uid: int) -> Principal:
    """Return the user of this machine with that number: names of users may be others tomorrow, or on another day."""
    return Principal(f"{_OF_A_USER}{uid}")


def unfit(name: str) -> str | None:
    """Return what keeps a certificate, or a token, from giving `name`; None: nothing."""
    if name == ANONYMOUS.name or name.startswith(_OF_A_USER):
        return f"{ANONYMOUS.name} and {_OF_A_USER}... name who has shown no certificate and no token"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"a name has at most {MAX_NAME_CHARACTERS} characters"
    if not name.isprintable() or name != name.strip() or not name:
        return "a name is text that can be printed, with no space around it"
    return None


def unfit_operator(name: object) -> str | None:
    """Return what keeps `name` from being that of an operator; None: nothing. Users of this machine may be."""
    if not isinstance(name, str):
        return "a name is text"
    known = name == ANONYMOUS.name or (name.startswith(_OF_A_USER) and name.removeprefix(_OF_A_USER).isdecimal())
    return None if known else unfit(name)
