"""The user's terminal: the file of tokens, changed as a whole: a server reads the old one or the new one."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from remote_gym.errors import MisuseError

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows, where two who add a token at the same time must not
    fcntl = None  # type: ignore[assignment]

OWNER_ONLY = 0o600


@dataclass
class Text:
    """What a file is to hold."""

    text: str


def read_file(path: str) -> str:
    """Return the text of the file.

    Raises:
        MisuseError: There is none; says how to make one.
        OSError: It cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except FileNotFoundError:
        raise MisuseError(f"there is no {path}; `remote-gym tokens add NAME` makes one, --file names another") from None
    except UnicodeDecodeError as error:
        raise MisuseError(f"{path} is no text: {error}") from None


def add_line(text: str, line: str) -> str:
    """Return `text` with one line more."""
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n"


def without(text: str, name: str) -> tuple[str, int]:
    """Return `text` without the lines of `name`, and how many these were; comments stay."""
    kept = [line for line in text.splitlines(keepends=True) if line.split()[:1] != [name]]
    return "".join(kept), len(text.splitlines()) - len(kept)


@contextlib.contextmanager
def edited(path: str) -> Iterator[Text]:
    """Have the file's text, and write what it was changed to, if the block ends well.

    Nobody else changes the file meanwhile; it is replaced in one step; who is neither its owner nor of its group has no
    right to it, and of one that is new nobody but its owner.

    Raises:
        OSError: It cannot be written.
        MisuseError: It is no text.
    """
    with _locked(path) as about:
        before = read_file(path)
        changed = Text(before)
        yield changed
        if changed.text != before:
            _replace(path, changed.text, about)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[os.stat_result]:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), OWNER_ONLY)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            about = os.fstat(descriptor)
            if _is_same(path, about):
                yield about
                return
        finally:
            os.close(descriptor)


def _is_same(path: str, about: os.stat_result) -> bool:
    """Return whether the file is still the one that was opened: whoever had it before us has replaced it."""
    try:
        return os.path.samestat(os.stat(path), about)
    except FileNotFoundError:
        return False


def _replace(path: str, text: str, about: os.stat_result) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=".remote-gym-", dir=os.path.dirname(path))  # of mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, stat.S_IMODE(about.st_mode) & 0o660)
        if hasattr(os, "chown") and (about.st_uid, about.st_gid) != (os.geteuid(), os.getegid()):
            with contextlib.suppress(PermissionError):  # the administrator writes it for the server's user
                os.chown(temporary, about.st_uid, about.st_gid)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
