"""Both sides of the admin socket, no sockets: where its file is, for a server that listens on an address.

A server on a port has it in the user's runtime folder, named by the port; one on a unix-domain socket beside that.
"""

from __future__ import annotations

import os
import stat
import tempfile
from typing import Any

from remote_gym.addresses import MAX_UNIX_PATH_BYTES, unix_path

AUTO = "auto"
"""What stands for the usual place where a path can be given."""

SUFFIX = ".admin"
"""Of the file beside a server's own unix-domain socket."""

RUNTIME_VARIABLE = "XDG_RUNTIME_DIR"
"""Names the user's runtime folder (XDG Base Directory Specification): theirs alone, gone with their last login."""

NAME = "remote-gym"


def place(host: str, port: int) -> str:
    """Return the usual path of the admin socket of a server that listens on `host` and `port`.

    Raises:
        OSError: There is no folder of the user's alone for it, or the path is too long; says what to do.
    """
    beside = unix_path(host)
    path = os.path.join(_private(folders()[0]), f"{port}.sock") if beside is None else beside + SUFFIX
    if len(os.fsencode(path)) > MAX_UNIX_PATH_BYTES:
        raise OSError(f"the path {path!r} is too long for a socket")
    return path


def candidates(host: str, port: int) -> list[str]:
    """Return where the admin socket of the server on `host` and `port` may be, the likeliest first.

    A service has no runtime folder where a shell of the same user has one.
    """
    beside = unix_path(host)
    if beside is not None:
        return [beside + SUFFIX]
    return [os.path.join(folder, f"{port}.sock") for folder in folders() if is_mine(folder)]


def is_shared(path: str) -> bool:
    """Tell whether `path` is in one of the folders that are for nothing but admin sockets."""
    return os.path.dirname(path) in folders()


def folders() -> list[str]:
    """Return the folders that hold the admin sockets of this user's servers; the first is for new ones."""
    runtime = os.environ.get(RUNTIME_VARIABLE, "")
    usual = f"/run/user/{os.geteuid()}"
    found = [os.path.join(runtime, NAME)] if os.path.isabs(runtime) and is_mine(runtime) else []
    temporary = os.path.join(_temporary_folder(), f"{NAME}-{os.geteuid()}")
    return list(dict.fromkeys([*found, temporary, os.path.join(usual, NAME)]))


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # there is none that could be written to
        return "/tmp"


def _private(folder: str) -> str:
    """Return `folder`, made if need be; nobody but this user can enter it."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise OSError(f"the folder {folder!r} cannot be made: {error.strerror}") from None
    if not is_mine(folder):
        raise OSError(f"others may enter {folder!r}, or it belongs to another user")
    return folder


def is_mine(folder: str) -> bool:
    """Tell whether `folder` is this user's, and nobody else can enter it."""
    try:
        about: Any = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o077
