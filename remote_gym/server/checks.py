"""No I/O: what a client asks for -> the command its workers get, or a refusal that says why not.

What a request can get wrong is found here, before anything is executed. Packed values are looked at by `survey` and
forwarded as they came: nothing of a peer's bytes becomes a value in this process. What only building them shows, a
dtype that does not exist for example, the worker finds, as a failure of the environments concerned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from remote_gym.leaves import Leaf, leaves_of, of_dtypes, rows_at, variable_leaves_of
from remote_gym.messages import Call, Render, Request, Reset, Step
from remote_gym.pool import CallGroup, Command, RenderGroup, ResetGroup, SetGroup, StepGroup
from remote_gym.server.permissions import Permissions
from remote_gym.server.refusals import RefusalError
from remote_gym.texts import MAX_NAME_BYTES, is_private, printable
from remote_gym.values.scanning import Survey, survey

_SETTERS = frozenset({"set_wrapper_attr", "set_attr"})
_ACCESS = frozenset({"get_wrapper_attr", "set_wrapper_attr", "has_wrapper_attr"})
_VECTOR_ACCESS = _ACCESS | {"call", "call_async", "get_attr", "set_attr"}
"""Methods of an environment, and of a hosted vector environment, whose argument `name` is the name of another."""

MAX_NAMES = 1_000
"""Keyword arguments of an environment or a call; each name is looked at, which takes a microsecond."""

_INTEGERS = frozenset({"int", "extension 16"})
"""Kinds of packed values, as `Survey` names them."""


class Layout(NamedTuple):
    """How the packed rows of actions lie.

    Attributes:
        leaves: Of the action space, with the dtypes of these rows.
        row_bytes: Of each leaf.
        bools: Which of them are bool.
    """

    leaves: Sequence[Leaf]
    row_bytes: list[int]
    bools: list[int]

    @classmethod
    def of(cls, leaves: Sequence[Leaf]) -> Layout:
        """Return the layout of rows of these leaves."""
        bools = [number for number, leaf in enumerate(leaves) if leaf.dtype == np.bool_]
        return cls(leaves, [leaf.row_bytes for leaf in leaves], bools)


class TypedRows:
    """The packed rows of a step whose dtypes are not all the space's: they fit no shared row, and go to the workers."""

    def __init__(self, actions: Sequence[Any], layout: Layout, count: int) -> None:
        """Divide `actions`, `count` rows for each leaf."""
        sizes = layout.row_bytes
        self._rows = [np.ndarray((count, size), np.uint8, data) for data, size in zip(actions, sizes, strict=True)]

    def select(self, positions: Sequence[int]) -> bytes:
        """Return the rows at `positions`, one leaf after the other."""
        where = rows_at(positions)
        return b"".join([rows[where].tobytes() for rows in self._rows])


class Order(NamedTuple):
    """What the workers are to do; the command of a group begins with its number and its env indices.

    Attributes:
        kind: The command's.
        values: What has one element, or row, per environment of the request: a group's portion of it is the command's
            third field. None: there is no such field.
        fields: The command's other fields.
    """

    kind: Callable[..., Command]
    values: Survey | TypedRows | None
    fields: tuple[Any, ...]


MAX_INTS = 256
"""Different actions of a single environment, each a plain int, whose order is remembered."""


