"""Both sides: what a process on Linux forbids itself, for good; elsewhere nothing can be forbidden."""

from __future__ import annotations

import sys

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38  # <linux/prctl.h>


def forbid_reading() -> bool:
    """Close this process to others of its user: its memory, variables and descriptors under /proc, debuggers, dumps.

    What it executes is open again; what it forks is closed too. Root is not kept out, nor what has CAP_SYS_PTRACE.

    Returns:
        Whether that is done.
    """
    return _prctl(_PR_SET_DUMPABLE, 0)


def forbid_privileges() -> bool:
    """Let nothing that this process executes gain rights, as ``sudo`` does; return whether that is done."""
    return _prctl(_PR_SET_NO_NEW_PRIVS, 1)


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
