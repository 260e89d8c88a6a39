"""Child side: calls, attributes and frames: one environment after the other, each result packed as a value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Callable

from remote_gym import values
from remote_gym.errors import CodecError
from remote_gym.failures import Failure
from remote_gym.gym import Env, Wrapper
from remote_gym.ipc.commands import PackedValues
from remote_gym.ipc.progress import Board
from remote_gym.worker.file_writers import refuse_file_writers
from remote_gym.worker.results import failure_of, invalid

MAX_RESULTS_BYTES = 256 * 2**20
"""Of one call or render over the environments here; frames of 256 CartPoles take 184 MB."""

WRAPPERS = "remote_gym.wrappers"
"""What is asked for with this name is the types of an environment's wrappers. No attribute has a name with a dot."""

Run = Callable[["Env[Any, Any]", int], Any]
"""Called with an environment and its position in the request; what it returns travels."""


def caller(name: str, arguments: Any, guarded: str = "") -> Run:
    """Return what calls the method, or reads the attribute, `name` of an environment, through its wrappers.

    With `arguments` None nothing is called: the result tells whether it is callable, or its value. Where a wrapper that
    writes files has `guarded`, that is refused.

    `WRAPPERS` is no attribute, but asks for `wrapper_types`.
    """
    if name == WRAPPERS:
        return wrapper_types
    args, kwargs = arguments or ((), {})

    def run(env: Env[Any, Any], _position: int) -> Any:
        if guarded:
            refuse_file_writers(env, guarded)
        attribute = env.get_wrapper_attr(name)
        if arguments is None:
            return {"callable": True} if callable(attribute) else {"value": attribute}
        return attribute(*args, **kwargs) if callable(attribute) else attribute

    return run


def wrapper_types(env: Env[Any, Any], _position: int = 0) -> list[str]:
    """Return ``module:name`` of the types of the wrappers around an environment, and of those they are derived from."""
    types: dict[str, None] = {}
    while isinstance(env, Wrapper):
        types.update((f"{kind.__module__}:{kind.__qualname__}", None) for kind in type(env).__mro__)
        env = env.env
    return list(types)


def setter(name: str, new: Sequence[Any]) -> Run:
    """Return what sets the attribute `name` of each environment to its item of `new`."""

    def run(env: Env[Any, Any], position: int) -> None:
        env.set_wrapper_attr(name, new[position])

    return run


def render(env: Env[Any, Any], _position: int) -> Any:
    """Return a frame of an environment."""
    return env.render()


def each(
    envs: Iterable[tuple[int, int, Env[Any, Any]]], board: Board, operation: int, run: Run, what: str
) -> PackedValues:
    """Return what `run` returns for each environment, or how it failed.

    Args:
        envs: Env index, env_id and environment.
        board: Where to show whose turn it is.
        operation: Its kind, as the board has it.
        run: What to do.
        what: What it returns, for errors.
    """
    packed: list[bytes] = []
    failures: list[Failure] = []
    left = MAX_RESULTS_BYTES
    for position, (index, env_id, env) in enumerate(envs):
        board.begin(operation, env_id)
        try:
            result = values.pack(run(env, position), what)
            left -= len(result)
            if left < 0:
                raise CodecError(f"more than {MAX_RESULTS_BYTES:,} bytes in one request: ask fewer at once", what)
            packed.append(result)
        except CodecError as error:
            packed.append(b"")
            failures.append(invalid(index, error))
        except BaseException as error:
            packed.append(b"")
            failures.append(failure_of(index, error))
    return PackedValues(packed, failures)
