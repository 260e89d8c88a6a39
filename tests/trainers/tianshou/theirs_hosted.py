"""A plugin for pytest: Tianshou's own tests meet hosted environments where they name one of its classes."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import cloudpickle
import tianshou.data  # its own use of the class stays its own
import tianshou.env

from remote_gym.tianshou import VectorEnv


class Hosted(VectorEnv):
    """Made as Tianshou makes its own classes: of functions that make the environments."""

    def __init__(
        self, env_fns: Sequence[Callable[[], Any]], wait_num: int | None = None, timeout: float | None = None
    ) -> None:
        folder = Path(tempfile.mkdtemp(prefix="theirs-", dir=os.environ["REMOTE_GYM_THEIRS_FOLDER"]))
        (folder / "functions.pickle").write_bytes(cloudpickle.dumps(list(env_fns)))
        made = VectorEnv.local(
            Path(__file__).with_name("their_environments.py"),
            len(env_fns),
            entrypoint_kwargs={"folder": str(folder)},
            num_workers=len(env_fns),  # as with theirs, none waits for another one
            observation_mode="different",  # some of theirs differ in their bounds
            unportable_infos="drop",  # some of theirs have the environment itself in their infos
            wait_num=wait_num,
            timeout=timeout,
        )
        self._begin(made.envs, wait_num, timeout)
        self.get_env_attr("action_space")  # built now, as theirs are, and not on first need


setattr(tianshou.env, os.environ["REMOTE_GYM_THEIRS_REPLACED"], Hosted)
