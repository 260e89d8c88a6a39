"""Trainer process, no I/O: NumPy arrays <-> the tensors of PyTorch or JAX, on one device.

Neither library is imported before somebody asks for it. Both directions know nothing of environments: a `Library` makes
tensors of a list of arrays, all at once, and an array of a tensor.

What is copied, of a batch of arrays that nobody else writes:

============ ================ ==================================================================================
library      device           copies
============ ================ ==================================================================================
PyTorch      CPU              none: a tensor is a view of the array
PyTorch      any other        one on this side, into one (pinned) buffer, and one transfer of that buffer
JAX          CPU              none where XLA takes the memory as it is, else one; its arrays cannot be written
JAX          any other        what ``jax.device_put`` of all of them at once does
============ ================ ==================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from remote_gym.errors import MisuseError, also
from remote_gym.leaves import DTYPES, Array

NUMPY, TORCH, JAX = "numpy", "torch", "jax"
"""What `RemoteVectorEnv` returns arrays of."""

ALIGNMENT_BYTES = 16
"""Where an array begins in a buffer that is transferred whole: a multiple of every item's size."""


class Library(Protocol):
    """A library of tensors, on one device.

    Attributes:
        name: As in the argument `array`.
        device: In the library's own type.
        apart: Whether its tensors are safe to hand out for arrays that somebody keeps: copies, or never written.
    """

    name: str
    device: Any
    apart: bool

    def takes(self, dtype: np.dtype[Any]) -> bool:
        """Return whether there are tensors of this dtype on the device."""

    def tensors(self, arrays: Sequence[Array]) -> list[Any]:
        """Return a tensor for each array; in one transfer, where there is one to be made."""

    def is_tensor(self, value: Any) -> bool:
        """Return whether `value` is a tensor of the library, on whatever device."""

    def array(self, tensor: Any) -> Array:
        """Return a tensor as an array, a view where it is in this process's memory.

        Raises:
            MisuseError: NumPy has no such dtype.
        """


def _missing(name: str, error: ImportError) -> MisuseError:
    return also(MisuseError, ImportError)(
        f"array={name!r} needs {name}, which cannot be imported here (pip install {name}): {error}"
    )


class Torch:
    """Tensors of PyTorch; see `Library`."""

    name = TORCH

    def __init__(self, device: str | int | None = None) -> None:
        """Prepare for tensors on `device`, as ``torch.device`` takes it; None: PyTorch's default device.

        Raises:
            MisuseError: PyTorch is not installed, or has no such device here.
        """
        try:
            import torch
        except ImportError as error:
            raise _missing(self.name, error) from error
        self._torch: Any = torch
        try:
            self.device: Any = torch.empty(0, device=device).device  # with its index, where there are several
        except (RuntimeError, AssertionError, ValueError, TypeError) as error:  # whatever a build without CUDA raises
            said = str(error).partition("\n")[0]
            raise MisuseError(f"device={device!r}: PyTorch has no such device here: {said}") from error
        self._kinds = _usable(self._kind_of)
        self.apart = self.device.type != "cpu"
        self._move = Transfer(torch, self.device, self._kinds) if self.apart else None

    def _kind_of(self, dtype: np.dtype[Any]) -> Any:
        """Return PyTorch's dtype for NumPy's; raises where there is none."""
        kind = self._torch.from_numpy(np.zeros(1, dtype)).dtype
        self._torch.empty(1, dtype=kind, device=self.device)
        return kind

    def takes(self, dtype: np.dtype[Any]) -> bool:
        """Return whether there are tensors of this dtype on the device."""
        return dtype in self._kinds

    def tensors(self, arrays: Sequence[Array]) -> list[Any]:
        """Return a tensor for each array: a view of it, or on another device, moved there with all others at once."""
        if self._move is not None:
            return self._move(arrays)
        # PyTorch knows no read-only tensors: what may not be written is copied.
        from_numpy = self._torch.from_numpy
        return [from_numpy(array if array.flags.writeable else array.copy()) for array in arrays]

    def is_tensor(self, value: Any) -> bool:
        """Return whether `value` is a tensor."""
        return isinstance(value, self._torch.Tensor)

    def array(self, tensor: Any) -> Array:
        """Return a tensor, also one that requires a gradient, as an array."""
        try:
            array: Array = tensor.numpy(force=True)
        except (TypeError, RuntimeError) as error:  # bfloat16, or one that is sparse
            raise MisuseError(
                f"a tensor of {tensor.dtype} and layout {tensor.layout} has no like in NumPy: {error}"
            ) from error
        return array


