"""Makes the same environments here and over there."""

from __future__ import annotations

import importlib.util
import sys
from functools import partial
from pathlib import Path
from typing import Any

from conftest import Certificates
from stable_baselines3.common.vec_env import DummyVecEnv

from remote_gym import RemoteEnvironmentServer
from remote_gym.sb3 import VecEnv

HOSTED = Path(__file__).with_name("hosted_for_sb3.py")


def _load() -> Any:
    spec = importlib.util.spec_from_file_location(HOSTED.stem, HOSTED)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[HOSTED.stem] = module
    spec.loader.exec_module(module)
    return module


hosted = _load()


class Hosting:
    """Makes the same environments here and over there."""

    def __init__(self, server: RemoteEnvironmentServer, certificates: Certificates) -> None:
        self.server, self._certificates = server, certificates
        self._made: list[Any] = []

    def ours(self, kind: str = "numbers", num_envs: int = 3, *, url: Any = None, **options: Any) -> VecEnv:
        """Remote; keyword arguments that the entrypoint knows are its."""
        kwargs = {name: options.pop(name) for name in ("wrapped", "actions", "reuse") if name in options}
        options.setdefault("client_credentials_paths", self._certificates.client_mutual)
        args = {"entrypoint_kwargs": {"kind": kind, **kwargs}}
        made = VecEnv(url or self.server.address, num_envs=num_envs, remote_args=args, **options)
        self._made.append(made)
        return made

    def theirs(self, kind: str = "numbers", num_envs: int = 3, **kwargs: Any) -> DummyVecEnv:
        """In this process. Buffers are copied: `DummyVecEnv` overwrites an episode's last observation otherwise."""
        if kind in hosted.KINDS and kind != "flipping":
            kwargs = {"reuse": False, **kwargs}
        makers = [partial(hosted.create_environment, kind, at, **kwargs) for at in range(num_envs)]
        made = DummyVecEnv(makers)
        self._made.append(made)
        return made

    def both(self, *args: Any, **kwargs: Any) -> tuple[VecEnv, DummyVecEnv]:
        return self.ours(*args, **kwargs), self.theirs(*args, **kwargs)

    def close(self) -> None:
        for made in self._made:
            made.close()
