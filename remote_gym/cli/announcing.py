"""The user's terminal: what ``remote-gym serve`` says once it is ready, the line for scripts and those for people."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Mapping
from typing import IO, Any

from remote_gym.addresses import is_loopback, join_address, split_address, unix_path
from remote_gym.cli.terminal import BOLD, GREEN, YELLOW, paint

READY_LINE = "remote-gym ready on {address}"
"""All of stdout."""

EVERYWHERE = ("0.0.0.0", "::")

PEM_FLAGS = ("--root-certificate", "--client-certificate", "--client-private-key")
"""In the order of `client_credentials_paths`."""


def announcement(address: str, values: Mapping[str, Any], stream: IO[str] | None, dashboard: str | None = None) -> str:
    """Return how the server is reached, as lines for `stream`: how safe that is, the client's line, and who watches it.

    Args:
        address: The server's own.
        values: Its settings.
        stream: Where the lines are to be shown.
        dashboard: The link of its dashboard; None: there is none.
    """
    safety, colour = _safety(address, values)
    line = paint(client_line(address, values), BOLD, stream)
    said = f"remote-gym serve: {paint(safety, colour, stream)}; in Python, on the client:\n    {line}\n"
    live = f"What it does, live, in a terminal:\n    {paint(top_line(address, values), BOLD, stream)}\n"
    page = "" if dashboard is None else f"in a browser on this machine:\n    {paint(dashboard, BOLD, stream)}\n"
    return said + live + page


def _safety(address: str, values: Mapping[str, Any]) -> tuple[str, str]:
    host, _ = split_address(address)
    with_tokens = "token_file" in values
    if "root_certificate" in values:
        return f"mutual TLS: clients need a certificate{' and a token' if with_tokens else ''} of their own", GREEN
    if "server_certificate" in values and with_tokens:
        return "TLS: clients need a token of their own", GREEN
    if "server_certificate" in values:
        return "TLS: whoever reaches the port can use it", GREEN if is_loopback(host) else YELLOW
    if unix_path(host) is not None:
        return "plaintext, on a socket for this user alone", GREEN
    if is_loopback(host):
        return "plaintext, for this machine alone", GREEN
    return "plaintext: whoever reaches the port can use it and read along", YELLOW


def client_line(address: str, values: Mapping[str, Any]) -> str:
    """Return the line of Python that makes a client of the server; it works as it is where its files are."""
    host, port = _dialled(address)
    arguments = [f'"{join_address(host, port)}"', "num_envs=8"]
    if files := _files(values):
        paths = ", ".join(map(_text, files))
        arguments.append(f"client_credentials_paths=({paths}{',' if len(files) == 1 else ''})")
    elif not is_loopback(host):
        arguments.append("allow_insecure=True")
    return f"from remote_gym import RemoteVectorEnv; envs = RemoteVectorEnv({', '.join(arguments)})"


def top_line(address: str, values: Mapping[str, Any]) -> str:
    """Return the command that watches the server; it works as it is where its files are."""
    host, port = _dialled(address)
    words = ["remote-gym", "top", join_address(host, port)]
    if files := _files(values):
        words += [word for pair in zip(PEM_FLAGS, files, strict=False) for word in pair]
    elif not is_loopback(host) and unix_path(host) is None:
        words.append("--allow-insecure")
    return shlex.join(words)


def _dialled(address: str) -> tuple[str, int]:
    """Return host and port for a client of whatever machine."""
    host, port = split_address(address)
    return socket.gethostname() if host in EVERYWHERE else host, port


def _files(values: Mapping[str, Any]) -> list[str]:
    """Return the files that a client needs: none without TLS."""
    if "server_certificate" not in values:
        return []
    names = ["ca.pem"] + (["client.pem", "client-key.pem"] if "root_certificate" in values else [])
    return [_beside(values["server_certificate"], name) for name in names]


def _beside(certificate: str, name: str) -> str:
    """Return the path of a file of the client's: `remote-gym certs` writes it beside the server's, to be copied."""
    path = os.path.join(os.path.dirname(certificate), name)
    return path if os.path.exists(path) else name


def _text(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
