"""Server process, no I/O: what the owner lets each principal have. Checked once, when the server is created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from remote_gym.errors import MisuseError

EVERYBODY = "*"
"""Stands for every principal: what is said of it holds for those of whom nothing else is said, for each of its own."""

GivenLimits = Mapping[str, Mapping[str, "float | None"]]
"""Limits as an owner writes them: principal -> quantity -> number; None: no limit."""


@dataclass(frozen=True)
class Share:
    """What one principal may have at once; None: no limit but the server's own.

    Attributes:
        sessions: Sessions, those that are being opened and those whose clients have left included.
        envs: Environments of all of them.
        workers: Worker processes that are its own.
        bytes: Bytes held in memory for it, of each kind, see `holdings`.
        opens_per_minute: Sessions that it begins to open within any 60 s, whether they can be built or not.
        lease_seconds: How long its sessions are kept without a client; None: as the server's others.
    """

    sessions: int | None = None
    envs: int | None = None
    workers: int | None = None
    bytes: int | None = None
    opens_per_minute: int | None = None
    lease_seconds: float | None = None


QUANTITIES = tuple(field.name for field in fields(Share))
"""What can be limited."""


class Limits:
    """What each principal may have.

    Attributes:
        names: The principals of whom something is said, `EVERYBODY` not among them.
    """

    def __init__(self, given: GivenLimits | None = None) -> None:
        """Take over what is given: of a principal what is said of it, and for the rest what is said of `EVERYBODY`.

        Raises:
            MisuseError: Something is no limit; names it.
        """
        given = {} if given is None else given
        if not isinstance(given, Mapping):
            raise MisuseError(f"limits must be a dict such as {{'*': {{'envs': 64}}}}, got {given!r}")
        for name, quantities in given.items():
            _check(name, quantities)
        self._everybody = Share(**given.get(EVERYBODY, {}))  # type: ignore[arg-type]
        default = asdict(self._everybody)
        self._shares = {
            name: Share(**{**default, **quantities}) for name, quantities in given.items() if name != EVERYBODY
        }
        self.names = tuple(self._shares)

    def of(self, name: str) -> Share:
        """Return what the principal `name` may have."""
        return self._shares.get(name, self._everybody)


def _check(name: Any, quantities: Any) -> None:
    if not isinstance(name, str) or not name:
        raise MisuseError(f"limits must name principals, or '*' for all others, got {name!r}")
    if not isinstance(quantities, Mapping):
        raise MisuseError(f"limits[{name!r}] must be a dict such as {{'envs': 64}}, got {quantities!r}")
    for quantity, number in quantities.items():
        if quantity not in QUANTITIES:
            known = ", ".join(QUANTITIES)
            raise MisuseError(f"limits[{name!r}] limits {quantity!r}, of which there is none; there are {known}")
        _check_number(f"limits[{name!r}][{quantity!r}]", quantity, number)


def _check_number(what: str, quantity: str, number: Any) -> None:
    if number is None:
        return
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    if quantity == "lease_seconds":
        if not is_number or not 0 < number < float("inf"):
            raise MisuseError(f"{what} must be a positive number of seconds, or None, got {number!r}")
        return
    lowest = 1 if quantity == "workers" else 0
    if not is_number or not isinstance(number, int) or number < lowest:
        raise MisuseError(f"{what} must be a whole number of at least {lowest}, or None, got {number!r}")
