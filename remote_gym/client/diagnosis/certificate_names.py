"""No I/O: the names in a certificate, and whether one of them covers the host that was dialled.

A certificate is here what `ssl.SSLSocket.getpeercert` returns.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any


def certificate_names(certificate: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return ("DNS" or "IP Address", name) pairs; the common name counts only if there is no other, as for gRPC."""
    alternatives = certificate.get("subjectAltName", ())
    subject = common_name(certificate.get("subject", ()))
    if not alternatives and subject:
        return [("DNS", subject)]
    names = [(kind, value.strip()) for kind, value in alternatives if kind in ("DNS", "IP Address")]
    return [(kind, str(ip_of(name) or name)) for kind, name in names]


def common_name(name: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Return the common name in a subject or issuer, "" if it has none."""
    return next((value for part in name for key, value in part if key == "commonName"), "")


def covers(host: str, kind: str, name: str) -> bool:
    """Tell whether a name of a certificate covers `host`: equal, or a wildcard for its first label (RFC 9525, 6.3)."""
    if ip_of(host) is not None or kind != "DNS":
        return kind == "IP Address" and ip_of(host) == ip_of(name)
    host, name = host.rstrip(".").lower(), name.rstrip(".").lower()
    if name.startswith("*."):
        return name.count(".") > 1 and host.partition(".")[2] == name[2:]
    return host == name


def ip_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP that `host` is, without its zone; None if it is a name."""
    try:
        return ipaddress.ip_address(without_zone(host))
    except ValueError:
        return None


def without_zone(host: str) -> str:
    """Return `host` without the zone of a link-local IPv6 address."""
    return host.partition("%")[0]
