"""No I/O: how the values of flags, variables and TOML keys are read, and what is said of those that are wrong."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from remote_gym.server.permissions import is_pattern
from remote_gym.server.principals import unfit_operator

NONE = "none"
"""What says that there is no limit: TOML has no null, and a shell has no None."""

NEVER = "never"
"""What says that something has no end."""
EVERY = "*"
"""What stands for all names."""

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True)
class Kind:
    """One kind of value.

    Attributes:
        metavar: What stands for a value in ``--help``.
        what: What a value is, as it follows "must be".
        from_text: Reads the text of a flag or a variable; raises `ValueError`.
        from_toml: Reads what a TOML file holds; raises `ValueError`.
        is_path: Whether text may name a file: then it is relative to the folder of the TOML file that holds it.
        choices: All values, where they are few.
        to_text: Writes a value as `from_text` reads it, where TOML has no other form of it.
        merged: Makes one value of two, where a flag may be given several times; None: the last one holds.
    """

    metavar: str
    what: str
    from_text: Callable[[str], Any]
    from_toml: Callable[[Any], Any]
    is_path: bool = False
    choices: tuple[str, ...] = ()
    to_text: Callable[[Any], str] | None = None
    merged: Callable[[Any, Any], Any] | None = None

    def refusal(self, given: object, error: ValueError) -> str:
        """Return what is said of a value that cannot be read."""
        detail = f" ({error})" if str(error) else ""
        return f"must be {self.what}, got {given!r}{detail}"

    def argument(self, text: str) -> Any:
        """Read a flag's text, as the ``type=`` of an argument; raises what `argparse` turns into a message."""
        try:
            return self.from_text(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(self.refusal(text, error)) from None


def _integer(text: str) -> int:
    if not text.removeprefix("-").isdecimal() or not text.isascii():  # int() would take " 1", "1_0" and others' digits
        raise ValueError
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError from None  # what Python says of it would be no news


def _checked(value: Any, types: tuple[type, ...], accept: Callable[[Any], bool]) -> Any:
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types) or not accept(value):
        raise ValueError
    return value


def _simple(
    metavar: str,
    what: str,
    read: Callable[[str], Any],
    types: tuple[type, ...],
    accept: Callable[[Any], bool],
    *,
    may_be_none: bool = False,
) -> Kind:
    """Return a kind that TOML has as well, of values that `accept` is true of."""

    def from_toml(value: Any) -> Any:
        return None if may_be_none and value == NONE else _checked(value, types, accept)

    def from_text(text: str) -> Any:
        return None if may_be_none and text.lower() == NONE else _checked(read(text), types, accept)

    return Kind(metavar, f"{what}, or {NONE}" if may_be_none else what, from_text, from_toml)


def integer(lowest: int, highest: int | None = None, *, metavar: str = "N", may_be_none: bool = False) -> Kind:
    """Return the kind of whole numbers of a range."""
    what = f"a whole number of at least {lowest}" if highest is None else f"a whole number from {lowest} to {highest}"

    def accept(value: int) -> bool:
        return lowest <= value and (highest is None or value <= highest)

    return _simple(metavar, what, _integer, (int,), accept, may_be_none=may_be_none)


def seconds(*, may_be_none: bool = False, may_be_zero: bool = False) -> Kind:
    """Return the kind of times."""
    what = f"a {'' if may_be_zero else 'positive '}number of seconds{', 0 or more' if may_be_zero else ''}"

    def accept(value: float) -> bool:
        return (value > 0 or (may_be_zero and value == 0)) and value < float("inf")

    return _simple("SECONDS", what, _number, (int, float), accept, may_be_none=may_be_none)


def text(metavar: str, what: str, *, is_path: bool = False) -> Kind:
    """Return the kind of text that is not empty."""
    kind = _simple(metavar, what, str, (str,), bool)
    return Kind(metavar, what, kind.from_text, kind.from_toml, is_path)


