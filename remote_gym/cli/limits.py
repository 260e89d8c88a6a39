"""No I/O: limits of principals as they are written in a terminal, ``alice:envs=512,sessions=8``, and read again."""

from __future__ import annotations

from typing import Any

from remote_gym.cli.kinds import COUNT, NONE, SECONDS, Kind
from remote_gym.errors import MisuseError
from remote_gym.server.limits import QUANTITIES, Limits

Given = dict[str, dict[str, Any]]


def _number(quantity: str, text: str) -> float | None:
    if text.lower() == NONE:
        return None
    if text == "0":
        return 0  # which of some quantities makes sense
    try:
        number: float = (SECONDS if quantity == "lease_seconds" else COUNT).from_text(text)
    except ValueError:
        raise ValueError(f"{quantity} cannot be {text!r}") from None
    return number


def _quantities(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in text.split(","):
        quantity, equals, number = (part.strip() for part in one.partition("="))
        if not equals or quantity not in QUANTITIES:
            raise ValueError(f"{one.strip()!r} is none of {', '.join(f'{name}=N' for name in QUANTITIES)}")
        if quantity in found:
            raise ValueError(f"{quantity} stands there twice")
        found[quantity] = _number(quantity, number)
    return found


def _from_text(text: str) -> Given:
    found: Given = {}
    for one in text.split(";"):
        name, colon, quantities = one.rpartition(":")  # the name may be a URI
        if not colon:
            raise ValueError
        if not name.strip():
            raise ValueError(f"{one.strip()!r} names nobody")
        found = _merged(found, {name.strip(): _quantities(quantities)})
    return _checked(found)


def _checked(given: Any) -> Given:
    try:
        Limits(given)
    except MisuseError as error:
        raise ValueError(str(error)) from None
    return {name: dict(quantities) for name, quantities in given.items()}


def _from_toml(value: Any) -> Given:
    if isinstance(value, str):
        return _from_text(value)
    if not isinstance(value, dict) or not all(isinstance(quantities, dict) for quantities in value.values()):
        raise ValueError
    return _checked(
        {
            name: {quantity: None if number == NONE else number for quantity, number in quantities.items()}
            for name, quantities in value.items()
        }
    )


def _to_text(given: Given) -> str:
    return ";".join(
        f"{name}:{','.join(f'{quantity}={_written(number)}' for quantity, number in quantities.items())}"
        for name, quantities in given.items()
        if quantities
    )


def _written(number: float | None) -> str:
    return NONE if number is None else str(number).removesuffix(".0")


def _merged(given: Given, more: Given) -> Given:
    """Return what is said in two places; what is said of the same quantity of the same name last holds."""
    names = [*given, *(name for name in more if name not in given)]
    return {name: {**given.get(name, {}), **more.get(name, {})} for name in names}


LIMITS = Kind(
    "NAME:QUANTITY=N",
    "limits of principals, such as alice:envs=512,sessions=8 (; between several, * for all others)",
    _from_text,
    _from_toml,
    to_text=_to_text,
    merged=_merged,
)
