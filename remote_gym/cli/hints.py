"""What to install, or to name instead, where an environment cannot be found or made for want of a package."""

from __future__ import annotations

import os
import re

PACKAGES = {
    "Box2D": "gymnasium[box2d]",
    "ale_py": "ale-py",
    "cryptography": "cryptography",
    "cv2": "opencv-python",
    "dm_control": "dm-control",
    "envpool": "envpool",
    "gymnasium_robotics": "gymnasium-robotics",
    "highway_env": "highway-env",
    "lz4": "lz4",
    "minigrid": "minigrid",
    "miniworld": "miniworld",
    "mo_gymnasium": "mo-gymnasium",
    "mpe2": "mpe2",
    "mujoco": "gymnasium[mujoco]",
    "pettingzoo": "pettingzoo",
    "pygame": "gymnasium[classic-control]",
    "pybullet": "pybullet",
    "pymunk": "pettingzoo[butterfly]",
    "shimmy": "shimmy",
    "stable_baselines3": "stable-baselines3",
    "supersuit": "supersuit",
    "torch": "torch",
    "zstandard": "zstandard",
}
"""What pip calls the packages that environments need, by the module they import."""

HOMES = {
    r"ALE/": "ale_py",
    r"(?:MiniGrid|BabyAI)-": "minigrid",
    r"MiniWorld-": "miniworld",
    r"(?:Fetch|Hand|Adroit|PointMaze|AntMaze|FrankaKitchen)\w*-": "gymnasium_robotics",
    r"(?:highway|merge|roundabout|intersection|racetrack|parking)-": "highway_env",
    r"mo-": "mo_gymnasium",
    r"(?:dm_control|bsuite)/": "shimmy",
}
"""The module that registers ids which begin so: Gymnasium knows them once it is imported."""

_NO_MODULE = re.compile(r"(?:[Nn]o module named|there is no module) '([\w.]+)'")
_NO_ID = re.compile(r"(?:Namespace\b.*not found|NameNotFound|doesn't exist)")


def hint(error: str, entrypoint: str) -> str:
    """Return what to do about an error of an environment's making, empty if nobody knows."""
    if found := _NO_MODULE.search(error):
        return _about_module(found[1].partition(".")[0], entrypoint)
    if _NO_ID.search(error) and ":" not in entrypoint:
        for begin, module in HOMES.items():
            if re.match(begin, entrypoint):
                return f"install it, `pip install {PACKAGES[module]}`, and name its module too: {module}:{entrypoint}"
    return ""


def _about_module(module: str, entrypoint: str) -> str:
    if module in PACKAGES:
        return f"install it: `pip install {_quoted(PACKAGES[module])}`"
    if os.path.isfile(f"{module}.py") or os.path.isdir(module):
        return f"{module} lies in this folder, where Python does not look: set PYTHONPATH=."
    if entrypoint.startswith((f"{module}:", f"{module}.")):
        return f"install its package, or set PYTHONPATH to its folder; a file is given as {module}.py"
    return f"install the package that has {module}: environments run with the Python of this command"


def _quoted(package: str) -> str:
    return f'"{package}"' if "[" in package else package
