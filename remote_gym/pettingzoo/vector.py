"""Trainer process: `RemoteVectorParallelEnv`, environments of several agents as rows of one vector environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from remote_gym import MisuseError, RemoteVectorEnv
from remote_gym.agents import AGENTS, About
from remote_gym.pettingzoo.results import AgentResults
from remote_gym.pettingzoo.rows import by_agent, interleaved, naming_rows
from remote_gym.pettingzoo.told import about_of, shared

SUPERSUIT, GYMNASIUM = "supersuit", "gymnasium"


def _setting(name: str) -> property:
    """Return a property whose value comes with dialling, and that trainers may set."""

    def read(envs: Any) -> Any:
        _ = envs._about
        return envs._own[name]

    def write(envs: Any, value: Any) -> None:
        envs._own[name] = value

    return property(read, write, doc=name)


class RemoteVectorParallelEnv(VectorEnv[Any, Any, Any]):
    """Environments of several agents as one vector environment: row ``e * agents + a`` is agent `a` of environment `e`.

    All possible agents must have the same spaces; those that differ are padded where the environment is made, by
    ``supersuit.pad_observations_v0`` and ``pad_action_space_v0``. An episode begins and ends for all agents of an
    environment together, and the next one begins at once, within the step that has ended it (Gymnasium's SAME_STEP):
    the last observation of an agent is ``infos[row]["terminal_observation"]``.

    Agents that are not in the episode, because they are dead or have not come yet, keep their rows: zeros as
    observation, 0 as reward, and terminated, so that nothing is bootstrapped across them. Their actions are not used.
    `live` says whose rows these are not: mask with it, as it was before a step, what is learnt from that step.
    (SuperSuit raises an AssertionError for such environments.)

    Attributes:
        closed: Whether it was closed.
        style: As given.
    """

    closed = True  # until the arguments were found to be right
    single_observation_space = _setting("single_observation_space")
    single_action_space = _setting("single_action_space")
    observation_space = _setting("observation_space")
    action_space = _setting("action_space")

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        port: int | None = None,
        num_envs: int = 1,
        remote_args: Mapping[str, Any] | None = None,
        client_credentials_paths: Sequence[Any] | None = None,
        render_mode: str | None = None,
        *,
        style: str = SUPERSUIT,
        **options: Any,
    ) -> None:
        """Prepare; dials nothing yet.

        Args:
            url: As all others, as for `RemoteVectorEnv`.
            port: Likewise.
            num_envs: Environments; the vector environment has as many times as many rows as there are possible agents.
            remote_args: As for `RemoteVectorEnv`.
            client_credentials_paths: Likewise.
            render_mode: Likewise.
            style: ``"supersuit"``: as there, to the last bit: `observation_space` and `action_space` are an agent's,
                rewards float32, flags uint8, and infos a list of dicts, one per row. ``"gymnasium"``: as Gymnasium has
                it: batched spaces, float64, bool, and one dict of arrays with masks; for its wrappers.
            options: As for `RemoteVectorEnv`; `autoreset_mode`, `batch_size`, `copy`, `observation_mode` and
                `info_format` are not among them.

        Raises:
            MisuseError: An argument is wrong; names it.
        """
        where = (url, port, num_envs, remote_args, client_credentials_paths, render_mode)
        self._begin(lambda fixed: RemoteVectorEnv(*where, **fixed), options, style)  # type: ignore[arg-type]

    @classmethod
    def local(
        cls, entrypoint: Any, num_envs: int = 1, *, style: str = SUPERSUIT, **options: Any
    ) -> RemoteVectorParallelEnv:
        """Make them with a server that lives and dies with this process; arguments as for `RemoteVectorEnv.local`."""
        made = cls.__new__(cls)
        made._begin(lambda fixed: RemoteVectorEnv.local(entrypoint, num_envs, **fixed), options, style)
        return made

    def _begin(self, make: Any, options: Mapping[str, Any], style: str) -> None:
        if style not in (SUPERSUIT, GYMNASIUM):
            raise MisuseError(f"style must be {SUPERSUIT!r} or {GYMNASIUM!r}, got {style!r:.80}")
        for name in ("autoreset_mode", "batch_size", "copy", "observation_mode", "info_format"):
            if name in options:
                raise MisuseError(f"{name} is none of this class's arguments: environments reset in the same step, all "
                                  f"rows come together, and arrays are the caller's own")  # fmt: skip
        envs = make({**options, "autoreset_mode": AutoresetMode.SAME_STEP, "copy": False})
        self._adopt(envs, style)

    def _adopt(self, envs: RemoteVectorEnv, style: str) -> None:
        self._envs = envs
        self.style = style
        self.render_mode = envs.render_mode
        self.autoreset_mode = AutoresetMode.SAME_STEP
        self._known: About | None = None
        self._own: dict[str, Any] = {}
        self.closed = False

    # What the server told

    @property
    def _about(self) -> About:
        if self._known is None:
            about = about_of(self._envs)
            if not about.possible:
                raise MisuseError(
                    "the hosted environment does not say beforehand which agents there may be (possible_agents), so "
                    "there is no row for each: use RemoteParallelEnv"
                )
            hosted = self._envs.single_observation_space, self._envs.single_action_space
            for name, space in zip(("observation", "action"), hosted, strict=True):
                each = shared(space, about.keys, getattr(about, name))
                for agent, other in zip(about.possible, each, strict=True):
                    if other != each[0]:
                        raise MisuseError(
                            f"agents {about.possible[0]!r} and {agent!r} have different {name} spaces, {each[0]} and "
                            f"{other}: rows of one batch have the same. Let the entrypoint pad them "
                            f"(supersuit.pad_observations_v0, supersuit.pad_action_space_v0), or use RemoteParallelEnv"
                        )
                self._own.setdefault(f"single_{name}_space", each[0])
                rows = self._envs.num_envs * len(each)
                shown = each[0] if self.style == SUPERSUIT else batch_space(each[0], rows)
                self._own.setdefault(f"{name}_space", shown)
            self._results = AgentResults(about.keys, self._envs.num_envs)
            self._known = about
        return self._known

    @property
    def possible_agents(self) -> list[Any]:
        """The agents of one environment, in the order of its rows."""
        return list(self._agents)

    @property
    def _agents(self) -> list[Any]:
        return self._about.possible or []

    @property
    def num_envs(self) -> int:  # type: ignore[override]
        """Rows: as many for each environment as it has possible agents."""
        return self._envs.num_envs * len(self._agents)

    @property
    def live(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(num_envs,) bool: whose rows are of agents that are in the episode, and act in the next step."""
        _ = self._about
        return self._results.live.reshape(-1).copy()

    @property
    def metadata(self) -> dict[str, Any]:  # type: ignore[override]
        """Of the hosted environment, and ``"autoreset_mode"``."""
        if "metadata" not in self._own:
            _ = self._about
            self._own["metadata"] = {name: value for name, value in self._envs.metadata.items() if name != AGENTS}
        return self._own["metadata"]  # type: ignore[no-any-return]

    # Reset and step

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Any]:
        """Begin new episodes.

        Args:
            seed: An int s gives environment e the seed s + e; a sequence gives each environment its own.
            options: Given to each environment.

        Returns:
            observations: (num_envs, *obs_shape), or dicts and tuples of such arrays.
            infos: One dict per row, or as Gymnasium has them; see `style`.

        Raises:
            MisuseError: `seed` or `options` is wrong, or cannot travel; or the server hosts something else.
            EnvironmentRaised, EnvironmentLost: In an environment; the error names it and its rows.
            SessionLost: The server no longer holds the environments.
        """
        _ = self._about
        with naming_rows(len(self._agents)):
            observations, infos = self._envs.reset(seed=seed, options=options)
        rows = self._results.begun(infos, options.get("reset_mask") if isinstance(options, dict) else None)
        return self._rows(observations), self._formatted(rows)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Step all agents of all environments.

        Args:
            actions: (num_envs, *action_shape), or dicts and tuples of such arrays as in an agent's action space.

        Returns:
            observations: (num_envs, *obs_shape), or dicts and tuples of such arrays.
            rewards: (num_envs,) float32.
            terminations: (num_envs,) uint8.
            truncations: (num_envs,) uint8.
            infos: One dict per row. The last four also as Gymnasium has them; see `style`.

        Raises:
            MisuseError: The actions do not fit; nothing was sent.
            EnvironmentRaised, EnvironmentLost: In an environment; the error names it and its rows.
            SessionLost: The server no longer holds the environments.
        """
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: Any) -> None:
        """Begin what `step` does; `step_wait` gives its result."""
        about = self._about
        each = by_agent(self.single_action_space, actions, self._envs.num_envs, len(about.keys))
        self._envs.step_async(dict(zip(about.keys, each, strict=True)))

    def step_wait(self, timeout: float | None = None) -> tuple[Any, Any, Any, Any, Any]:
        """Wait for what `step_async` began; `timeout` and errors as with `RemoteVectorEnv.step_wait`."""
        with naming_rows(len(self._agents)):
            observations, _, _, truncated, infos = self._envs.step_wait(timeout)
        rewards, terminations, truncations, rows = self._results.stepped(truncated, infos)
        number, flag = (np.float32, np.uint8) if self.style == SUPERSUIT else (np.float64, np.bool_)
        return (
            self._rows(observations),
            rewards.reshape(-1).astype(number),
            terminations.reshape(-1).astype(flag),
            truncations.reshape(-1).astype(flag),
            self._formatted(rows),
        )

    # Results

    def _rows(self, observations: Any) -> Any:
        return interleaved(self.single_observation_space, [observations[key] for key in self._about.keys])

    def _formatted(self, rows: list[dict[str, Any]]) -> Any:
        if self.style == SUPERSUIT:
            return rows
        infos: dict[str, Any] = {}
        for row, info in enumerate(rows):
            if info:
                infos = self._add_info(infos, info, row)
        return infos

    # The rest

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of each environment, not of each row; see `RemoteVectorEnv.call`."""
        return self._envs.call(name, *args, **kwargs)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute of each environment; see `call`."""
        return self._envs.get_attr(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of each environment; see `RemoteVectorEnv.set_attr`."""
        self._envs.set_attr(name, values)

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Return that no row is wrapped, as SuperSuit does; SB3 asks."""
        return [False] * (self.num_envs if indices is None else len(indices))

    def render(self) -> Any:
        """Return the frame of the first environment, as SuperSuit does; ``call("render")`` returns all."""
        frames = self._envs.render()
        return frames[0]

    def close_extras(self, **kwargs: Any) -> None:
        """End the session; called by `close`."""
        self.closed = True
        self._envs.close()

    def __enter__(self) -> RemoteVectorParallelEnv:
        """Return self."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close."""
        self.close()

    def __del__(self) -> None:
        """Close if the user did not."""
        if not self.closed:
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments only: a copy dials anew."""
        return {"envs": self._envs, "style": self.style}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a copy that has not dialled yet."""
        self._adopt(**state)

    def __repr__(self) -> str:
        """Return the address."""
        return repr(self._envs).replace("RemoteVectorEnv", "RemoteVectorParallelEnv", 1)


def vector_env(*args: Any, **options: Any) -> RemoteVectorParallelEnv:
    """Return a `RemoteVectorParallelEnv`; takes its arguments."""
    return RemoteVectorParallelEnv(*args, **options)
