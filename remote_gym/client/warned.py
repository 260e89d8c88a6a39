"""Trainer process: warnings that name the caller's line, however deep in this package they arise."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import gymnasium

PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
NOT_THE_CALLERS = (PACKAGE, f"{Path(gymnasium.__file__).parent}{os.sep}")
"""What the files of all frames begin with that the caller did not write: this package, and Gymnasium's wrappers."""


def warn(message: str) -> None:
    """Warn with the line that called into this package, or into a wrapper of Gymnasium's around it."""
    if sys.version_info >= (3, 12):
        warnings.warn(message, skip_file_prefixes=NOT_THE_CALLERS, stacklevel=2)
    else:
        warnings.warn(message, stacklevel=_depth_of_caller())


def _depth_of_caller() -> int:
    """Return the `stacklevel`, for the function that calls this one, of the first frame that is the caller's."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(NOT_THE_CALLERS):
        frame, depth = frame.f_back, depth + 1
    return depth
