"""Server process: certificates that are taken no more, by their fingerprints, whoever they are for.

For a key that was lost, or a person who has left, before the certificate ends: one line each, as
``openssl x509 -noout -fingerprint -sha256 -in client.pem`` prints it, or the digits alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from remote_gym.server.watched_files import WatchedFile, lines

_FINGERPRINT = re.compile(r"(?:sha256[ :]?(?:fingerprint=)?)?([0-9a-f]{64})", re.IGNORECASE)


def read_fingerprints(text: str) -> tuple[set[bytes], list[str]]:
    """Return the SHA-256 fingerprints that a file lists, and what is wrong with the lines that are none."""
    found: set[bytes] = set()
    wrong: list[str] = []
    for number, line in lines(text):
        fingerprint = _FINGERPRINT.fullmatch(re.sub(r"(?<=[0-9a-fA-F]{2}):(?=[0-9a-fA-F]{2})", "", line))
        if fingerprint is None:
            wrong.append(f"line {number}: no SHA-256 fingerprint, of 64 hexadecimal digits: {line[:80]!r}")
        else:
            found.add(bytes.fromhex(fingerprint[1]))
    return found, wrong


class Denied:
    """The certificates that are denied, as the file has them now. Who was denied stays so while a line is wrong."""

    def __init__(self, argument: str, path: str | os.PathLike[str]) -> None:
        """Read the file at `path`.

        Raises:
            MisuseError: See `WatchedFile`.
        """
        self._fingerprints: set[bytes] = set()
        self._file = WatchedFile(argument, path, self._take, _keep)
        self.refresh: Callable[[], None] = self._file.refresh

    def _take(self, text: str) -> list[str]:
        found, wrong = read_fingerprints(text)
        self._fingerprints = found | self._fingerprints if wrong else found
        return wrong

    def __contains__(self, fingerprint: bytes | None) -> bool:
        """Whether the certificate with that fingerprint is denied."""
        return fingerprint in self._fingerprints


def _keep() -> None:
    """Without a file, who was denied stays so."""
