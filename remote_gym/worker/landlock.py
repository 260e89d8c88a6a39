"""Child side: Linux's Landlock, with which a process without rights takes from itself what it must not reach.

It needs no command and no namespace, so it also stands where bubblewrap cannot: in most containers. What is not named
by a rule cannot be read, and a rule holds for all that is below its path; so rules name what lies beside the hidden, on
each level. What is made later directly in a folder above the hidden one cannot be read either.

Kept away as well, as far as the kernel is new enough: TCP, signals to others, and always what needs `ptrace`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from typing import Iterable, Iterator, List

from remote_gym.hardening import (
    LANDLOCK_ADD_RULE,
    LANDLOCK_CREATE_RULESET,
    LANDLOCK_RESTRICT_SELF,
    SIGNALS_VERSION,
    TCP_VERSION,
    system_call,
)

READ_FILE = 0x4  # <linux/landlock.h>
_BIND_AND_CONNECT_TCP, _ABSTRACT_SOCKETS_AND_SIGNALS = 0x3, 0x3
_PATH_BENEATH = 1


def restrict(hidden: Iterable[str], version: int) -> None:
    """Take from this process, and all that it starts, the files and folders `hidden`, and more as `version` allows.

    Relies on: no new privileges can be gained, and this is the only thread.

    Raises:
        OSError: It cannot be done.
    """
    words = [READ_FILE, _BIND_AND_CONNECT_TCP, _ABSTRACT_SOCKETS_AND_SIGNALS]
    known = 3 if version >= SIGNALS_VERSION else 2 if version >= TCP_VERSION else 1
    attributes = struct.pack(f"={known}Q", *words[:known])
    rules = system_call(LANDLOCK_CREATE_RULESET, ctypes.c_char_p(attributes), len(attributes), 0)
    try:
        real = {os.path.realpath(path) for path in hidden}
        for path in beside("/", real):
            _allow(rules, path)
        system_call(LANDLOCK_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def beside(folder: str, hidden: Iterable[str]) -> Iterator[str]:
    """Yield the highest paths in `folder` that neither are hidden nor have anything hidden below them."""
    inside: List[str] = [path for path in hidden if path.startswith(folder.rstrip("/") + "/")]
    if not inside:
        yield folder
        return
    with contextlib.suppress(PermissionError), os.scandir(folder) as entries:  # of what is not known nothing is allowed
        for entry in entries:
            if entry.path not in inside and not entry.is_symlink():
                yield from beside(entry.path, inside)


def _allow(rules: int, path: str) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # gone meanwhile
        return
    try:
        rule = struct.pack("=Qi", READ_FILE, descriptor)
        system_call(LANDLOCK_ADD_RULE, rules, _PATH_BENEATH, ctypes.c_char_p(rule), 0)
    finally:
        os.close(descriptor)
