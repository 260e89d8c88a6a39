"""Both sides: what a process on Linux forbids itself, for good; elsewhere nothing can be forbidden."""

from __future__ import annotations

import os
import struct
import sys
from typing import Any

LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446  # the same on all machines
TCP_VERSION, SIGNALS_VERSION = 4, 6
"""Of Landlock: from which on it keeps from TCP, and from signals to others."""
_LANDLOCK_VERSION = 1  # a flag

_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 24, 38  # <linux/prctl.h>
_CAPABILITY_VERSION = 0x20080522  # <linux/capability.h>


def forbid_reading() -> bool:
    """Close this process to others of its user: its memory, variables and descriptors under /proc, debuggers, dumps.

    What it executes is open again; what it forks is closed too. Who has CAP_SYS_PTRACE, as root has, is not kept out.

    Returns:
        Whether that is done.
    """
    return _prctl(_PR_SET_DUMPABLE, 0)


def forbid_privileges() -> bool:
    """Let nothing that this process executes gain rights, as ``sudo`` does; return whether that is done."""
    return _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def landlock_version() -> int:
    """Return which version of Landlock the kernel offers; 0: none."""
    try:
        return system_call(LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
    except OSError:
        return 0


def system_call(number: int, *arguments: Any) -> int:
    """Make a system call of Linux that Python has no name for, with integers and pointers.

    Raises:
        OSError: It failed, or this is another system.
    """
    if sys.platform != "linux":
        raise OSError("this is not Linux")
    try:
        import ctypes

        call = ctypes.CDLL(None, use_errno=True).syscall
    except (ImportError, OSError, AttributeError) as error:
        raise OSError(str(error)) from error
    call.restype = ctypes.c_long
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    if (result := int(call(ctypes.c_long(number), *words))) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def drop_capabilities() -> bool:
    """Let this process, if it is root, have no more rights than any user; return whether that is done.

    For good where no privileges can be gained, see `forbid_privileges`. Its files stay root's.
    """
    if sys.platform != "linux":
        return False
    import ctypes

    for capability in range(64):
        _prctl(_PR_CAPBSET_DROP, capability)  # those that there are, and that may be dropped
    header, none = struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24)
    try:
        return bool(ctypes.CDLL(None).capset(ctypes.c_char_p(header), ctypes.c_char_p(none)) == 0)
    except (OSError, AttributeError):
        return False


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        call = ctypes.CDLL(None, use_errno=True).prctl
    except (ImportError, OSError, AttributeError):
        return False
    words = [ctypes.c_ulong(word) for word in (value, 0, 0, 0)]  # a variadic function: the types must be the kernel's
    return bool(call(ctypes.c_int(option), *words) == 0)
