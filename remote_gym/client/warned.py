"""Trainer process: warnings that name the caller's line, however deep in this package they arise."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

PACKAGE = f"{Path(__file__).parents[1]}/"
"""What the files of all frames begin with that the caller did not write."""


def warn(message: str) -> None:
    """Warn with the line that called into this package."""
    if sys.version_info >= (3, 12):
        warnings.warn(message, skip_file_prefixes=(PACKAGE,), stacklevel=2)
    else:
        warnings.warn(message, stacklevel=_depth_of_caller())


def _depth_of_caller() -> int:
    """Return the `stacklevel`, for the function that calls this one, of the first frame outside of this package."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, depth = frame.f_back, depth + 1
    return depth