class RequestChecker:
    """Checks the requests of one session."""

    def __init__(
        self, num_envs: int, action_space: spaces.Space[Any], is_vector: bool, permissions: Permissions
    ) -> None:
        """Check against this many environments with this (single) action space, for a client with `permissions`.

        Those of a hosted vector environment (`is_vector`) are asked only together.
        """
        self._is_vector = is_vector
        self._permissions = permissions
        self._num_envs = num_envs
        self._layout = Layout.of(leaves_of(action_space))
        self._variable_leaves = variable_leaves_of(action_space)
        self._ints: dict[bytes, Order] = {}  # of a single environment, by its packed action

    def check(self, request: Request) -> Order:
        """Return what its workers are to do.

        Raises:
            RefusalError: The request is wrong; says what.
        """
        if request.indices is not None:
            self._check_indices(request.indices)
        return _CHECKS[type(request)](self, request)

    def _check_indices(self, indices: Sequence[int]) -> None:
        if len(set(indices)) != len(indices) or max(indices) >= self._num_envs or min(indices) < 0:
            raise RefusalError("request", f"env indices must be distinct and below {self._num_envs}")
        if self._is_vector:
            raise RefusalError("request", "a hosted vector environment takes requests over all its environments only")

    def _count(self, request: Request) -> int:
        return self._num_envs if request.indices is None else len(request.indices)

    def _step(self, request: Step) -> Order:
        if request.given:
            return self._given(request)
        count, layout = self._count(request), self._layout
        if request.dtypes:
            layout = self._typed(request.dtypes)
        _check_rows(request.actions, layout, count)
        if request.dtypes:
            return Order(StepGroup, TypedRows(request.actions, layout, count), (request.dtypes,))
        if not self._variable_leaves:
            return _PLAIN_STEP
        elements = _surveyed(request.variable, "variable actions")
        width = len(self._variable_leaves)
        if elements.kind != "list" or len(elements) != count or not elements.is_table(width):
            raise RefusalError("request", f"variable actions must be a list of {count} lists of {width} elements")
        return Order(StepGroup, elements, ())

    def _typed(self, dtypes: bytes) -> Layout:
        """Return how rows of these dtypes lie."""
        leaves = self._layout.leaves
        if self._variable_leaves:
            raise RefusalError("request", "dtypes are for action spaces whose leaves are all of fixed size")
        if len(dtypes) != len(leaves):
            raise RefusalError("request", f"{len(dtypes)} dtypes for {len(leaves)} action leaves")
        try:
            return Layout.of(of_dtypes(leaves, dtypes))
        except KeyError as error:
            raise RefusalError("request", f"there is no dtype of code {error}") from None

    def _given(self, request: Step) -> Order:
        if request.actions or request.variable or request.dtypes:
            raise RefusalError("request", "actions as they were given, and others beside them")
        given, count = bytes(request.given), 1 if self._is_vector else self._count(request)
        if count == 1 and given in self._ints:
            return self._ints[given]
        actions = _surveyed(given, "actions")
        if actions.kind != "list" or len(actions) != count:
            raise RefusalError("request", f"actions as they were given must be a list of {count}")
        if count > 1:
            return Order(StepGroup, actions, (None,))
        order = Order(StepGroup, None, (given, None))
        if len(self._ints) < MAX_INTS and actions.kinds() == ["int"]:
            self._ints[given] = order
        return order

    def _reset(self, request: Reset) -> Order:
        seeds, options = bytes(request.seeds), bytes(request.options)
        if self._is_vector:
            for packed, name in ((seeds, "seeds"), (options, "options")):
                if packed:
                    _surveyed(packed, name)
            return Order(ResetGroup, None, (seeds, options))
        if options:
            _surveyed(options, "options")
        if not seeds:
            return Order(ResetGroup, None, (b"", options))
        count, rows = self._count(request), _surveyed(seeds, "seeds")
        if rows.kind != "list" or len(rows) != count or not set(rows.kinds()) <= _INTEGERS | {"nil"}:
            raise RefusalError("request", f"seeds must be a list of {count} integers or nil")
        return Order(ResetGroup, rows, (options,))

    def _call(self, request: Call) -> Order:
        _check_name(request.name)
        if request.values is not None:
            return self._set(request, request.values)
        if not request.arguments:  # look at the attribute, call nothing
            looked_at = request.name if self._permissions.check_call(request.name) else ""
            return Order(CallGroup, None, (request.name, b"", looked_at))
        packed = bytes(request.arguments)
        arguments = _surveyed(packed, "arguments")
        if arguments.kind != "list" or len(arguments) != 2 or arguments.kinds() != ["list", "map"]:
            raise RefusalError("request", "arguments must be an array [positional array, keyword map]")
        _check_count(len(arguments.element(1)) // 2, "keywords")
        if request.name in _VECTOR_ACCESS:  # each may be a name of the next
            _check_count(len(arguments.element(0)), "arguments")
        access = _VECTOR_ACCESS if self._is_vector else _ACCESS
        touched = _reached(request.name, access, arguments.element(0), arguments.element(1))
        if touched.is_set:
            for name in touched.names:
                self._permissions.check_set(name)
            return Order(CallGroup, None, (request.name, packed, ""))
        guarded = [name for name in touched.names if self._permissions.check_call(name)][-1:] or [""]
        return Order(CallGroup, None, (request.name, packed, *guarded))

    def _set(self, request: Call, packed: bytes) -> Order:
        self._permissions.check_set(request.name)
        new = _surveyed(bytes(packed), "values")
        if new.kind != "list" or len(new) != self._count(request):
            raise RefusalError("request", f"values must be a list of {self._count(request)}")
        return Order(SetGroup, new, (request.name,))

    def _render(self, _request: Render) -> Order:
        return Order(RenderGroup, None, ())


_PLAIN_STEP = Order(StepGroup, None, (b"",))

_CHECKS: dict[type[Any], Callable[[RequestChecker, Any], Order]] = {
    Step: RequestChecker._step,
    Reset: RequestChecker._reset,
    Call: RequestChecker._call,
    Render: RequestChecker._render,
}


def _check_rows(actions: Sequence[Any], layout: Layout, count: int) -> None:
    """Refuse what are no packed rows of `count` environments."""
    leaves, sizes, bools = layout
    if len(actions) != len(leaves):
        raise RefusalError("request", f"{len(actions)} action leaves, expected {len(leaves)}")
    for number, (data, row_bytes) in enumerate(zip(actions, sizes, strict=True)):
        if len(data) != count * row_bytes:
            raise RefusalError(
                "request",
                f"action{leaves[number]} has {len(data)} bytes for {count} environments, expected {count * row_bytes}",
            )
    for number in bools:  # of which NumPy relies on being 0 or 1
        if np.frombuffer(actions[number], np.uint8).max(initial=0) > 1:
            raise RefusalError("request", f"action{leaves[number]} holds a bool that is not 0 or 1")


def _check_count(count: int, what: str) -> None:
    """Refuse more names than are looked at one by one."""
    if count > MAX_NAMES:
        raise RefusalError("request", f"{count:,} {what}, the most is {MAX_NAMES:,}")


def _check_name(name: str) -> None:
    if is_private(name):
        raise RefusalError("request", f"the name {printable(name)!r} is private: it cannot be reached from outside")


class _Reached(NamedTuple):
    """What a call touches in the end.

    Attributes:
        names: Of the attribute; more than one where the argument is given more than once.
        is_set: Whether it is set.
    """

    names: list[str]
    is_set: bool


def _reached(name: str, access: frozenset[str], positional: Survey, keywords: Survey) -> _Reached:
    """Return what a method touches, by itself or by its own argument, directly or through others of its kind.

    Raises:
        RefusalError: A name on the way is private.
    """
    is_set = False
    for position in range(len(positional)):
        if name not in access:
            return _Reached([name], is_set)
        is_set = is_set or name in _SETTERS
        name = _name_in(positional, position)
    if name not in access:
        return _Reached([name], is_set)
    given = [
        _name_in(keywords, number + 1)
        for number in range(0, len(keywords), 2)
        if keywords.text(number, MAX_NAME_BYTES) == "name"
    ]
    return _Reached(given or [name], is_set or name in _SETTERS)


def _name_in(arguments: Survey, number: int) -> str:
    name = arguments.text(number, MAX_NAME_BYTES)
    if name is None:
        raise RefusalError("request", f"the name of an attribute must be text of at most {MAX_NAME_BYTES} bytes")
    _check_name(name)
    return name


def surveyed_kwargs(packed: bytes) -> list[str]:
    """Return the names of packed keyword arguments.

    Raises:
        RefusalError: They are no map whose keys are short text.
    """
    kwargs = _surveyed(packed, "remote_args['entrypoint_kwargs']")
    if kwargs.kind == "map":
        _check_count(len(kwargs) // 2, "remote_args['entrypoint_kwargs']")
    names = [kwargs.text(number, MAX_NAME_BYTES) for number in range(0, len(kwargs), 2)] if kwargs.kind == "map" else []
    if kwargs.kind != "map" or None in names:
        raise RefusalError(
            "request",
            f"remote_args['entrypoint_kwargs'] must be a dict whose keys are strings of at most {MAX_NAME_BYTES} bytes",
        )
    return [name for name in names if name is not None]


def _surveyed(data: bytes, name: str) -> Survey:
    try:
        return survey(bytes(data))
    except ValueError as error:
        raise RefusalError("request", f"{name}: malformed packed value: {error}") from error
