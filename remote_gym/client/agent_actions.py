"""Trainer process, no I/O: actions of some agents of an environment, which travel as they are (`remote_gym.agents`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from remote_gym import values
from remote_gym.agents import AGENTS
from remote_gym.errors import CodecError


def is_by_agent(action: Any) -> bool:
    """Return whether an action is one of some agents, by agent."""
    return type(action) is dict and len(action) == 1 and AGENTS in action


def pack_by_agent(action: dict[str, Any]) -> bytes:
    """Return it as a packed list of one.

    Raises:
        CodecError: One of them cannot travel; names the agent.
    """
    try:
        return values.pack([action], "actions")
    except CodecError:
        # What NumPy takes for numbers, a tensor say, arrives as an array.
        arrays = {agent: _as_array(one) for agent, one in action[AGENTS].items()}
        return values.pack([{AGENTS: arrays}], "actions")


def _as_array(action: Any) -> Any:
    if isinstance(action, (np.ndarray, np.generic)) or not hasattr(action, "__array__"):
        return action
    array = np.asarray(action)
    return array if array.dtype.kind in "biuf" else action
