"""One folder per trainer, each with the real library: `tox run -e trainers-sb3` and so on.

A folder is collected only where its library is installed, which is in the tox environment named after it.
"""

from __future__ import annotations

from importlib.util import find_spec

LIBRARIES = {
    "arrays": "torch",
    "cleanrl": "torch",
    "d3rlpy": "d3rlpy",
    "minari": "minari",
    "pettingzoo": "pettingzoo",
    "rl_games": "rl_games",
    "rllib": "ray",
    "sb3": "stable_baselines3",
    "skrl": "skrl",
    "tianshou": "tianshou",
    "torchrl": "torchrl",
}
"""Folder -> the module without which its tests cannot begin."""

collect_ignore = [folder for folder, library in LIBRARIES.items() if find_spec(library) is None]
