"""No I/O: whether the environment has a proxy for a host, which gRPC goes through and the direct carrier cannot."""

from __future__ import annotations

import ipaddress
import os

from remote_gym.addresses import is_loopback
from remote_gym.client.diagnosis.certificate_names import ip_of


def proxy_for(host: str) -> str | None:
    """Return the variable that names gRPC's proxy for `host`; None if it goes there itself.

    As gRPC: the first of ``grpc_proxy``, ``https_proxy`` and ``http_proxy`` counts, unless ``no_grpc_proxy``, or else
    ``no_proxy``, lists the host, a domain that it is in, or a network. We never ask it to for loopback.
    """
    if is_loopback(host):
        return None
    name = _first("grpc_proxy", "https_proxy", "http_proxy")
    exceptions = os.environ.get(_first("no_grpc_proxy", "no_proxy") or "", "")
    return None if any(_covers(entry.strip(), host) for entry in exceptions.split(",")) else name


def _first(*names: str) -> str | None:
    """Return the first of these variables that says something."""
    return next((name for name in names if os.environ.get(name)), None)


def _covers(entry: str, host: str) -> bool:
    if not entry:
        return False
    ip = ip_of(host)
    if ip is not None and "/" in entry:
        try:
            return ip in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    return host.rstrip(".").lower().endswith(entry.lower())
