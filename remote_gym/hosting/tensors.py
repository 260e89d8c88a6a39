"""Worker side, no I/O: tensors of whatever library <-> NumPy arrays.

No library of tensors is imported here: a tensor is known by what its class can do, and whoever has one has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Callable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

TORCH, ARRAY, MAPPING, SEQUENCE, OTHER = "torch", "array", "mapping", "sequence", "other"
"""What a value is: a tensor of PyTorch, one of another library, what holds values, and anything else."""


def _kind_of(value: Any) -> str:
    kind: Any = type(value)
    return _kind_of_class(kind)


@lru_cache(maxsize=1024)
def _kind_of_class(kind: type) -> str:
    if issubclass(kind, (list, tuple)):
        return SEQUENCE
    # A TensorDict is a mapping in all but name, in some of its releases.
    if issubclass(kind, Mapping) or (hasattr(kind, "keys") and hasattr(kind, "items")):
        return MAPPING
    if issubclass(kind, (np.ndarray, np.generic)) or not hasattr(kind, "shape") or not hasattr(kind, "dtype"):
        return OTHER
    if all(hasattr(kind, name) for name in ("detach", "cpu", "numpy")):
        return TORCH
    return ARRAY if hasattr(kind, "__array__") else OTHER


class _Away:
    """Stands for a tensor that is not fetched yet, and then holds the array."""

    array: Any = None

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor


def fetched(value: Any) -> Any:
    """Return `value` with arrays in place of tensors, in nested dicts, lists and tuples.

    PyTorch's of one device come in one transfer. Arrays of tensors in this process's memory are views of them.
    """
    away: list[_Away] = []
    near = _fetched(value, away)
    if not away:
        return near
    devices: dict[Any, list[_Away]] = {}
    for one in away:
        devices.setdefault(one.tensor.device, []).append(one)
    for those in devices.values():
        for one, array in zip(those, transferred([each.tensor for each in those])):
            one.array = array
    return _filled(near)


def _fetched(value: Any, away: list[_Away]) -> Any:
    kind = _kind_of(value)
    if kind is TORCH:
        if value.device.type == "cpu" and value.layout is _torch().strided:
            return _with_a_dtype(value).numpy(force=True)
        away.append(_Away(value))
        return away[-1]
    if kind is MAPPING:
        return {key: _fetched(one, away) for key, one in value.items()}
    if kind is SEQUENCE:
        return _like(value, [_fetched(one, away) for one in value])
    return np.asarray(value) if kind is ARRAY else value


def _filled(value: Any) -> Any:
    """Return `value`, of dicts, lists and tuples as `_fetched` leaves them, with all arrays that were away."""
    if type(value) is _Away:
        return value.array
    if type(value) is dict:
        return {key: _filled(one) for key, one in value.items()}
    return _like(value, [_filled(one) for one in value]) if isinstance(value, (list, tuple)) else value


def _like(value: Any, elements: list[Any]) -> Any:
    kind: Any = type(value)
    if hasattr(kind, "_make"):
        return kind._make(elements)
    return elements if isinstance(value, list) else tuple(elements)  # a torch.Size is one


def first_tensor(value: Any) -> Any:
    """Return the first tensor in nested dicts, lists and tuples; None if there is none."""
    kind = _kind_of(value)
    if kind in (TORCH, ARRAY):
        return value
    if kind not in (MAPPING, SEQUENCE):
        return None
    within = map(first_tensor, value.values() if kind is MAPPING else value)
    return next((tensor for tensor in within if tensor is not None), None)


def _torch() -> Any:
    return sys.modules["torch"]


def _with_a_dtype(tensor: Any) -> Any:
    """Return a tensor in a dtype that NumPy has: bfloat16 fits into float32."""
    return tensor.float() if tensor.dtype is _torch().bfloat16 else tensor


def transferred(tensors: Sequence[Any]) -> list[Array]:
    """Return PyTorch's tensors of one device as arrays: joined there, brought over at once, and taken apart here."""
    torch = _torch()
    dense = [_with_a_dtype(tensor.detach()).resolve_conj().resolve_neg().to_dense().contiguous() for tensor in tensors]
    # Items of the largest dtypes first: then each array begins at a multiple of its items' size.
    order = sorted(range(len(dense)), key=lambda at: -dense[at].element_size())
    joined = torch.cat([dense[at].reshape(-1).view(torch.uint8) for at in order]).cpu().numpy()
    arrays: list[Any] = [None] * len(dense)
    start = 0
    for at in order:
        stop = start + dense[at].numel() * dense[at].element_size()
        dtype = torch.empty(0, dtype=dense[at].dtype, device="cpu").numpy().dtype
        arrays[at] = joined[start:stop].view(dtype).reshape(tuple(dense[at].shape))
        start = stop
    return arrays


def maker_like(tensor: Any) -> Callable[[Array], Any]:
    """Return what makes tensors like this one, on its device, of arrays."""
    if _kind_of(tensor) is TORCH:
        torch, device = _torch(), tensor.device
        return lambda array: torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)
    if "jax" in type(tensor).__module__ and "jax" in sys.modules:
        jax = sys.modules["jax"]
        (device,) = tensor.devices()
        return lambda array: jax.device_put(array, device)
    return lambda array: array