class Transfer:
    """Moves arrays to a device: copied into one buffer of this side, which travels whole. Its tensors share memory.

    With CUDA the buffer is pinned, so that the transfer needs no copy of the driver's and does not wait: what is begun
    on the same stream afterwards sees it done. The buffer is written again only when it was read.
    """

    def __init__(self, torch: Any, device: Any, kinds: dict[np.dtype[Any], Any]) -> None:
        """Prepare for transfers to `device` of arrays of these dtypes; `kinds` has PyTorch's own."""
        self._torch = torch
        self._device = device
        self._kinds = kinds
        self._is_cuda = device.type == "cuda"
        self._buffer: Any = None
        self._bytes = np.empty(0, np.uint8)  # the same memory
        self._read = torch.cuda.Event() if self._is_cuda else None

    def __call__(self, arrays: Sequence[Array]) -> list[Any]:
        """Return a tensor on the device for each array."""
        starts, size = [], 0
        for array in arrays:
            starts.append(size)
            size += -(-array.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        self._make_room(size)
        for start, array in zip(starts, arrays, strict=True):
            here = self._bytes[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
            np.copyto(here, array)
        moved = self._buffer[:size].to(self._device, non_blocking=self._is_cuda, copy=True)
        if self._read is not None:
            self._read.record(self._torch.cuda.current_stream(self._device))
        return [
            moved[start : start + array.nbytes].view(self._kinds[array.dtype]).view(array.shape)
            for start, array in zip(starts, arrays, strict=True)
        ]

    def _make_room(self, size: int) -> None:
        """Make the buffer free to be written, and large enough."""
        if self._read is not None:
            self._read.synchronize()  # the last transfer may still be reading it
        if size > len(self._bytes) or self._buffer is None:
            self._buffer = self._torch.empty(size, dtype=self._torch.uint8, pin_memory=self._is_cuda)
            self._bytes = self._buffer.numpy()


class Jax:
    """Arrays of JAX; see `Library`.

    Without ``jax_enable_x64`` they have 32 bits where NumPy's have 64, as everything in JAX has.
    """

    name = JAX
    apart = True

    def __init__(self, device: str | int | None = None) -> None:
        """Prepare for arrays on `device`: a platform, ``"cuda"``, or one of its devices by id, ``"cuda:1"``.

        None: JAX's default device.

        Raises:
            MisuseError: JAX is not installed, or has no such device here.
        """
        try:
            import jax
        except ImportError as error:
            raise _missing(self.name, error) from error
        self._jax: Any = jax
        self.device: Any = self._found(device)
        self._kinds = _usable(lambda dtype: self._jax.device_put(np.zeros(1, dtype), self.device).dtype)

    def _found(self, device: str | int | None) -> Any:
        jax = self._jax
        if device is None:
            return next(iter(jax.numpy.zeros(0).devices()))
        platform, _, number = str(device).partition(":")
        try:
            devices = jax.devices() if platform.isdigit() else jax.devices(platform)
        except RuntimeError as error:
            raise MisuseError(f"device={device!r}: JAX has no such device here: {error}") from error
        number = platform if platform.isdigit() else number
        for one in devices:
            if not number or str(one.id) == number:
                return one
        raise MisuseError(f"device={device!r}: JAX has only {', '.join(map(str, devices))}")

    def takes(self, dtype: np.dtype[Any]) -> bool:
        """Return whether there are arrays of this dtype on the device, or of its 32 bit namesake."""
        return dtype in self._kinds

    def tensors(self, arrays: Sequence[Array]) -> list[Any]:
        """Return an array of JAX for each array."""
        moved: list[Any] = self._jax.device_put(list(arrays), self.device)
        return moved

    def is_tensor(self, value: Any) -> bool:
        """Return whether `value` is an array of JAX."""
        return isinstance(value, self._jax.Array)

    def array(self, tensor: Any) -> Array:
        """Return an array of JAX as one of NumPy."""
        return np.asarray(tensor)


def _usable(kind_of: Callable[[np.dtype[Any]], Any]) -> dict[np.dtype[Any], Any]:
    """Return the library's dtype for each of NumPy's, of flags and numbers, of which it can make tensors."""
    kinds = {}
    for dtype in (*DTYPES.values(), np.dtype(np.complex64), np.dtype(np.complex128)):
        try:
            kinds[dtype] = kind_of(dtype)
        except (TypeError, RuntimeError, ValueError):
            continue
    return kinds


LIBRARIES: dict[str, Callable[[str | int | None], Library]] = {TORCH: Torch, JAX: Jax}
"""By the argument `array`: what makes a library ready for a device."""


def checked_device(array: Any, device: Any) -> str | int | None:
    """Return the argument `device` as text, which travels in a pickle; a number is one of PyTorch's.

    Raises:
        MisuseError: `array` names no library, or one without devices although one is given.
    """
    if array not in (NUMPY, TORCH, JAX):
        raise MisuseError(f"array must be {NUMPY!r}, {TORCH!r} or {JAX!r}, got {array!r}")
    if device is None:
        return None
    if array == NUMPY:
        raise MisuseError(f"device={device!r} is for array={TORCH!r} or {JAX!r}: NumPy has no devices")
    if isinstance(device, int):
        return device
    if hasattr(device, "platform") and hasattr(device, "id"):  # of JAX
        return f"{device.platform}:{device.id}"
    return str(device)
