"""Child side: what the server owner named -> a Gymnasium environment.

Forms, in this order: ``*.py`` is a file with `create_environment` (its folder first on ``sys.path``); in ``x:y``, `y`
is a function of module `x` if it is an identifier, else module `x` is imported and `y` is a Gymnasium id; anything else
is a registered id for `gymnasium.make`. A function gets the entrypoint's keyword arguments, and `env_id`, `render_mode`
and `enable_rendering` as far as its signature takes them.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium

from remote_gym.errors import MisuseError

FACTORY_NAME = "create_environment"

Factory = Callable[..., Any]


@dataclass(frozen=True)
class Recipe:
    """All that is needed to build one environment, but for its env_id."""

    entrypoint: str
    kwargs: dict[str, Any]
    render_mode: str | None  # of the client; the one in `kwargs` wins

    def build(self, env_id: int) -> gymnasium.Env[Any, Any]:
        """Return a new environment.

        Raises:
            MisuseError: The entrypoint cannot be used; says why.
            Exception: Whatever importing it, or the function itself, raised.
        """
        kwargs = dict(self.kwargs)
        render_mode = kwargs.get("render_mode", self.render_mode)
        kind, target = resolve(self.entrypoint)
        if kind == "id":
            if render_mode is not None:  # left out otherwise, as a local caller would
                kwargs["render_mode"] = render_mode
            env = gymnasium.make(target, **kwargs)
        else:
            kwargs.pop("render_mode", None)  # offered instead: a function need not take it
            offered = {"env_id": env_id, "render_mode": render_mode, "enable_rendering": render_mode is not None}
            env = target(**kwargs, **_accepted(target, {k: v for k, v in offered.items() if k not in kwargs}))
        if not isinstance(env, gymnasium.Env):
            raise MisuseError(
                f"the entrypoint {self.entrypoint!r} returned {type(env).__module__}.{type(env).__qualname__}, "
                f"which is no gymnasium.Env"
            )
        return env


@cache
def resolve(entrypoint: str) -> tuple[str, Any]:
    """Return ``("function", callable)`` or ``("id", gymnasium_id)``; imports what has to be imported, once.

    Raises:
        MisuseError: The file, module or function does not exist.
        Exception: Whatever the import raised.
    """
    if entrypoint.endswith(".py"):
        return "function", _function_of(_load_file(Path(entrypoint)), FACTORY_NAME, entrypoint)
    module_name, colon, rest = entrypoint.partition(":")
    if not colon:
        return "id", entrypoint
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and not (module_name == error.name or module_name.startswith(error.name + ".")):
            raise  # something that the module itself imports
        raise MisuseError(f"entrypoint {entrypoint!r}: there is no module {error.name!r} on sys.path") from error
    return ("function", _function_of(module, rest, entrypoint)) if rest.isidentifier() else ("id", rest)


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
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
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
