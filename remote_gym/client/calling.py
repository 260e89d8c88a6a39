"""Trainer process: the part of `RemoteVectorEnv` that reaches methods and attributes of its environments."""

from __future__ import annotations

from typing import Any

from remote_gym.client.batch_arguments import each_value, whose
from remote_gym.client.dialled import Dialled
from remote_gym.client.remote import Remote
from remote_gym.errors import MisuseError


class Calling:
    """`call`, `get_attr` and `set_attr`.

    Everywhere `indices` are the env indices of those concerned, (rows,) distinct integers in any order; None: all. A
    hosted vector environment is called as a whole: there `indices` may only be all of them, in order.
    """

    _remote: Remote
    num_envs: int

    def call(self, name: str, *args: Any, indices: Any = None, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of each environment, through its wrappers; an attribute that is no method is returned.

        Args:
            name: Of the method.
            args: For it.
            indices: Env indices of those to call, (rows,) distinct integers; None: all. A method that has a parameter
                of this name takes it by position only.
            kwargs: For it.

        Returns:
            The result of each, in the order of `indices`.

        Raises:
            MisuseError: The name begins with an underscore, an argument cannot travel, or `indices` are wrong.
            EnvironmentRaised: A method raised, or its result cannot travel.
        """
        dialled, chosen = self._free("call", indices)
        return tuple(dialled.calls.call(name, args, kwargs, chosen))

    def call_async(self, name: str, *args: Any, indices: Any = None, **kwargs: Any) -> None:
        """Begin what `call` does; `call_wait` gives its result."""
        dialled, chosen = self._free("call", indices)
        dialled.turns.begin("call", begun=dialled.calls.begin(name, args, kwargs, chosen))

    def call_wait(self, timeout: float | None = None) -> tuple[Any, ...]:
        """Wait for what `call_async` began; `timeout` and errors as with `step_wait`, and those of `call`."""
        dialled = self._remote.awaited("call")
        with dialled.turns.ending("call", timeout):
            return tuple(dialled.calls.gather(dialled.turns.begun, timeout))

    def get_attr(self, name: str, indices: Any = None) -> tuple[Any, ...]:
        """Return an attribute of each environment; see `call`."""
        return self.call(name, indices=indices)

    def set_attr(self, name: str, values: Any, indices: Any = None) -> None:
        """Set an attribute of each environment: a list or tuple gives each its own value, anything else all the same.

        Args:
            name: Of the attribute.
            values: One for each of `indices`, or one for all of them.
            indices: As for `call`.

        Raises:
            MisuseError: The name begins with an underscore, the number of values is wrong, one cannot travel, or
                `indices` are wrong.
        """
        each = each_value(values, self.num_envs if indices is None else len(whose(indices, self.num_envs) or ()))
        dialled, chosen = self._free("set_attr", indices)
        dialled.calls.set_attribute(name, each, chosen)

    def _free(self, name: str, indices: Any) -> tuple[Dialled, list[int] | None]:
        """Return what `Remote.free` does, and whom to call; frames that came before show the past from now on."""
        dialled = self._remote.free(name)
        chosen = whose(indices, self.num_envs)
        if chosen is not None and dialled.told.is_vector:
            if chosen != list(range(self.num_envs)):
                raise MisuseError(
                    f"`{name}` with indices={chosen!r:.80}: the server hosts a vector environment, which has methods "
                    f"and attributes as a whole: leave `indices` out"
                )
            chosen = None
        self._remote.forget_frames()
        return dialled, chosen
