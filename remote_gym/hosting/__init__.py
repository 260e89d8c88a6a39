"""For the owner of an entrypoint: what a server can host of objects that are no Gymnasium environments of NumPy arrays.

Worker side. A simulator that steps all its environments at once, on tensors, is wrapped by `batched`::

    from remote_gym.hosting import batched

    def create_vector_environment(num_envs):
        return batched(gym.make("Isaac-Cartpole-v0", cfg=parse_env_cfg(..., num_envs=num_envs)))
"""

from remote_gym.hosting.simulators import batched

__all__ = ["batched"]
