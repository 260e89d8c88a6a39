"""What `start_remote_environment.py` hosts: any file with a function `create_environment` will do."""

import gymnasium as gym


def create_environment(enable_rendering: bool, env_id: int, **kwargs) -> gym.Env:
    """Make one environment; called in a worker process of the server.

    Args:
        enable_rendering: Whether somebody wants to see this environment.
        env_id: Number of the environment, unique on its server: for ports, displays and other things not to share.
        **kwargs: The `entrypoint_kwargs` of server and client, and `render_mode`.

    Returns:
        The environment.
    """
    return gym.make("Acrobot-v1", render_mode="rgb_array" if enable_rendering else None)
