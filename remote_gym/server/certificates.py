"""Server process: the certificates of a server as their files are now, read again when these change; and their ends.

Files are looked at every second, on the server's loop. New ones hold for connections that are new; those that are there
go on with what they began with.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import ssl
import stat
import time
from collections.abc import Callable, Sequence

from remote_gym.credentials import Pem, ServerPem, absolute, file_stamp, load_server_pem
from remote_gym.errors import MisuseError
from remote_gym.validity import Validity, validities

logger = logging.getLogger("remote_gym.server")

LOOK_SECONDS = 1.0
"""How often it is looked whether the files have changed. New ones are read when they were seen twice alike: whoever
copies a certificate and its key, or writes a long file, has time to end."""

WARN_DAYS = 30
"""How long before a certificate's end it is told."""

WARN_SECONDS = 86_400.0
"""How often."""


class Certificates:
    """The PEM files of one server.

    Attributes:
        on_change: Called with what is new before it holds, on the server's loop; raises ssl.SSLError if it cannot be
            used, and then what there was stays.
    """

    def __init__(self, paths: Sequence[Pem | None]) -> None:
        """Read the files.

        Args:
            paths: As the argument `server_credentials_paths`; relative ones are relative to the folder of now. What
                was given as bytes stays as it is.

        Raises:
            MisuseError: See `load_server_pem`.
        """
        pem = load_server_pem(paths)
        assert pem is not None
        self._pem = pem
        self._paths = [absolute(path) for path in paths if path is not None]
        self._taken: list[tuple[int, ...] | None] = []  # so that a change since they were read is one
        self._seen = self._refused = self._taken
        self.on_change: Callable[[ServerPem], None] = lambda _pem: None
        self._warn_next = 0.0

    def current(self) -> ServerPem:
        """Return what holds for a connection that is new; from any thread."""
        return self._pem

    async def watch(self) -> None:
        """Warn at once and then once a day, and look at the files for as long as the server lives."""
        while True:
            try:
                if time.time() >= self._warn_next:
                    self.warn()
                await asyncio.sleep(LOOK_SECONDS)
                self.look()
            except Exception:  # there is no other to tell, and the server goes on
                logger.exception("the certificate files could not be looked at")

    def look(self) -> bool:
        """Take new files that have not changed since the last look; return whether that has happened."""
        now = [file_stamp(path) for path in self._paths]
        settled, self._seen = now == self._seen, now
        if not settled or now in (self._taken, self._refused):
            return False
        try:
            pem = load_server_pem(self._paths)
            assert pem is not None
            if [file_stamp(path) for path in self._paths] != now:
                return False
            if pem != self._pem:
                self.on_change(pem)
        except (MisuseError, ssl.SSLError) as error:
            self._refused = now
            logger.error("the certificate files have changed and are not taken, what was read before holds: %s", error)
            return False
        self._taken = now
        if pem == self._pem:
            return False
        self._pem = pem
        logger.info("new connections get the certificates that are now in %s", ", ".join(map(_called, self._paths)))
        self.warn()
        return True

    def warn(self) -> None:
        """Log which certificates have ended, or will soon, and that others can read the key."""
        self._warn_next = time.time() + WARN_SECONDS
        now = datetime.datetime.now(datetime.timezone.utc)
        files = [(self._paths[0], self._pem.certificate, "clients refuse it")]
        if self._pem.root is not None:
            files.append((self._paths[2], self._pem.root, "clients whose certificates it has signed are refused"))
        for path, pem, effect in files:
            for validity in validities(pem):
                if (said := _said(validity, now)) is not None:
                    logger.warning(
                        "a certificate in %s %s: %s. A new file is taken without a restart",
                        _called(path), said, effect,
                    )  # fmt: skip
        key = self._paths[1]
        if (mode := _readable_mode(key)) is not None:
            logger.warning("the private key %s can be read by others (mode %04o): chmod 600 it", key, mode)


def _said(validity: Validity, now: datetime.datetime) -> str | None:
    """Return what there is to say of a certificate's dates."""
    if now > validity.ends:
        return f"has expired, on {validity.ends:%Y-%m-%d %H:%M} UTC"
    if now < validity.begins:
        return f"is not valid before {validity.begins:%Y-%m-%d %H:%M} UTC"
    left = validity.ends - now
    if left > datetime.timedelta(days=WARN_DAYS):
        return None
    return f"expires in {left.days} days, on {validity.ends:%Y-%m-%d %H:%M} UTC"


def _called(path: str | bytes) -> str:
    return "the bytes that were given" if isinstance(path, bytes) else path


def _readable_mode(path: str | bytes) -> int | None:
    """Return the mode of a file that others can read, or a group, where this user could forbid it; else None."""
    if isinstance(path, bytes):
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    others = stat.S_IROTH | (stat.S_IRGRP if status.st_uid == os.geteuid() else 0)
    return stat.S_IMODE(status.st_mode) if os.name == "posix" and status.st_mode & others else None
