"""Trainer process, no I/O but PEM files and sources: which servers are meant, and how each is proven to be it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, Union

from remote_gym.addresses import DEFAULT_PORT, is_loopback, split_address, unix_path
from remote_gym.client.carriers.channel import Address
from remote_gym.client.sources import DNS, FILE, Addresses, Records, Source, source_of
from remote_gym.client.tokens import token_for
from remote_gym.credentials import Pem, absolute, load_client_pem
from remote_gym.errors import ConnectError, MisuseError

CredentialsPaths = Sequence["Pem | None"]

ASK_AGAIN_SECONDS = 0.2
"""Between two questions to a source that knows of no server yet: a file that is to be written, a name to be entered."""

Url = Union[str, Sequence[str], Callable[[], Iterable[str]], Addresses]
"""What says where the servers are: an address, a list of them, or a source; see `sources`."""


def url_of(url: Url | None) -> Url:
    """Return `url`; if it is None, what ``REMOTE_GYM_URL`` says.

    Raises:
        MisuseError: There is no address anywhere.
    """
    if url is None:
        url = os.environ.get("REMOTE_GYM_URL")
        if not url:
            raise MisuseError("no server was named: pass url='host:port', or set REMOTE_GYM_URL")
    return url


def urls_of(url: Url | None) -> list[str]:
    """Return the servers' addresses; if `url` is None, the one that ``REMOTE_GYM_URL`` names.

    Raises:
        MisuseError: There is no address anywhere, or `url` is no string or list of strings.
    """
    url = url_of(url)
    if isinstance(url, str):
        return [url]
    if not isinstance(url, Iterable) or not (urls := list(url)) or not all(isinstance(one, str) for one in urls):
        raise MisuseError(
            f"url must be a string, a list of at least one, or what gives such a list: a callable, or an object with "
            f"addresses(); got {url!r:.80}"
        )
    if any(source_of(one, None) for one in urls):
        raise MisuseError(f"url: {DNS!r} and {FILE!r} stand alone, not in a list: got {urls!r:.80}")
    return urls


def paths_from_variables() -> CredentialsPaths | None:
    """Return the paths of the PEM files that the environment's variables name; None if they name no authority.

    Variables: ``REMOTE_GYM_ROOT_CERTIFICATE``, ``REMOTE_GYM_CLIENT_CERTIFICATE``, ``REMOTE_GYM_CLIENT_PRIVATE_KEY``.
    """
    root = os.environ.get("REMOTE_GYM_ROOT_CERTIFICATE")
    pair = [os.environ.get(f"REMOTE_GYM_CLIENT_{name}") for name in ("CERTIFICATE", "PRIVATE_KEY")]
    return (root, *(path for path in pair if path)) if root else None


def addresses_of(
    urls: Sequence[str],
    port: int | None,
    paths: CredentialsPaths | None,
    tls_name: str | None,
    token: str | None,
    allow_insecure: bool,
    default_name: str | None = None,
) -> tuple[CredentialsPaths | None, tuple[Address, ...]]:
    """Return the credentials as they were given or the variables name them, and the servers' addresses.

    `default_name` stands in for a `tls_name` of None where there is TLS.

    Raises:
        MisuseError: An address, or a file, is wrong; or one would be reached without TLS that must not be.
    """
    ports = [DEFAULT_PORT if port is None and ":" not in url else port for url in urls]
    hosts = list(map(split_address, urls, ports))
    unix = [unix_path(host) is not None for host, _ in hosts]
    given = paths
    if from_variables := paths is None and not all(unix):
        paths = paths_from_variables()
    for host, _ in hosts:
        if paths is None and not is_loopback(host) and not allow_insecure:
            raise MisuseError(
                f"refusing to talk to {host} without TLS: anyone on the way could read and change it. Pass "
                f"client_credentials_paths=(ca.pem[, client.pem, client-key.pem]), or spell out allow_insecure=True"
            )
    pem = None if paths is None else load_client_pem(paths)
    if tls_name is not None and pem is None:
        raise MisuseError(f"tls_name={tls_name!r} is checked against a certificate: pass client_credentials_paths")
    if pem is not None and (name := tls_name or default_name) is not None:
        pem = replace(pem, server_name=name)
    files = tuple(absolute(path) for path in paths or () if path is not None)
    addresses = []
    for (host, number), is_unix in zip(hosts, unix, strict=True):
        plain = from_variables and is_unix  # a socket of this machine speaks no TLS
        proof = (None, ()) if plain else (pem, files)
        addresses.append(Address(host, number, *proof, token_for(token, host, proof[0] is not None, allow_insecure)))
    return given if any(unix) else paths, tuple(addresses)


class Located(NamedTuple):
    """Where the servers are, as the arguments say; these are whole then.

    Attributes:
        url: As it is to be carried.
        port: Likewise.
        client_credentials_paths: As they were given, or the variables name them.
        source: What gives the addresses; None: they are known.
        addresses: Empty, with a source.
    """

    url: Url | None
    port: int | None
    client_credentials_paths: CredentialsPaths | None
    source: Source | None
    addresses: tuple[Address, ...]


def locate(
    url: Url | None,
    port: int | None,
    paths: CredentialsPaths | None,
    tls_name: str | None,
    token: str | None,
    allow_insecure: bool,
) -> Located:
    """Return where the servers are; asks no source yet, but checks what can be checked before.

    Raises:
        MisuseError: As `addresses_of`; or `url` is nothing of the kind.
    """
    source = source_of(url_of(url), port)
    if source is None:
        paths, addresses = addresses_of(urls_of(url), port, paths, tls_name, token, allow_insecure)
        return Located(url, port, paths, None, addresses)
    if isinstance(source, Records):
        port = None  # it is in the url
    paths, _ = addresses_of((), port, paths or paths_from_variables(), tls_name, token, allow_insecure)
    return Located(source.carried, port, paths, source, ())


def found_by(
    source: Source,
    port: int | None,
    paths: CredentialsPaths | None,
    tls_name: str | None,
    token: str | None,
    allow_insecure: bool,
    timeout_seconds: float,
) -> tuple[Address, ...]:
    """Ask `source` and return the servers' addresses, at least one; waits for it to know any.

    Raises:
        ConnectError: It gave none in time.
        MisuseError: As `addresses_of`; names the source.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        urls, failed = [], ConnectError(source.name, "it gives no address")
        try:
            urls = source.ask(max(deadline - time.monotonic(), ASK_AGAIN_SECONDS))
        except ConnectError as error:
            failed = error
        if urls:
            break
        if time.monotonic() + ASK_AGAIN_SECONDS >= deadline:
            raise failed
        time.sleep(ASK_AGAIN_SECONDS)
    try:
        return addresses_of(urls, port, paths, tls_name, token, allow_insecure, source.tls_name)[1]
    except MisuseError as error:
        raise MisuseError(f"of {source.name}: {error}") from None


def checked_name(tls_name: object) -> str | None:
    """Return the argument `tls_name`.

    Raises:
        MisuseError: No certificate can be for it.
    """
    if tls_name is None:
        return None
    if not isinstance(tls_name, str) or not tls_name or not tls_name.isascii() or not tls_name.isprintable():
        raise MisuseError(f"tls_name must be a DNS name or an IP in ASCII, or None, got {tls_name!r:.80}")
    host, number = split_address(tls_name, DEFAULT_PORT)
    if unix_path(host) is not None or number != DEFAULT_PORT:
        raise MisuseError(f"tls_name must be a DNS name or an IP, without a port, got {tls_name!r:.80}")
    return host


def carried_paths(paths: CredentialsPaths | None) -> tuple[str | bytes | None, ...] | None:
    """Return the credentials as another process, in another folder, finds them."""
    return None if paths is None else tuple(None if path is None else absolute(path) for path in paths)
