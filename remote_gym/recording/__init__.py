"""Trainer process: what environments do as a Minari dataset (https://minari.farama.org), written where the trainer is.

`to_minari` steps a vector environment with a policy and writes its episodes; `Recorder` does so in a loop of your own.
Both take any `gymnasium.vector.VectorEnv`, `RemoteVectorEnv` or local, in any autoreset mode.
"""

from __future__ import annotations

try:
    import minari  # noqa: F401 - all of this package needs it, and what follows says so worse
except ModuleNotFoundError as missing:
    raise ImportError(
        "remote_gym.recording needs Minari and its HDF5 storage: pip install 'remote-gym-pool[minari]'"
    ) from missing

from remote_gym.recording.loop import to_minari
from remote_gym.recording.recorder import Recorder

__all__ = ["Recorder", "to_minari"]