def path(*, may_be_none: bool = False) -> Kind:
    """Return the kind of paths of files."""
    kind = _simple("PATH", "a path", str, (str,), bool, may_be_none=may_be_none)
    return Kind("PATH", kind.what, kind.from_text, kind.from_toml, is_path=True)


def choice(*values: str) -> Kind:
    """Return the kind that is one of `values`."""
    what = " or ".join(map(repr, values))
    kind = _simple("|".join(values), what, str, (str,), values.__contains__)
    return Kind(kind.metavar, what, kind.from_text, kind.from_toml, choices=values)


def _boolean(given: str) -> bool:
    if given.lower() not in (*_TRUE, *_FALSE):
        raise ValueError
    return given.lower() in _TRUE


def _json_object(given: str) -> dict[str, Any]:
    try:
        value = json.loads(given)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    return _object(value)


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, str):  # in TOML: JSON has null
        return _json_object(value)
    return _checked(value, (dict,), lambda _: True)  # type: ignore[no-any-return]


def _budget(given: str) -> tuple[int, float] | None:
    if given.lower() == NONE:
        return None
    count, slash, within = given.partition("/")
    if not slash:
        raise ValueError
    return _budget_pair([_integer(count), _number(within)])


def _budget_pair(value: Any) -> tuple[int, float] | None:
    if isinstance(value, str):
        return _budget(value)
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError
    return COUNT.from_toml(value[0]), SECONDS.from_toml(value[1])


def _names(given: str) -> str | tuple[str, ...]:
    if given in (EVERY, NONE):
        return EVERY if given == EVERY else ()
    names = tuple(name.strip() for name in given.split(","))
    return _checked(names, (tuple,), lambda names: all(map(str.isidentifier, names)))  # type: ignore[no-any-return]


def _patterns(given: str) -> str | tuple[str, ...]:
    if given in (EVERY, NONE):
        return EVERY if given == EVERY else ()
    patterns = tuple(pattern.strip() for pattern in given.split(","))
    return _checked(patterns, (tuple,), lambda patterns: all(map(is_pattern, patterns)))  # type: ignore[no-any-return]


def _list_of(read: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Return what reads a list, or its text, with `read`, which reads text."""

    def from_toml(value: Any) -> Any:
        if isinstance(value, list) and all(isinstance(item, str) and "," not in item for item in value):
            return read(",".join(value)) if value else ()
        return read(_checked(value, (str,), bool))

    return from_toml


def _names_or_boolean(value: Any) -> Any:
    """Read what was a boolean once."""
    if isinstance(value, bool):
        return EVERY if value else ()
    return _list_of(_old_names)(value)


def _old_names(given: str) -> Any:
    return {"true": EVERY, "false": ()}[given.lower()] if given.lower() in ("true", "false") else _names(given)


def _variables(value: Any) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError
    return tuple(names)


def _principals(value: Any) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and unfit_operator(name) is None for name in names):
        raise ValueError
    return tuple(names)


COUNT = integer(1)
PORT = integer(0, 65535, metavar="PORT")
SECONDS = seconds()
BOOLEAN = Kind("true|false", "true or false", _boolean, lambda value: _checked(value, (bool,), lambda _: True))
JSON_OBJECT = Kind("JSON", "a JSON object, such as '{\"g\": 9.8}'", _json_object, _object)
NAMES = Kind("NAMES", f"names, such as g,task, or * for all, or {NONE}", _old_names, _names_or_boolean)
PATTERNS = Kind(
    "PATTERNS", f"names, or patterns of them, such as level,get_*, or * for all, or {NONE}", _patterns,
    _list_of(_patterns),
)  # fmt: skip
PEM = text("PEM", "the path of a PEM file", is_path=True)
PRINCIPALS = Kind(
    "NAME", "names of principals, with commas between them, such as alice,uid:1000", _principals, _principals,
    merged=lambda before, more: (*before, *more),
)  # fmt: skip
VARIABLES = Kind("VARIABLES", "names with commas between them, such as A,B", _variables, _variables)
RESTARTS = Kind("N/SECONDS", f"restarts within seconds, such as 10/60, or {NONE}", _budget, _budget_pair)
