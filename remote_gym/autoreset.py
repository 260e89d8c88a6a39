"""No I/O: the names of the autoreset modes, one more than Gymnasium has; `worker.autoreset` does what they say."""

from __future__ import annotations

from typing import Final

from remote_gym.errors import MisuseError
from remote_gym.gym import AutoresetMode

NONE: Final = "None"
"""The mode of a single `RemoteEnvironment`: every call goes to the environment as it is."""


def parse_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """Return the enum member for a member or its string.

    Raises:
        MisuseError: The string names no mode.
    """
    try:
        return mode if isinstance(mode, AutoresetMode) else AutoresetMode(mode)
    except ValueError as error:
        names = ", ".join(repr(member.value) for member in AutoresetMode)
        raise MisuseError(f"autoreset_mode={mode!r} is not one of {names}") from error
