"""Server process: who a client is, as everything that gives, limits and tells by name sees it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Principal:
    """Who a client is: a name. Two connections that may use the same name are the same person.

    Attributes:
        name: Of a certificate, a token or a user of this machine; ``anonymous`` without any.
    """

    name: str


ANONYMOUS = Principal("anonymous")
"""Whoever has shown nothing that has a name: all of them are one principal."""
