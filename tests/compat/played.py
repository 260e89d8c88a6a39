"""Both sides of a compatibility test: an environment to serve, and a client's program that plays and compares.

As a program (``played.py ADDRESS [CA]``) it runs with whichever remote_gym its path says, of any version: it uses
public names only. It prints where its remote_gym lies, and ``equal``, or the words of a ProtocolError.
"""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

STEPS = 50
ENVS = 3


class PlayedEnv(gymnasium.Env[Any, Any]):
    """Says something of every kind: nested observations, infos that change, frames, a method."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None, start: int = 0) -> None:
        self.observation_space = spaces.Dict(
            place=spaces.Box(-10, 10, (2, 3), np.float32), count=spaces.Discrete(1_000), word=spaces.Text(8)
        )
        self.action_space = spaces.Tuple([spaces.Discrete(4), spaces.Box(-1, 1, (2,), np.float64)])
        for space in (self.observation_space, self.action_space):
            space.seed(5)  # a version that sends where sampling goes on does so; another one leaves it
        self.render_mode = render_mode
        self.start = start
        self.count = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.count = self.start
        return self._observe(), {"options": options or {}, "array": np.arange(3, dtype=np.int16)}

    def step(self, action: Any) -> Any:
        self.count += 1
        info = {"count": self.count, "mean": np.float32(self.count / 2), "nested": {"tuple": (1, "a", None)}}
        if self.count % 3 == 0:
            info["sometimes"] = {"bytes": b"\0\1", 3: {1.5}}
        reward = float(action[0]) + float(action[1].sum())
        return self._observe(), reward, self.count % 17 == 0, self.count % 23 == 0, info

    def _observe(self) -> dict[str, Any]:
        place = self.np_random.uniform(-10, 10, (2, 3)).astype(np.float32)
        return {"place": place, "count": self.count, "word": "ab"[: self.count % 3]}

    def render(self) -> Any:
        return np.full((4, 5, 3), self.count % 256, np.uint8)

    def double(self, number: int, *, plus: float = 0.0) -> Any:
        return {"twice": 2 * number, "plus": np.float64(plus), "count": self.count}


def create_environment(
    env_id: int = 0, render_mode: str | None = None, enable_rendering: bool = False, **kwargs: Any
) -> PlayedEnv:
    return PlayedEnv(render_mode, **kwargs)


def same(remote: Any, local: Any, where: str) -> None:
    """Fail where two results differ in type or in a bit."""
    assert type(remote) is type(local), f"{where}: {type(remote)}, not {type(local)}"
    if isinstance(local, dict):
        assert list(remote) == list(local), f"{where}: {list(remote)}, not {list(local)}"
        for key in local:
            same(remote[key], local[key], f"{where}[{key!r}]")
    elif isinstance(local, (list, tuple)):
        assert len(remote) == len(local), where
        for at, (ours, theirs) in enumerate(zip(remote, local)):  # noqa: B905
            same(ours, theirs, f"{where}[{at}]")
    elif isinstance(local, np.ndarray) and local.dtype == object:
        same(remote.tolist(), local.tolist(), where)
    elif isinstance(local, (np.ndarray, np.generic)):
        assert (remote.dtype, remote.shape) == (local.dtype, local.shape), where
        assert remote.tobytes() == local.tobytes(), f"{where}: {remote}, not {local}"
    else:
        assert remote == local, f"{where}: {remote!r}, not {local!r}"


def play(remote: Any, local: Any) -> None:
    """Do the same with both; a single environment is reset when its episode ends."""
    single = not hasattr(local, "num_envs")
    same(remote.reset(seed=7, options={"a": [1]}), local.reset(seed=7, options={"a": [1]}), "reset")
    local.action_space.seed(7)
    for number in range(STEPS):
        action = local.action_space.sample()
        ours, theirs = remote.step(action), local.step(action)
        same(ours, theirs, f"step {number}")
        if single and (theirs[2] or theirs[3]):
            same(remote.reset(), local.reset(), f"reset after step {number}")
    # Of other dtypes than the space's: what one side cannot send or take is cast, to the same values.
    action = (np.int32(1), np.array([0.5, 0.25], np.float32))
    if not single:
        action = np.full(ENVS, 1, np.int32), np.tile(action[1], (ENVS, 1))
    same(remote.reset(seed=8), local.reset(seed=8), "reset before other dtypes")
    same(remote.step(action), local.step(action), "a step of other dtypes")
    same(remote.render(), local.render(), "render")


def compare(address: str, paths: Any) -> None:
    """Play over the wire and here."""
    from remote_gym import RemoteEnvironment, RemoteVectorEnv

    with RemoteEnvironment(address, client_credentials_paths=paths, render_mode="rgb_array") as remote:
        local = create_environment(render_mode="rgb_array")
        play(remote, local)
        same(remote.get_wrapper_attr("double")(4, plus=0.5), local.double(4, plus=0.5), "double")
    options = {"remote_args": {"entrypoint_kwargs": {"start": 5}}, "render_mode": "rgb_array"}
    vector = RemoteVectorEnv(address, num_envs=ENVS, client_credentials_paths=paths, **options)
    here = gymnasium.vector.SyncVectorEnv([lambda: create_environment(render_mode="rgb_array", start=5)] * ENVS)
    play(vector, here)
    same(vector.call("double", 4), here.call("double", 4), "double")
    vector.close()


def main() -> None:
    import remote_gym
    from remote_gym import ProtocolError

    print(remote_gym.__file__)
    try:
        compare(sys.argv[1], tuple(sys.argv[2:]) or None)
    except ProtocolError as error:
        print(error)
    else:
        print("equal")


if __name__ == "__main__":
    main()
