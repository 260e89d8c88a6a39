"""No I/O: quantities as people read them, in few characters."""

from __future__ import annotations

import math

UNKNOWN = "-"
"""Of what is not known, or not known yet."""

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_COUNTS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BYTES = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))


def span(seconds: float) -> str:
    """Return a time in the two largest units that it has."""
    if not math.isfinite(seconds):
        return UNKNOWN
    whole = max(0, int(seconds))
    days, hours, minutes, rest = whole // 86_400, whole // 3_600 % 24, whole // 60 % 60, whole % 60
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def counted(number: float | None) -> str:
    """Return a number, rounded: ``"7"``, ``"999"``, ``"12.3k"``."""
    if number is None or not math.isfinite(number):
        return UNKNOWN
    for unit, name in _COUNTS:
        if abs(number) >= unit:
            return f"{_digits(number / unit)}{name}"
    return _digits(number) if number != int(number) else f"{number:.0f}"


def measured(number: float | None) -> str:
    """Return a quantity that may be anything, such as a return: three digits of it."""
    if number is None or math.isnan(number):
        return UNKNOWN
    return counted(number) if 1.0 <= abs(number) < 1e15 else f"{number:.3g}"


def short_time(seconds: float | None) -> str:
    """Return a time of at most some seconds: ``"12.3 ms"``; infinity is more than anybody measures."""
    if seconds is None or math.isnan(seconds):
        return UNKNOWN
    if math.isinf(seconds):
        return "long"
    for unit, name in _TIMES:
        if seconds >= unit:
            return f"{_digits(seconds / unit)} {name}"
    return f"{seconds * 1e6:.2g} µs" if seconds else "0 s"


def bytes_of(number: float | None) -> str:
    """Return a number of bytes, rounded."""
    if number is None:
        return UNKNOWN
    for unit, name in _BYTES:
        if number >= unit:
            return f"{_digits(number / unit)} {name}"
    return f"{number:.0f} B"


def percent(share: float | None) -> str:
    """Return a share of one as per cent."""
    return UNKNOWN if share is None or math.isnan(share) else f"{100 * share:.0f}%"


def _digits(number: float) -> str:
    return f"{number:.1f}" if abs(number) < 99.95 else f"{number:.0f}"
