"""Trainer process: where a fleet's addresses come from, where they are no plain list: records, lines, a function.

===============  =================================================  ==============================================
`url`            asks                                               changes
===============  =================================================  ==============================================
"dns:NAME:PORT"  the resolver, for all its A records, else AAAA     as the records do
"file:PATH"      the file, one address a line, # begins a comment   when the file does
"file:FOLDER"    all files in the folder, hidden ones left out      as files come and go
a callable       it, without arguments                              as it says
an object        its `addresses()`                                  as it says
===============  =================================================  ==============================================

Nothing is asked before the first need. Whoever asks again gets the newest addresses; what they mean is `servers`' to
say.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from remote_gym.addresses import DEFAULT_PORT, join_address, split_address, unix_path
from remote_gym.credentials import file_stamp
from remote_gym.errors import ConnectError, MisuseError, RemoteGymError
from remote_gym.texts import shortened

DNS, FILE = "dns:", "file:"
"""What the url of such a source begins with."""

MAX_ADDRESSES = 4_096
"""Of one source: more is a mistake, and every one of them would be asked what it is."""


class Addresses(Protocol):
    """What a user's object gives; to travel with the vector environment it has to pickle."""

    def addresses(self) -> Iterable[str]:
        """Return ``"host:port"`` of all servers there are now."""


class Source(Protocol):
    """Addresses that may change.

    Attributes:
        name: What it is called in errors and logs.
        tls_name: What a server's certificate is for, where nothing else was said; None: its address.
        carried: The `url` with which another process asks the same.
    """

    name: str
    carried: Any

    @property
    def tls_name(self) -> str | None:
        """See above."""

    def ask(self, timeout_seconds: float) -> list[str]:
        """Return the addresses, each once, in the source's order; maybe none.

        Raises:
            ConnectError: It did not say.
            MisuseError: What it said is no address.
        """

    def has_changed(self) -> bool:
        """Return whether it is known, without asking anybody else, that it says something new; False says nothing."""


def source_of(url: object, port: int | None) -> Source | None:
    """Return the source that `url` is; None: it is an address, a list of them, or nothing of the kind.

    Raises:
        MisuseError: It is one, of something that cannot be asked.
    """
    if isinstance(url, str):
        if url.startswith(DNS) and not url.removeprefix(DNS).isdecimal():  # else a host of that name
            return Records(url, port)
        if url.startswith(FILE) and not url.removeprefix(FILE).isdecimal():
            return Lines(url)
        return None
    if isinstance(url, type):
        return None
    if callable(asked := getattr(url, "addresses", None)):
        return Asked(url, asked)
    return Asked(url, url) if callable(url) else None


