"""No I/O: all that workers, and what both sides of them share, use of Gymnasium. Nobody else of them imports it.

What is here is what another interpreter, with another Gymnasium, would have to offer.
"""

from __future__ import annotations

from gymnasium import Env, Space, Wrapper, error, make, make_vec
from gymnasium.error import ResetNeeded
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    GraphInstance,
    MultiBinary,
    MultiDiscrete,
    OneOf,
    Sequence,
    Text,
    Tuple,
)
from gymnasium.spaces.utils import is_space_dtype_shape_equiv
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_differing_spaces, batch_space, iterate

__all__ = [
    "AutoresetMode",
    "Box",
    "Dict",
    "Discrete",
    "Env",
    "Graph",
    "GraphInstance",
    "MultiBinary",
    "MultiDiscrete",
    "OneOf",
    "ResetNeeded",
    "Sequence",
    "Space",
    "Text",
    "Tuple",
    "VectorEnv",
    "Wrapper",
    "batch_differing_spaces",
    "batch_space",
    "error",
    "is_space_dtype_shape_equiv",
    "iterate",
    "make",
    "make_vec",
]
