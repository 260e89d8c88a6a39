"""Trainer process: certificates that were renewed while a client ran are read again whenever it connects.

A client may run for longer than its certificate is valid. Its files are looked at before each connection; what cannot
be used, as it is being written or gone, leaves what was read before in force.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import replace

from remote_gym.client.carriers.channel import Address
from remote_gym.credentials import ClientPem, file_stamp, load_client_pem
from remote_gym.errors import MisuseError

logger = logging.getLogger("remote_gym.client")


def renewed(address: Address) -> Address:
    """Return `address` with what the files of its certificates hold now; the same where that has not changed."""
    if address.pem is None or not any(isinstance(path, str) for path in address.paths):
        return address
    try:
        read = _read(address.paths, tuple(map(file_stamp, address.paths)))
    except MisuseError as error:
        _tell(str(error))
        return address
    pem = replace(read, server_name=address.pem.server_name)
    return address if pem == address.pem else replace(address, pem=pem)


@functools.lru_cache(maxsize=32)
def _read(paths: tuple[str | bytes, ...], _stamps: tuple[tuple[int, ...] | None, ...]) -> ClientPem:
    pem = load_client_pem(paths)
    assert pem is not None
    return pem


@functools.lru_cache(maxsize=32)
def _tell(why: str) -> None:
    """Log it once, not at each of many attempts."""
    logger.warning("the certificates that were read before are used, the files have changed and cannot be: %s", why)
