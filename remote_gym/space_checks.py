"""No I/O: what a description of spaces (`remote_gym.spaces`) may ask for; decided before anything is built.

A description comes from a peer: a server that a client meets for the first time, a worker that runs anybody's code. It
is examined in Python's ints, so that no number in it overflows, and in sum, so that many spaces below a limit do not
exceed it together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Dict, Tuple, Union

import numpy as np

from remote_gym.errors import MisuseError
from remote_gym.leaves import MAX_SPACE_DEPTH
from remote_gym.texts import MAX_NAME_BYTES, shortened
from remote_gym.values import MAX_AXES, simple_dtype

Fields = Dict[str, Any]
Path = Tuple[Union[str, int], ...]

MAX_SPACE_NODES = 4_096
"""Spaces in one description, nested ones included; bounds what a description from the network can build."""

MAX_SPACE_BYTES = 512 * 1024 * 1024
"""Bytes that all arrays of the spaces of one description take: of a Box both bounds and two masks of Gymnasium's. The
images of a rig of cameras, 64 MiB of bytes, take half of it."""

MAX_TEXT_CHARACTERS = 65_536
"""Characters to choose from in one Text space; Gymnasium keeps them in a table of some 400 bytes each."""

MAX_TEXT_LENGTH = 2**63 - 1
"""Characters of one text: far beyond any message, and within every integer that counts them."""

GENERATOR_BYTES = 16
"""Of each of the two numbers that are the state of a PCG64."""

_BESIDE_THE_KIND = frozenset({"generator", "type", "by_base"})
_NODE_BYTES = 2_048  # of a space without its arrays
_BATCH_COPIES = 3  # of a space in a stacked Sequence or a Graph, which make a batch of it while they are built


def kind_in(data: Any) -> Any:
    """Return the kind of the space that `data` describes.

    Raises:
        ValueError: There is none, or more than one.
    """
    (kind,) = data.keys() - _BESIDE_THE_KIND
    return kind


def keys_in(fields: Fields) -> list[Any]:
    """Return the keys of a Dict."""
    return [*fields.get("keys", ()), *fields.get("numbers", ())]


def said_by(error: Exception) -> str:
    """Return what an error says, in bounds."""
    return shortened(f"{type(error).__name__}: {error}", 400)


def examine(data: Any) -> None:
    """Check a description, whatever it is.

    Raises:
        MisuseError: It may not be built: malformed, of an unknown kind, or beyond one of the limits above.
    """
    audit = _Audit()
    try:
        audit.space(data, (), 1)
    except MisuseError as error:
        raise MisuseError(f"{error}{audit}") from error
    except Exception as error:  # a field is missing or of another type
        raise MisuseError(f"malformed space description{audit}: {said_by(error)}") from error


class _Audit:
    """Adds up what building a description takes, before anything is built."""

    def __init__(self) -> None:
        self.nodes = MAX_SPACE_NODES
        self.bytes = MAX_SPACE_BYTES
        self.path: Path = ()

    def __str__(self) -> str:
        """Where the space is that was examined last."""
        where = "".join(f"[{part!r}]" for part in self.path)
        return where and f" at {shortened(where, 400)}"

    def space(self, data: Any, path: Path, copies: int) -> None:
        """Examine one space, of which `copies` are made."""
        self.path = path
        kind = kind_in(data)
        if kind not in _EXAMINERS:
            raise MisuseError(f"unknown kind of space {str(kind)[:40]!r}: the peer is newer, upgrade this side")
        self.nodes -= copies
        if self.nodes < 0:
            raise MisuseError(f"a space description holds more than {MAX_SPACE_NODES:,} spaces")
        self.take(_NODE_BYTES * copies)
        if data.get("generator") is not None:
            _examine_generator(data["generator"])
        _examine_type(data.get("type", ""), data.get("by_base", False))
        _EXAMINERS[kind](self, data[kind], path, copies)

    def children(self, children: Any, path: Path, copies: int, names: Iterable[str | int] | None = None) -> None:
        """Examine the spaces in a space."""
        if len(path) >= MAX_SPACE_DEPTH:
            raise MisuseError(f"the space is nested deeper than {MAX_SPACE_DEPTH} levels")
        for name, child in zip(range(len(children)) if names is None else names, children):
            self.space(child, (*path, name), copies)

    def take(self, nbytes: int) -> None:
        """Account for bytes."""
        self.bytes -= nbytes
        if self.bytes < 0:
            raise MisuseError(f"a space is too large: all arrays of its spaces take over {MAX_SPACE_BYTES:,} bytes")

    def array(self, fields: Fields, bytes_each: int, copies: int) -> int:
        """Account for the elements of an array of the shape in `fields`; return their number."""
        shape = fields["shape"]
        if len(shape) > MAX_AXES:
            raise MisuseError(f"a space has more than {MAX_AXES} axes")
        count = room = 1
        for length in shape:
            if type(length) is not int or not 0 <= length < 2**64:
                raise MisuseError("a space has an axis of a length that is negative or no integer")
            count *= length
            room *= length or 1  # some versions of NumPy reserve memory as if
        self.take(room * bytes_each * copies)
        return count


def _dtype(fields: Fields, kinds: str) -> np.dtype[Any]:
    name = fields["dtype"]
    try:
        dtype = simple_dtype(name)
    except MisuseError:
        dtype = None
    if dtype is None or dtype.kind not in kinds or name[0] not in "<|":
        raise MisuseError(f"the dtype {str(name)[:40]!r} is not allowed in this space")
    return dtype


def _examine_elements(data: Any, dtype: np.dtype[Any], count: int, shape: Any) -> None:
    """The bytes of `count` elements, or of the one that stands for all."""
    if type(data) is not bytes or len(data) % dtype.itemsize:
        raise ValueError(f"no bytes of elements of {dtype}")
    given = len(data) // dtype.itemsize
    if given not in (1, count):
        raise MisuseError(f"a space of shape {tuple(shape)} came with {given} values")


def _examine_generator(fields: Fields) -> None:
    for number in (fields["state"], fields["increment"]):
        if type(number) is not bytes or len(number) != GENERATOR_BYTES:
            raise ValueError(f"the state of a generator that is no two times {GENERATOR_BYTES} bytes")
    if not fields["increment"][0] & 1:
        raise ValueError("the increment of a generator is even")
    if type(fields.get("has_uint32", False)) is not bool:
        raise ValueError("a generator that neither has nor lacks half of its last number")
    for field in ("uinteger", "number"):
        value = fields.get(field, 0)
        if type(value) is not int or not 0 <= value < 2**32:
            raise ValueError(f"the {field} of a generator is none of 32 bits")


def _examine_type(name: Any, by_base: Any) -> None:
    if type(name) is not str or len(name) > MAX_NAME_BYTES or type(by_base) is not bool:
        raise ValueError(f"the type of a space is no name of at most {MAX_NAME_BYTES} characters")
    _examine_text_itself(name, "the type of a space")


def _examine_box(audit: _Audit, fields: Fields, _path: Path, copies: int) -> None:
    dtype = _dtype(fields, "iufb")
    count = audit.array(fields, 2 * dtype.itemsize + 2, copies)
    for bound in ("low", "high"):
        _examine_elements(fields[bound], dtype, count, fields["shape"])
    for missing in ("unbounded_below", "unbounded_above"):
        if flags := fields.get(missing, b""):
            _examine_elements(flags, np.dtype(np.bool_), count, fields["shape"])
            if dtype.kind not in "iu" or flags.strip(b"\0\1"):
                raise ValueError("an element that is neither with nor without a bound")


def _examine_discrete(_audit: _Audit, fields: Fields, _path: Path, _copies: int) -> None:
    dtype = _dtype(fields, "iu")
    for field in ("n", "start"):
        _examine_elements(fields[field], dtype, 1, ())


def _examine_multi_discrete(audit: _Audit, fields: Fields, _path: Path, copies: int) -> None:
    dtype = _dtype(fields, "iu")
    count = audit.array(fields, 2 * dtype.itemsize + 2, copies)
    for field in ("nvec", "start"):
        _examine_elements(fields[field], dtype, count, fields["shape"])


def _examine_multi_binary(audit: _Audit, fields: Fields, _path: Path, copies: int) -> None:
    audit.array(fields, 1, copies)


def _examine_text(audit: _Audit, fields: Fields, _path: Path, copies: int) -> None:
    low, high, characters = fields["min_length"], fields["max_length"], fields["characters"]
    if not type(low) is type(high) is int or not 0 <= low <= high <= MAX_TEXT_LENGTH:
        raise MisuseError(f"the lengths of a Text space must be from 0 to {MAX_TEXT_LENGTH:,}")
    if len(characters) > MAX_TEXT_CHARACTERS:
        raise MisuseError(f"a Text space has more than {MAX_TEXT_CHARACTERS:,} characters to choose from")
    _examine_text_itself(characters, "the characters of a Text space")
    audit.take(400 * len(characters) * copies)


def _examine_text_itself(text: Any, what: str) -> None:
    try:
        str.encode(text)
    except UnicodeEncodeError:
        raise MisuseError(f"{what} hold a lone surrogate, which UTF-8 cannot carry") from None


def _examine_sequence(audit: _Audit, fields: Fields, path: Path, copies: int) -> None:
    audit.children([fields["feature"]], path, copies * _BATCH_COPIES if fields.get("stack") else copies)


def _examine_graph(audit: _Audit, fields: Fields, path: Path, copies: int) -> None:
    both = [space for space in (fields["node"], fields.get("edge")) if space is not None]
    audit.children(both, path, copies * _BATCH_COPIES)


def _examine_one_of(audit: _Audit, fields: Fields, path: Path, copies: int) -> None:
    if not fields.get("spaces"):
        raise ValueError("a OneOf of no spaces")
    audit.children(fields["spaces"], path, copies)


def _examine_tuple(audit: _Audit, fields: Fields, path: Path, copies: int) -> None:
    audit.children(fields.get("spaces", ()), path, copies)


def _examine_dict(audit: _Audit, fields: Fields, path: Path, copies: int) -> None:
    keys, children = keys_in(fields), fields.get("spaces", ())
    texts = len(fields.get("keys", ()))
    if len(keys) != len(children) or texts not in (0, len(keys)) or len(set(keys)) < len(keys):
        raise ValueError("a Dict needs one key per space, all str or all int, no two equal")
    if not {str if texts else int}.issuperset(map(type, keys)):
        raise ValueError("a key of a Dict is neither str nor int")
    for key in keys:
        if type(key) is str:
            _examine_text_itself(key, f"the key {key[:40]!r} of a Dict space")
            audit.take(4 * len(key) * copies)
        elif not -(2**63) <= key < 2**63:
            raise ValueError("a key of a Dict is an int of more than 64 bits")
    audit.children(children, path, copies, keys)


_EXAMINERS: dict[Any, Callable[[_Audit, Fields, Path, int], None]] = {
    "box": _examine_box,
    "discrete": _examine_discrete,
    "multi_discrete": _examine_multi_discrete,
    "multi_binary": _examine_multi_binary,
    "text": _examine_text,
    "sequence": _examine_sequence,
    "graph": _examine_graph,
    "one_of": _examine_one_of,
    "tuple": _examine_tuple,
    "dict": _examine_dict,
}
