"""Trainer process: resets and steps whose arrays, in and out, are tensors of the learner's library, on its device.

A step in NumPy never comes by here: whether it does is decided once, when the environments are made.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from remote_gym.client.remote import Remote
from remote_gym.client.stepping import Stepping, StepResult
from remote_gym.client.tensors import LIBRARIES, NUMPY, Library
from remote_gym.errors import MisuseError
from remote_gym.leaves import Array, leaves_of


def stepping_of(remote: Remote) -> Stepping:
    """Return what resets and steps these environments, in arrays as the settings have it.

    Raises:
        MisuseError: The library is not installed, or has no such device.
    """
    settings = remote.settings
    if settings.array == NUMPY:
        return Stepping(remote)
    return TensorStepping(remote, LIBRARIES[settings.array](settings.device))


class TensorStepping(Stepping):
    """`Stepping` with tensors in place of every array of numbers or flags, given and returned; dtypes are NumPy's.

    Attributes:
        library: Of the tensors.
    """

    def __init__(self, remote: Remote, library: Library) -> None:
        """Prepare; dials nothing yet.

        Raises:
            MisuseError: The device has no float64.
        """
        super().__init__(remote)
        self.library = library
        if not library.takes(np.dtype(np.float64)):
            raise MisuseError(f"rewards are float64, of which {library.name} has no tensors on {library.device}")
        # Tensors that nobody can write through, or that are copies anyway, may look at what is kept.
        self._copy = not library.apart
        self._checked = False

    # Given

    def begin_reset(self, seed: Any, options: Any, env_id: Any = None) -> None:
        """Begin a reset of the environments `env_id`, None: all or those of a mask; `finish_reset` gives its result."""
        self._check_spaces()
        super().begin_reset(self._arrays(seed), self._arrays(options), self._arrays(env_id))

    def begin_step(self, actions: Any, env_id: Any = None) -> None:
        """Begin a step of the environments `env_id` (None: all); `finish_step` gives its result."""
        self._check_spaces()
        super().begin_step(self._arrays(actions), self._arrays(env_id))

    def reset_some(self, seed: Any, options: Any, env_id: Any = None) -> None:
        """Begin a reset; `receive` gives the first observations."""
        self._check_spaces()
        super().reset_some(self._arrays(seed), self._arrays(options), self._arrays(env_id))

    def step_some(self, actions: Any, env_id: Any) -> None:
        """Begin a step of the environments `env_id`; `receive` gives the results."""
        self._check_spaces()
        super().step_some(self._arrays(actions), self._arrays(env_id))

    def _arrays(self, value: Any) -> Any:
        return with_arrays(value, self.library)

    def _check_spaces(self) -> None:
        """Refuse environments whose observations cannot be tensors; nothing was sent to them yet."""
        if self._checked or self._remote.closed:
            return
        for leaf in leaves_of(self._remote.dial().told.observation_space):
            if not self.library.takes(leaf.dtype):
                raise MisuseError(
                    f"observations{leaf} are {leaf.dtype}, of which {self.library.name} has no tensors on "
                    f"{self.library.device}: use array='numpy' and convert them, or wrap the environment on the server "
                    f"so that they are of another dtype"
                )
        self._checked = True

    # Returned

    def finish_reset(self, timeout: float | None) -> tuple[Any, dict[str, Any]]:
        """Wait for what `begin_reset` began."""
        result: tuple[Any, dict[str, Any]] = with_tensors(super().finish_reset(timeout), self.library)
        return result

    def finish_step(self, timeout: float | None) -> StepResult:
        """Wait for what `begin_step` began."""
        result: StepResult = with_tensors(super().finish_step(timeout), self.library)
        return result

    def receive(self, timeout: float | None, everything: bool = False) -> StepResult:
        """Wait for the first `batch_size` environments that are ready, or for `everything` that was started."""
        result: StepResult = with_tensors(super().receive(timeout, everything), self.library)
        return result


def with_arrays(value: Any, library: Library) -> Any:
    """Return `value` with an array, or a NumPy scalar, in place of every tensor in its dicts, lists and tuples.

    Raises:
        MisuseError: NumPy has no dtype for one of them.
    """
    if library.is_tensor(value):
        return library.array(value)[()]
    kind: Any = type(value)
    if isinstance(value, Mapping):  # a TensorDict is one as well
        entries = ((key, with_arrays(one, library)) for key, one in value.items())
        return OrderedDict(entries) if kind is OrderedDict else dict(entries)
    if kind is list or isinstance(value, tuple):
        elements = [with_arrays(one, library) for one in value]
        return kind._make(elements) if hasattr(kind, "_make") else kind(elements)
    return value


def with_tensors(value: Any, library: Library) -> Any:
    """Return `value` with tensors in place of its arrays, at any depth of dicts, lists, tuples and arrays of objects.

    Those of text and other objects, and all that is no array, stay as they are. All tensors are made at once.
    """
    found = list(_found(value, library))
    return _replaced(value, library, iter(library.tensors(found)))


def _found(value: Any, library: Library) -> Iterator[Array]:
    """Yield the arrays that become tensors, in the order in which `_replaced` meets them."""
    if type(value) is np.ndarray:
        if library.takes(value.dtype):
            yield value
            return
        if value.dtype != object:
            return
        value = value.ravel()
    elif isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for one in value:
        yield from _found(one, library)


def _replaced(value: Any, library: Library, tensors: Iterator[Any]) -> Any:
    if type(value) is np.ndarray:
        if library.takes(value.dtype):
            return next(tensors)
        if value.dtype != object:
            return value.copy()  # of text: the one that is kept must not be written
        elements = [_replaced(one, library, tensors) for one in value.ravel()]
        return np.fromiter(elements, object, len(elements)).reshape(value.shape)  # it never looks into an element
    kind: Any = type(value)
    if isinstance(value, dict):
        entries = ((key, _replaced(one, library, tensors)) for key, one in value.items())
        return OrderedDict(entries) if kind is OrderedDict else dict(entries)
    if isinstance(value, (list, tuple)):
        elements = [_replaced(one, library, tensors) for one in value]
        return kind._make(elements) if hasattr(kind, "_make") else kind(elements)
    return value
