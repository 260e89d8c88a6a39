"""rl_games compiles a network as it is imported, and what PyTorch imports for it warns of PyTorch's own code."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
    import rl_games.envs  # noqa: F401
