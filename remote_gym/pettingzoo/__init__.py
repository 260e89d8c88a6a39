"""Trainer process: environments of several agents, served anywhere, as PettingZoo and SuperSuit have them.

`RemoteParallelEnv` is one such environment, a ``pettingzoo.ParallelEnv``. `RemoteVectorParallelEnv` is many of them as
one `gymnasium.vector.VectorEnv` with a row for each agent of each environment, over one session: what
``supersuit.concat_vec_envs_v1(supersuit.pettingzoo_env_to_vec_env_v1(env), num_envs)`` makes of local ones.

The server's entrypoint returns a ``ParallelEnv``, or an ``AECEnv`` that becomes one, as
``pettingzoo.butterfly:pistonball_v6`` does.
https://pettingzoo.farama.org/api/parallel/
"""

from __future__ import annotations

try:
    import pettingzoo as _pettingzoo  # noqa: F401 - to say what to install
except ImportError as error:
    raise ImportError(
        "remote_gym.pettingzoo needs PettingZoo: pip install 'remote-gym-pool[pettingzoo]', or pip install pettingzoo"
    ) from error

from remote_gym.pettingzoo.environment import RemoteParallelEnv
from remote_gym.pettingzoo.vector import RemoteVectorParallelEnv, vector_env

__all__ = ["RemoteParallelEnv", "RemoteVectorParallelEnv", "vector_env"]
