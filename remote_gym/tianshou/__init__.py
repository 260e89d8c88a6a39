"""Trainer process: remote environments as Tianshou's collectors want them, a `tianshou.env.BaseVectorEnv`.

Tianshou resets finished environments itself, and steps any of them in any order; so these are environments of a
`RemoteVectorEnv` without autoreset, and what comes back is put into the shapes that `DummyVectorEnv` gives.
"""

try:
    import tianshou.env  # noqa: F401
except ModuleNotFoundError as missing:
    raise ImportError(
        f"remote_gym.tianshou needs Tianshou: pip install 'remote-gym-pool[tianshou]' (there is no {missing.name})"
    ) from missing

from remote_gym.tianshou.vector import VectorEnv

__all__ = ["VectorEnv"]
