"""Both sides, no I/O: what a user calls an address <-> host and port. No name is ever looked up here.

A unix-domain socket is the host ``unix:/absolute/path`` with port 0.
"""

from __future__ import annotations

import ipaddress
import operator
import os
import sys
from typing import Any
from urllib.parse import quote

from remote_gym.errors import MisuseError

DEFAULT_PORT = 56765
"""TCP port of server and client when neither `url` nor `port` names one."""

UNIX = "unix:"
"""What the address of a unix-domain socket begins with."""

MAX_UNIX_PATH_BYTES = 107 if sys.platform.startswith("linux") else 103
"""Longest path of a unix-domain socket: `sockaddr_un` holds 108 or 104 bytes with the NUL, and no system call more."""


def split_address(url: str, port: int | None = None) -> tuple[str, int]:
    """Split what a user calls an address into host and port.

    Args:
        url: ``"host"``, ``"host:port"``, ``"[::1]"``, ``"[::1]:port"``, a bare IPv6 address such as ``"::1"``, or
            ``"unix:/path"``; a relative path is the working directory's, now.
        port: The port, if `url` does not hold it; both may name the same one. 0 is allowed: a server takes a free one.

    Returns:
        The host, an IPv6 address without its brackets, and the port, which is `DEFAULT_PORT` if none is given; for a
        unix socket ``"unix:/absolute/path"`` and 0.

    Raises:
        MisuseError: `url` is empty, holds a scheme, a path or white space, or ends in a colon.
        MisuseError: A port is not an integer within 0..65535.
        MisuseError: `url` and `port` name different ports.
        MisuseError: The path of a unix socket is missing or too long, or a port is given with it.
    """
    if isinstance(url, str) and url.startswith(UNIX):
        return _unix_host(url, port), 0
    host, in_url = _split_url(url)
    url_port = None if in_url is None else _port_number(in_url, f"in url={url!r}")
    argument_port = None if port is None else _port_number(port, f"port={port!r}")
    if url_port is not None and argument_port is not None and url_port != argument_port:
        raise MisuseError(f"url={url!r} and port={port!r} name different ports; give the port in one of them only")
    if url_port is not None:
        return host, url_port
    return host, DEFAULT_PORT if argument_port is None else argument_port


def join_address(host: str, port: int) -> str:
    """Write host and port as ``"host:port"``, an IPv6 address in brackets: the inverse of `split_address`."""
    if host.startswith(UNIX):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def grpc_target(host: str, port: int) -> str:
    """Write host and port as gRPC reads them: the path of a unix socket is percent-decoded there."""
    return f"{UNIX}{quote(host.removeprefix(UNIX))}" if host.startswith(UNIX) else join_address(host, port)


def unix_path(host: str) -> str | None:
    """Return the path of a unix socket; None if `host` is none."""
    return host.removeprefix(UNIX) if host.startswith(UNIX) else None


def is_loopback(host: str) -> bool:
    """Tell whether traffic to `host` stays on this machine: localhost, 127.0.0.0/8, ::1 or a unix socket.

    Only what is certain from the text counts; no name is looked up.
    """
    if host.startswith(UNIX):
        return True
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool(address.is_loopback or (mapped is not None and mapped.is_loopback))


def _split_url(url: object) -> tuple[str, str | None]:
    """Return host and the text after its colon, None if there is no colon."""
    if not isinstance(url, str) or not url:
        raise MisuseError(f'url={url!r}: give a host as a string, e.g. "127.0.0.1" or "host:{DEFAULT_PORT}"')
    if url.startswith("unix-abstract:"):
        raise MisuseError(f'url={url!r}: every user of the machine could connect; give a file, such as "unix:/path"')
    if "/" in url or any(c.isspace() for c in url):
        raise MisuseError(
            f'url={url!r}: give only host and port, such as "host:{DEFAULT_PORT}", with no scheme, path or white '
            f'space, or a unix socket, such as "unix:/path"'
        )
    if url.startswith("["):
        host, bracket, rest = url[1:].partition("]")
        if not bracket or not _is_ipv6(host) or (rest and not rest.startswith(":")):
            raise MisuseError(f'url={url!r}: an IPv6 address is written "[::1]:{DEFAULT_PORT}"')
        return host, rest[1:] if rest else None
    if url.count(":") > 1:
        if not _is_ipv6(url):
            raise MisuseError(f'url={url!r}: neither "host:port" nor an IPv6 address, which is written "[::1]:port"')
        return url, None
    host, colon, rest = url.partition(":")
    if not host:
        raise MisuseError(f"url={url!r}: the host is missing before the colon")
    return host, rest if colon else None


def _unix_host(url: str, port: object) -> str:
    """Return ``unix:`` and the absolute path."""
    if port is not None:
        raise MisuseError(f"url={url!r} has no port, yet port={port!r} was given: leave it out")
    path = url.removeprefix(UNIX)
    if path.startswith("//"):  # unix:///path, as in a URI
        path = path[2:] if path.startswith("///") else ""
    if not path or "\0" in path:
        raise MisuseError(f'url={url!r}: give the path of a socket, such as "unix:/run/user/1000/remote-gym.sock"')
    path = os.path.abspath(path)
    if (length := len(os.fsencode(path))) > MAX_UNIX_PATH_BYTES:
        raise MisuseError(
            f"url={url!r}: the path {path!r} has {length} bytes, the operating system takes {MAX_UNIX_PATH_BYTES}; "
            f"use a folder nearer to the root"
        )
    return UNIX + path


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _port_number(value: object, where: str) -> int:
    """Return `value`, the text or number of a port, as an int within 0..65535."""
    number: Any = value
    if isinstance(value, str):
        if not value:
            raise MisuseError(f"the port is missing {where}: write it after the colon, or drop the colon")
        # int() would also take "+1", " 1", "1_0" and other digits than ASCII.
        number = int(value) if value.isascii() and value.isdigit() and len(value) <= 5 else -1
    try:
        result = -1 if isinstance(number, bool) else operator.index(number)
    except TypeError:
        result = -1
    if not 0 <= result <= 65535:
        raise MisuseError(f"bad port {where}: a port is an integer within 0..65535")
    return result
