"""Tensors as the arrays that they stand for, so that equality has one definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def plain(value: Any, device: str = "cpu") -> Any:
    """Return `value` with arrays in place of its tensors; fails where an array of numbers was left one."""
    if isinstance(value, torch.Tensor):
        assert str(value.device) == device and value.layout is torch.strided and not value.requires_grad
        return value.numpy()
    if isinstance(value, np.ndarray):
        assert value.dtype.kind not in "biufc", f"{value!r} is no tensor"
        if value.dtype == object:
            elements = [plain(one, device) for one in value.ravel()]
            return np.fromiter(elements, object, len(elements)).reshape(value.shape)
        return value
    if isinstance(value, dict):
        return {key: plain(one, device) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        elements = [plain(one, device) for one in value]
        return type(value)._make(elements) if hasattr(value, "_make") else type(value)(elements)
    return value


def given(actions: Any) -> Any:
    """Return actions with tensors in place of arrays."""
    if isinstance(actions, np.ndarray):
        return torch.from_numpy(actions.copy())
    if isinstance(actions, dict):
        return {key: given(one) for key, one in actions.items()}
    if isinstance(actions, tuple):
        elements = map(given, actions)
        return type(actions)._make(elements) if hasattr(actions, "_make") else tuple(elements)
    return actions
