"""No I/O: what a client asks for -> the command its workers get, or a refusal that says why not.

Everything a request can get wrong is found here, before anything is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gymnasium import spaces

from remote_gym import values
from remote_gym.batches import Call, Failure, Indices, Render, Request, Reset, Step
from remote_gym.errors import CodecError
from remote_gym.leaves import leaves_of, variable_leaves_of

_ATTRIBUTE_ACCESS = frozenset({"get_wrapper_attr", "set_wrapper_attr", "has_wrapper_attr"})
"""Methods of every environment that would reach private names through their first argument."""

Command = Callable[[Sequence[int]], tuple[Any, ...]]
"""Positions within the request's indices, those of one worker -> the name and arguments of its command."""


class RefusalError(Exception):
    """A request or an opening cannot be done; nothing was executed."""

    def __init__(self, limit: str, message: str, failure: Failure | None = None) -> None:
        """State the limit or rule, what to do, and the failed environment if that is why."""
        self.limit = limit
        self.failure = failure
        super().__init__(message)


class RequestChecker:
    """Checks the requests of one session."""

    def __init__(self, num_envs: int, action_space: spaces.Space[Any], is_vector: bool) -> None:
        """Check against this many environments with this (single) action space.

        Those of a hosted vector environment (`is_vector`) are asked only together.
        """
        self._is_vector = is_vector
        self._num_envs = num_envs
        self._action_leaves = leaves_of(action_space)
        self._variable_leaves = variable_leaves_of(action_space)

    def command(self, request: Request) -> Command:
        """Return what to tell the workers.

        Raises:
            RefusalError: The request is wrong; says what.
        """
        self._check_indices(request.indices)
        if self._is_vector and request.indices is not None:
            raise RefusalError("request", "a hosted vector environment takes requests over all its environments only")
        return _CHECKS[type(request)](self, request)

    def _check_indices(self, indices: Indices) -> None:
        if indices is not None and (
            len(set(indices)) != len(indices) or max(indices) >= self._num_envs or min(indices) < 0
        ):
            raise RefusalError("request", f"env indices must be distinct and below {self._num_envs}")

    def _count(self, request: Request) -> int:
        return self._num_envs if request.indices is None else len(request.indices)

    def _step(self, request: Step) -> Command:
        count = self._count(request)
        if len(request.actions) != len(self._action_leaves):
            raise RefusalError("request", f"{len(request.actions)} action leaves, expected {len(self._action_leaves)}")
        for leaf, data in zip(self._action_leaves, request.actions, strict=True):
            if len(data) != count * leaf.row_bytes:
                expected = count * leaf.row_bytes
                raise RefusalError(
                    "request", f"action{leaf} has {len(data)} bytes for {count} environments, expected {expected}"
                )
        if not self._variable_leaves:
            return lambda _positions: ("step", b"")
        rows = _unpacked(request.variable, "variable actions")
        width = len(self._variable_leaves)
        if (
            not isinstance(rows, list)
            or len(rows) != count
            or any(type(r) is not list or len(r) != width for r in rows)
        ):
            raise RefusalError("request", f"variable actions must be a list of {count} lists of {width} elements")
        return lambda positions: ("step", values.pack([rows[position] for position in positions], "actions"))

    def _reset(self, request: Reset) -> Command:
        count = self._count(request)
        if self._is_vector:
            return lambda _positions: ("reset", bytes(request.seeds), bytes(request.options))
        seeds = _unpacked(request.seeds, "seeds") if request.seeds else [None] * count
        if not isinstance(seeds, list) or len(seeds) != count or not all(map(_is_seed, seeds)):
            raise RefusalError("request", f"seeds must be a list of {count} integers or nil")
        if request.options and not isinstance(_unpacked(request.options, "options"), dict):
            raise RefusalError("request", "options must be a map")
        options = bytes(request.options)

        def command(positions: Sequence[int]) -> tuple[Any, ...]:
            own = values.pack([seeds[position] for position in positions]) if request.seeds else b""
            return "reset", own, options

        return command

    def _call(self, request: Call) -> Command:
        if request.name.startswith("_") or not request.name:
            raise RefusalError("request", f"the name {request.name!r} is private: it cannot be reached from outside")
        if request.values is not None:
            return self._set(request, request.values)
        if not request.arguments:  # look at the attribute, call nothing
            return lambda _positions: ("call", request.name, b"")
        arguments = _unpacked(request.arguments, "arguments")
        if not (isinstance(arguments, list) and list(map(type, arguments)) == [list, dict]):
            raise RefusalError("request", "arguments must be an array [positional array, keyword map]")
        if request.name in _ATTRIBUTE_ACCESS and str(next(iter(arguments[0]), "")).startswith("_"):
            raise RefusalError("request", f"the name {arguments[0][0]!r} is private: it cannot be reached from outside")
        packed = bytes(request.arguments)
        return lambda _positions: ("call", request.name, packed)

    def _set(self, request: Call, packed: bytes) -> Command:
        new = _unpacked(packed, "values")
        if not isinstance(new, list) or len(new) != self._count(request):
            raise RefusalError("request", f"values must be a list of {self._count(request)}")
        return lambda positions: ("set", request.name, values.pack([new[position] for position in positions]))

    def _render(self, _request: Render) -> Command:
        return lambda _positions: ("render",)


_CHECKS: dict[type[Any], Callable[[RequestChecker, Any], Command]] = {
    Step: RequestChecker._step,
    Reset: RequestChecker._reset,
    Call: RequestChecker._call,
    Render: RequestChecker._render,
}


def _unpacked(data: bytes, name: str) -> Any:
    try:
        return values.unpack(data, name)
    except CodecError as error:
        raise RefusalError("request", str(error)) from error


def _is_seed(seed: Any) -> bool:
    return seed is None or type(seed) is int
