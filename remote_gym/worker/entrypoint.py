"""Child side: what the server owner named -> a Gymnasium environment, or a vector environment.

Forms, in this order: ``*.py`` is a file with `create_environment` (its folder first on ``sys.path``); in ``x:y``, `y`
is a function of module `x` if it is an identifier, else module `x` is imported and `y` is a Gymnasium id; anything else
is a registered id for `gymnasium.make`. A function gets the entrypoint's keyword arguments, and `env_id`, `render_mode`
and `enable_rendering` as far as its signature takes them.

A file without `create_environment` may have `create_vector_environment`, whose first argument is `num_envs`; so may a
module, and with the vectorization mode ``"vector_entry_point"`` an id is made by `gymnasium.make_vec`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable

from remote_gym.errors import MisuseError
from remote_gym.gym import Env, VectorEnv, make, make_vec

FACTORY_NAME = "create_environment"
VECTOR_FACTORY_NAME = "create_vector_environment"
VECTOR_ENTRY_POINT = "vector_entry_point"

OFFERED = ("env_id", "render_mode", "enable_rendering")
"""The server's own keyword arguments for a function."""

Factory = Callable[..., Any]


@dataclass(frozen=True)
class Recipe:
    """All that is needed to build one environment, but for its env_id."""

    entrypoint: str
    kwargs: dict[str, Any]
    render_mode: str | None  # of the client; the one in `kwargs` wins
    vectorization_mode: str | None = None

    @property
    def is_vector(self) -> bool:
        """Whether a vector environment is hosted. Imports what has to be imported; raises like `build`."""
        kind, _ = self._resolved()
        return kind == "vector function" or (kind == "id" and self.vectorization_mode == VECTOR_ENTRY_POINT)

    def build(self, env_id: int) -> Env[Any, Any]:
        """Return a new environment.

        Raises:
            MisuseError: The entrypoint cannot be used; says why.
            Exception: Whatever importing it, or the function itself, raised.
        """
        kind, target = self._resolved()
        env = make(target, **self._id_kwargs()) if kind == "id" else self._called(target, (), env_id)
        return self._checked(env, Env)  # type: ignore[no-any-return]

    def build_vector(self, num_envs: int, env_id: int) -> VectorEnv[Any, Any, Any]:
        """Return a new vector environment; raises like `build`."""
        kind, target = self._resolved()
        if kind == "id":
            env = make_vec(target, num_envs, vectorization_mode=VECTOR_ENTRY_POINT, **self._id_kwargs())
        else:
            env = self._called(target, (num_envs,), env_id)
        return self._checked(env, VectorEnv)  # type: ignore[no-any-return]

    def _resolved(self) -> tuple[str, Any]:
        return resolve(self.entrypoint, self.vectorization_mode == VECTOR_ENTRY_POINT)

    def _id_kwargs(self) -> dict[str, Any]:
        render_mode = self.kwargs.get("render_mode", self.render_mode)
        # Left out when there is none, as a local caller would.
        return self.kwargs if render_mode is None else {**self.kwargs, "render_mode": render_mode}

    def _called(self, function: Factory, args: tuple[Any, ...], env_id: int) -> Any:
        """Return what the function returns; what it cannot pass on of the server's own arguments, it is told of."""
        given = self._arguments(function, env_id)
        try:
            return function(*args, **given)
        except TypeError as error:
            added = [name for name in OFFERED if name in given and name not in self.kwargs]
            if not any(f"unexpected keyword argument '{name}'" in str(error) for name in added):
                raise
            others = ", ".join(f"{name}=None" for name in OFFERED if name != "render_mode")
            raise TypeError(
                f"{error}. The server itself adds {', '.join(OFFERED)} to what a function takes by **kwargs; what it "
                f"names is not in its kwargs, and so not passed on: def {getattr(function, '__name__', FACTORY_NAME)}("
                f"{'num_envs, ' if args else ''}{others}, **kwargs)"
            ) from error

    def _arguments(self, function: Factory, env_id: int) -> dict[str, Any]:
        kwargs = dict(self.kwargs)
        render_mode = kwargs.pop("render_mode", self.render_mode)  # offered: a function need not take it
        offered = dict(zip(OFFERED, (env_id, render_mode, render_mode is not None)))
        return {**_accepted(function, {k: v for k, v in offered.items() if k not in kwargs}), **kwargs}

    def _checked(self, env: Any, kind: type[Any]) -> Any:
        if isinstance(env, kind):
            return env
        raise MisuseError(
            f"the entrypoint {self.entrypoint!r} returned {type(env).__module__}.{type(env).__qualname__}, which is no "
            f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        )


@lru_cache(maxsize=None)
def resolve(entrypoint: str, vector: bool = False) -> tuple[str, Any]:
    """Return ``("function", callable)``, ``("vector function", callable)`` or ``("id", gymnasium_id)``.

    Imports what has to be imported, once. With `vector`, a file must have `create_vector_environment`.

    Raises:
        MisuseError: The file, module or function does not exist.
        Exception: Whatever the import raised.
    """
    if entrypoint.endswith(".py"):
        module = _load_file(Path(entrypoint))
        if vector or (not hasattr(module, FACTORY_NAME) and hasattr(module, VECTOR_FACTORY_NAME)):
            return "vector function", _function_of(module, VECTOR_FACTORY_NAME, entrypoint)
        return "function", _function_of(module, FACTORY_NAME, entrypoint)
    module_name, colon, rest = entrypoint.partition(":")
    if not colon:
        return "id", entrypoint
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and not (module_name == error.name or module_name.startswith(error.name + ".")):
            raise  # something that the module itself imports
        raise MisuseError(f"entrypoint {entrypoint!r}: there is no module {error.name!r} on sys.path") from error
    if not rest.isidentifier():
        return "id", rest
    return ("vector function" if rest == VECTOR_FACTORY_NAME else "function"), _function_of(module, rest, entrypoint)


def _load_file(path: Path) -> Any:
    path = path.resolve()
    if not path.is_file():
        raise MisuseError(f"the entrypoint file {str(path)!r} does not exist on the server")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    # Registered under its own name, so that what it defines can be found again by module name.
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    registered = sys.modules.setdefault(path.stem, module) is module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if registered:
            sys.modules.pop(path.stem, None)  # half of a module is none
        raise
    return module


def _function_of(module: Any, name: str, entrypoint: str) -> Factory:
    function = getattr(module, name, None)
    if not callable(function):
        raise MisuseError(f"the entrypoint {entrypoint!r} has no function {name!r}")
    return function  # type: ignore[no-any-return]


def _accepted(function: Factory, offered: dict[str, Any]) -> dict[str, Any]:
    """Return those keyword arguments of the server's own that `function` takes, by name or by ``**kwargs``."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return offered
    names = {parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY}
    return {name: value for name, value in offered.items() if name in names}
