"""No I/O but what is installed: the name this package is installed by, which is not the one it is imported by.

The name ``remote-gym`` on the package index belongs to the project that this one re-implements; both have the folder
``remote_gym``, so only one of them can be in an environment.
"""

from __future__ import annotations

import importlib.metadata
import warnings

NAME = "remote-gym-pool"
ORIGINAL = "remote-gym"
ORIGINAL_MAJOR = "0"
"""What versions of the original begin with: one of this project's, from before it had its name, is no matter."""


def install(extra: str) -> str:
    """Return the line that installs what an extra names, where this package is installed already."""
    return f'pip install "{NAME}[{extra}]"'


def warn_of_the_original() -> None:
    """Say so, with a UserWarning, if the original is installed beside: one has overwritten files of the other."""
    try:
        version = importlib.metadata.version(ORIGINAL)
    except importlib.metadata.PackageNotFoundError:
        return
    if version.partition(".")[0] == ORIGINAL_MAJOR:
        warnings.warn(
            f"{ORIGINAL} {version} is installed beside {NAME}; both have the folder remote_gym, and the one that was "
            f"installed last has overwritten files of the other: pip uninstall {ORIGINAL} {NAME}, then install one",
            stacklevel=3,
        )
