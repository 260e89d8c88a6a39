"""Parent side: the view of the machine that a worker has inside bubblewrap (`bwrap`), as its arguments.

A root to read only, and in it: folders of its own in place of those for temporary and runtime files, where sockets of
the server and of others are; nothing in place of the folder that a secret is in; windows, to read only, to what the
worker needs that would be gone by that. No network, no processes but its own, a home of its own that goes with it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Iterator

HOME, TEMPORARY = "/tmp/home", "/tmp"
"""Of a worker; in memory, and gone with it."""

PROBE_SECONDS = 20.0
"""How long bubblewrap may take to start an interpreter."""

PROBE_BYTES = 2**20

_COVERED = ("/tmp", "/var/tmp", "/run", "/dev/shm")
_KEY_BYTES = 65_536  # a key is no longer, and of other files no more is read to find out
_SOCKETS = "remote-gym-socket-"  # see server/private_folder.py

_BASE = (
    "--unshare-user-try", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
    "--die-with-parent", "--cap-drop", "ALL", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
)  # fmt: skip

_PROBE = """\
import json, os, sys
needed, hidden = json.loads(sys.argv[1])
for path in needed:
    os.stat(path)
for path in hidden:
    try:
        open(path, "rb").close()
    except OSError:
        continue
    sys.exit("it can read " + path)
open(os.path.join(os.environ["HOME"], "x"), "w").close()
"""


def arguments(needed: Iterable[str], hidden: Iterable[str], folder: str, scratch_bytes: int = 0) -> list[str]:
    """Return the arguments of bubblewrap for a worker, the command excepted.

    Args:
        needed: Files and folders that the worker must be able to read.
        hidden: Files that it must not; their folders are empty to it, or lack them where they are needed too.
        folder: Its working directory.
        scratch_bytes: What it may write to each of the folders for temporary files; 0: as much as the kernel lets it.
    """
    needed = [path for path in dict.fromkeys(map(os.path.abspath, needed)) if path != "/" and os.path.exists(path)]
    real = {os.path.realpath(path) for path in needed}
    operations: dict[str, list[str]] = {}
    covers = {os.path.realpath(path) for path in (*_COVERED, tempfile.gettempdir()) if os.path.isdir(path)}
    own = set(covers)  # writable
    secrets = _by_folder(hidden)
    for name in secrets.pop("/", set()):
        operations[f"/{name}"] = ["--ro-bind", "/dev/null", f"/{name}"]
    covers.update(secrets)
    covers.discard("/")
    seen = {cover for cover in covers if _is_seen(cover, real, cover in secrets)}
    for cover in covers:
        size = ["--size", str(scratch_bytes)] if scratch_bytes and cover in own else []
        operations[cover] = [
            *size,
            "--tmpfs",
            cover,
            *(_rest(cover, secrets.get(cover, set())) if cover in seen else ()),
        ]
    for at, operation in itertools.chain.from_iterable(map(_windows, needed)):
        shows = at in covers or os.path.dirname(at) in seen
        if not shows and any(_is_in(at, cover) for cover in covers):
            operations.setdefault(at, operation)
    ordered = sorted(operations, key=lambda path: path.count("/"))  # what lies deeper is put over what is above it
    read_only = [word for cover in ["/dev", *sorted(covers - own)] for word in ("--remount-ro", cover)]
    return [
        *_BASE, *(word for path in ordered for word in operations[path]), *read_only, "--dir", HOME, "--chdir", folder,
    ]  # fmt: skip


def hiding(needed: Iterable[str], hidden: Iterable[str]) -> list[str]:
    """Return the files and folders that must not be read, that `hidden` may be so and `needed` need not."""
    real = {os.path.realpath(path) for path in needed}
    found: list[str] = []
    for folder, names in _by_folder(hidden).items():
        if folder == "/" or _is_seen(folder, real, True) or any(_is_in(path, folder) for path in real):
            hide = set(names)
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                hide.update(entry.name for entry in entries if entry.is_file() and _is_key(entry.path))
            found += (os.path.join(folder, name) for name in hide)
        elif os.path.isdir(folder):
            found.append(folder)
    return sorted(found)


def _by_folder(hidden: Iterable[str]) -> dict[str, set[str]]:
    """Return the names of what is hidden by their folders, where they are named and where links lead."""
    found: dict[str, set[str]] = {}
    for file in hidden:
        for path in (os.path.abspath(file), os.path.realpath(file)):
            found.setdefault(os.path.realpath(os.path.dirname(path)), set()).add(os.path.basename(path))
    return found


def unusable(
    command: str, executable: str, needed: Iterable[str], hidden: Iterable[str], environment: dict[str, str]
) -> str | None:
    """Return why bubblewrap at `command` starts no workers that read what they need and nothing hidden; else None."""
    needed = [path for path in needed if os.path.exists(path)]
    hidden = [path for path in hidden if os.path.isfile(path)]
    view = arguments(needed, hidden, "/", PROBE_BYTES if takes_sizes(command) else 0)
    words = [command, *view, executable, "-I", "-S", "-c", _PROBE, json.dumps([needed, hidden])]
    try:
        done = subprocess.run(
            words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return said[-1] if said else f"exit code {done.returncode}"


@functools.lru_cache
def takes_sizes(command: str) -> bool:
    """Return whether bubblewrap at `command` is new enough to limit the folders that it makes."""
    try:
        said = subprocess.run(
            [command, "--help"], stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"--size " in said.stdout + said.stderr


def _is_seen(cover: str, real: set[str], holds_secrets: bool) -> bool:
    """Return whether the rest of a folder must stay in sight."""
    if cover in real:
        return True
    if not holds_secrets:
        return False
    if cover.count("/") == 1:  # /etc, say
        return True
    # A folder of certificates in that of the code needs not be seen; a package of the code must.
    return any(_is_in(cover, path) for path in real) and any(name.endswith(".py") for name in os.listdir(cover))


def _rest(folder: str, secrets: set[str]) -> Iterator[str]:
    """Yield what shows of `folder` all but what is secret: named so, a private key, or a socket."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in secrets or entry.name.startswith(_SOCKETS):
                continue
            with contextlib.suppress(OSError):
                if entry.is_symlink():
                    yield from ("--symlink", os.readlink(entry.path), entry.path)
                elif entry.is_dir() or (stat.S_ISREG(entry.stat().st_mode) and not _is_key(entry.path)):
                    yield from ("--ro-bind-try", entry.path, entry.path)


def _is_key(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return b"PRIVATE KEY-----" in file.read(_KEY_BYTES)
    except OSError:
        return True


def _windows(path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield where something must be for `path` to be read, and what: `path` itself, and the links on the way to it."""
    at = "/"
    for name in path.strip("/").split("/"):
        at = os.path.join(at, name)
        if os.path.islink(at):
            link = os.path.join(os.path.realpath(os.path.dirname(at)), name)
            yield link, ["--symlink", os.readlink(at), link]
    real = os.path.realpath(path)
    yield real, ["--ro-bind", real, real]


def _is_in(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")