class Records:
    """See `Source`: all addresses of a name."""

    def __init__(self, url: str, port: int | None) -> None:
        """Prepare for ``dns:NAME``, ``dns:NAME:PORT``; looks nothing up.

        Raises:
            MisuseError: There is no such name.
        """
        try:
            self.tls_name, self._port = split_address(url.removeprefix(DNS), port)
        except MisuseError as error:
            raise MisuseError(f'url={url!r}: give a name, such as "dns:farm.example:{DEFAULT_PORT}": {error}') from None
        if unix_path(self.tls_name) is not None or not self.tls_name.isascii():
            raise MisuseError(f'url={url!r}: give a name in ASCII, such as "dns:farm.example:{DEFAULT_PORT}"')
        self.name = self.carried = f"{DNS}{join_address(self.tls_name, self._port)}"

    def ask(self, timeout_seconds: float) -> list[str]:
        """See `Source`."""
        found = self._look_up(timeout_seconds)
        families = {family for family, *_ in found}
        family = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
        hosts = sorted({endpoint[0] for kind, *_, endpoint in found if kind == family})  # in no order of the resolver's
        return [join_address(host, self._port) for host in hosts]

    def _look_up(self, timeout_seconds: float) -> list[Any]:
        # getaddrinfo knows no timeout, so a daemon thread does it; if it hangs, it is left to itself.
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                answers.put(socket.getaddrinfo(self.tls_name, self._port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError, OverflowError) as error:
                answers.put(error)

        threading.Thread(target=look_up, name="remote-gym-look-up", daemon=True).start()
        try:
            found = answers.get(timeout=timeout_seconds)
        except queue.Empty:
            raise ConnectError(self.name, f"the resolver did not answer within {timeout_seconds:g} s") from None
        if isinstance(found, Exception):
            causes = ["the name is wrong", "no server of it is up, or ready, yet", "no resolver is reached from here"]
            raise ConnectError(self.name, f"the name has no address: {found}", causes) from found
        return found  # type: ignore[no-any-return]

    def has_changed(self) -> bool:
        """See `Source`; nobody tells."""
        return False


class Lines:
    """See `Source`: the lines of a file, or of all files in a folder, as servers that announce themselves fill it."""

    tls_name = None

    def __init__(self, url: str) -> None:
        """Prepare for ``file:PATH``; a relative path is the working directory's, now."""
        path = url.removeprefix(FILE)
        if path.startswith("//"):  # file:///path, as in a URI
            path = path[2:] if path.startswith("///") else ""
        if not path or "\0" in path:
            raise MisuseError(f'url={url!r}: give the path of a file, such as "file:/shared/servers.txt"')
        self._path = os.path.abspath(path)
        self.name = self.carried = f"{FILE}{self._path}"
        self._stamp: tuple[int, ...] | None = None

    def ask(self, timeout_seconds: float) -> list[str]:
        """See `Source`; the timeout is the file system's."""
        stamp = file_stamp(self._path)
        try:
            said = list(self._read())
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConnectError(self.name, f"the file with the addresses cannot be read: {reason}") from error
        self._stamp = stamp  # taken first: what is written meanwhile is read again
        return _checked([text for text, _ in said], [place for _, place in said], self.name)

    def _read(self) -> Iterator[tuple[str, str]]:
        """Yield each address, and where it stands.

        Raises:
            OSError, UnicodeError: It cannot be read.
        """
        names = [""]
        if os.path.isdir(self._path):
            names = sorted(f"/{name}" for name in os.listdir(self._path) if not name.startswith("."))
        for name in names:
            try:
                with open(self._path + name, encoding="utf-8") as file:
                    lines = file.read().splitlines()
            except FileNotFoundError:
                if not name:
                    raise
                continue  # its server has just gone
            for at, line in enumerate(lines, 1):
                if text := line.partition("#")[0].strip():
                    yield text, f"line {at} of {self.name}{name}"

    def has_changed(self) -> bool:
        """See `Source`."""
        return file_stamp(self._path) != self._stamp


class Asked:
    """See `Source`: a function of the user's."""

    tls_name = None

    def __init__(self, given: object, ask: Callable[[], Any]) -> None:
        """Ask by `ask`; `given` is what the user has given, and what travels."""
        self.carried, self._ask = given, ask
        named = getattr(given, "__qualname__", None) or type(given).__qualname__
        self.name = f"url={shortened(str(named), 80)}"

    def ask(self, timeout_seconds: float) -> list[str]:
        """See `Source`; how long it takes is the user's to say."""
        try:
            said = self._ask()
        except RemoteGymError:
            raise
        except Exception as error:
            raised = shortened(f"{type(error).__name__}: {error}")
            raise ConnectError(self.name, f"asked for addresses, it raised {raised}") from error
        if isinstance(said, (str, bytes)) or not isinstance(said, Iterable):
            raise MisuseError(f"{self.name} must give addresses, a list of strings 'host:port', it gave {said!r:.80}")
        each = list(said)
        if not all(isinstance(one, str) for one in each):
            raise MisuseError(f"{self.name} must give strings 'host:port', it gave {each!r:.80}")
        return _checked(each, [self.name] * len(each), self.name)

    def has_changed(self) -> bool:
        """See `Source`; it does not tell."""
        return False


def _checked(texts: Sequence[str], places: Sequence[str], name: str) -> list[str]:
    """Return addresses, each once; `places` say where each is from.

    Raises:
        MisuseError: One is none, or there are too many.
    """
    for text, place in zip(texts, places, strict=True):
        try:
            split_address(text)
        except MisuseError as error:
            raise MisuseError(f"{place}: {error}") from None
    if len(once := list(dict.fromkeys(texts))) > MAX_ADDRESSES:
        raise MisuseError(f"{name} gives {len(once):,} addresses, the most is {MAX_ADDRESSES:,}")
    return once
