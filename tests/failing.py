"""What fails in processes that others start: they import this module by its name, from `sys.path`."""

from __future__ import annotations

from typing import Any

import gymnasium

from remote_gym.errors import ConnectError, MisuseError, SessionLost, also


def fail() -> None:
    try:
        raise SessionLost("EXPIRED", "too late")
    except SessionLost as error:
        raise also(MisuseError, KeyError)("in another process") from error


class Fails(gymnasium.Env[Any, Any]):
    """An environment that raises errors of ours."""

    observation_space, action_space = gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(2)

    def reset(self, **_kwargs: Any) -> Any:
        raise ConnectError("here:1", "no answer", ["a firewall"])
