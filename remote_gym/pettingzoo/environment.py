"""Trainer process: `RemoteParallelEnv`, one environment of several agents as a ``pettingzoo.ParallelEnv``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from gymnasium import Space
from pettingzoo import ParallelEnv

from remote_gym import MisuseError, ProtocolError, RemoteEnvironment
from remote_gym.agents import AGENTS, FACTORIES, FACTORY, SPACE, About, build_space
from remote_gym.errors import also
from remote_gym.pettingzoo.told import LOST, about_of, shared


class RemoteParallelEnv(ParallelEnv):  # type: ignore[misc]
    """One environment of several agents on a server: a ``pettingzoo.ParallelEnv``.

    With the same seed and actions it gives bit for bit, type for type and in the same order what the local environment
    gives, also where agents come and go. It dials on first need: `reset`, or reading agents, spaces or `metadata`.

    Spaces of agents that the environment does not know beforehand (it has no `possible_agents`) are asked for when they
    are needed, and anew in each episode. Spaces here are copies: to seed one of the observations changes nothing there.

    Closing contract: `close` is bounded in time, may be called twice, and always releases.
    """

    def __init__(
        self,
        url: str | None = None,
        port: int | None = None,
        remote_args: Mapping[str, Any] | None = None,
        client_credentials_paths: Sequence[Any] | None = None,
        render_mode: str | None = None,
        *,
        validate_actions: bool = False,
        **options: Any,
    ) -> None:
        """Prepare; dials nothing yet.

        Args:
            url: As all others, as for `RemoteEnvironment`.
            port: Likewise.
            remote_args: Likewise.
            client_credentials_paths: Likewise.
            render_mode: Likewise.
            validate_actions: Whether to refuse actions that are not in their agent's space.
            options: Likewise. With ``on_worker_failure="truncate"`` an episode whose worker is lost ends truncated for
                each of its agents, with reward 0 and a ``"remote_gym"`` in its info.

        Raises:
            MisuseError: An argument is wrong; names it.
        """
        env = RemoteEnvironment(
            url, port, remote_args, client_credentials_paths, render_mode, **options  # type: ignore[arg-type]
        )  # fmt: skip
        self._begin(env, validate_actions)

    @classmethod
    def local(cls, entrypoint: Any, *, validate_actions: bool = False, **options: Any) -> RemoteParallelEnv:
        """Make one whose server is a child that lives and dies with this process; as `RemoteEnvironment.local`."""
        made = cls.__new__(cls)
        made._begin(RemoteEnvironment.local(entrypoint, **options), validate_actions)
        return made

    def _begin(self, env: RemoteEnvironment, validates: bool) -> None:
        self._env = env
        self._validates = validates
        self.render_mode = env.render_mode
        self._known: About | None = None
        self._agents: list[Any] | None = None
        self._spaces: dict[str, dict[Any, Space[Any]]] = {}  # by kind, of the possible agents
        self._asked: dict[tuple[str, Any], Space[Any]] = {}  # of others, in this episode
        self._numbered: dict[tuple[str, int], Space[Any]] = {}  # the same by their number
        self._metadata: dict[str, Any] | None = None
        self._state_space: Space[Any] | None = None

    # What the server told

    @property
    def _about(self) -> About:
        if self._known is None:
            about = about_of(self._env)
            agents = about.possible or []
            for kind, hosted in (("observation", self._env.observation_space), ("action", self._env.action_space)):
                each = shared(hosted, about.keys, getattr(about, kind))
                self._spaces[kind] = dict(zip(agents, each, strict=True))
            self._agents = self._agents or about.agents
            self._state_space = None if about.state is None else build_space(about.state)
            self._known = about
        return self._known

    @property
    def metadata(self) -> dict[str, Any]:  # type: ignore[override]
        """Of the hosted environment."""
        if self._metadata is None:
            _ = self._about
            self._metadata = {name: value for name, value in self._env.metadata.items() if name != AGENTS}
        return self._metadata

    @metadata.setter
    def metadata(self, value: dict[str, Any]) -> None:
        self._metadata = value

    @property
    def possible_agents(self) -> list[Any]:  # type: ignore[override]
        """All agents that there may be, in the environment's order.

        Raises:
            AttributeError: The environment does not know them beforehand.
        """
        possible = self._about.possible
        if possible is None:
            raise AttributeError("the hosted environment has no possible_agents: its agents are not known beforehand")
        return possible

    @property
    def agents(self) -> list[Any]:  # type: ignore[override]
        """Those in the episode now."""
        _ = self._about
        if self._agents is None:
            raise AttributeError("the hosted environment has no agents before its first reset")
        return self._agents

    @property
    def state_space(self) -> Space[Any]:
        """Of what `state` returns.

        Raises:
            AttributeError: The environment has none.
        """
        _ = self._about
        if self._state_space is None:
            raise AttributeError("the hosted environment has no state_space")
        return self._state_space

    @property
    def observation_spaces(self) -> dict[Any, Space[Any]]:  # type: ignore[override]
        """Of the possible agents."""
        return {agent: self.observation_space(agent) for agent in self.possible_agents}

    @property
    def action_spaces(self) -> dict[Any, Space[Any]]:  # type: ignore[override]
        """Of the possible agents."""
        return {agent: self.action_space(agent) for agent in self.possible_agents}

    def observation_space(self, agent: Any) -> Space[Any]:
        """Return the space of an agent's observations: the same object each time, equal to the hosted one."""
        return self._space("observation", agent)

    def action_space(self, agent: Any) -> Space[Any]:
        """Return the space of an agent's actions; likewise."""
        return self._space("action", agent)

    def _space(self, kind: str, agent: Any) -> Space[Any]:
        _ = self._about
        if agent in (known := self._spaces[kind]):
            return known[agent]
        if (kind, agent) not in self._asked:
            number, said = _numbered(self._env.get_wrapper_attr(SPACE)(kind, agent))
            if (kind, number) not in self._numbered:
                self._numbered[kind, number] = build_space(said)
            self._asked[kind, agent] = self._numbered[kind, number]
        return self._asked[kind, agent]

    # Reset and step

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Begin a new episode.

        Args:
            seed: For the hosted environment.
            options: Likewise.

        Returns:
            observations: By agent, as the environment returns them.
            infos: Likewise.

        Raises:
            MisuseError: `seed` or `options` is wrong, or cannot travel; or the server hosts something else.
            EnvironmentRaised, EnvironmentLost: In the hosted environment.
            SessionLost: The server no longer holds it.
        """
        _ = self._about
        observations, infos = self._env.reset(seed=seed, options={AGENTS: options})
        self._asked, self._numbered = {}, {}
        note = infos.pop(LOST, None) if isinstance(infos, dict) else None
        observations, infos = self._taken(observations, infos)
        if type(note) is dict:  # lost meanwhile, and reset again
            infos = {agent: {**infos.get(agent, {}), LOST: dict(note)} for agent in self._agents or ()}
        return observations, infos

    def step(
        self, actions: dict[Any, Any]
    ) -> tuple[dict[Any, Any], dict[Any, Any], dict[Any, bool], dict[Any, bool], dict[Any, Any]]:
        """Step all agents at once.

        Args:
            actions: By agent; handed to the environment as it is, whoever is missing.

        Returns:
            observations, rewards, terminations, truncations, infos: By agent, as the environment returns them.

        Raises:
            MisuseError: `actions` is no dict, or one of them cannot travel; nothing was sent.
            gymnasium.error.ResetNeeded: The environment must be reset first.
            EnvironmentRaised, EnvironmentLost: In the hosted environment.
            SessionLost: The server no longer holds it.
        """
        if not isinstance(actions, dict):
            raise also(MisuseError, TypeError)(f"actions must be a dict by agent, got a {type(actions).__name__}")
        if self._known is None or self._validates:
            self._check(actions)
        observations, rewards, terminations, truncations, infos = self._env.step({AGENTS: dict(actions)})
        if type(rewards) is float and isinstance(infos, dict) and type(infos.get(LOST)) is dict:
            return self._cut_short(observations, infos[LOST])
        factory = infos.pop(FACTORY, None) if isinstance(infos, dict) else None
        observations, infos = self._taken(observations, infos)
        if not all(type(one) is dict for one in (rewards, terminations, truncations)):
            raise ProtocolError("rewards and flags of a ParallelEnv that are no dicts")
        if factory in FACTORIES:
            rewards = defaultdict(FACTORIES[factory], rewards)
        return observations, rewards, terminations, truncations, infos

    def _check(self, actions: dict[Any, Any]) -> None:
        _ = self._about
        for agent, action in actions.items() if self._validates else ():
            if not self.action_space(agent).contains(action):
                raise MisuseError(f"the action of agent {agent!r} is outside of its space: {action!r:.80}")

    def _taken(self, observations: Any, infos: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Return an answer without what it holds besides; take over who is left."""
        agents = infos.pop(AGENTS, None) if isinstance(infos, dict) else None
        if type(agents) is not list or not isinstance(observations, dict):
            raise ProtocolError("an answer of a ParallelEnv that does not say which agents are left")
        self._agents = agents
        return observations, infos

    def _cut_short(self, last: Any, note: dict[str, Any]) -> tuple[Any, ...]:
        """Return the end of a lost episode: of each agent in it, with its last observation if there is one."""
        if not isinstance(last, dict):
            raise ProtocolError("observations of a ParallelEnv that are no dict")
        agents, self._agents = self._agents or [], []
        return (
            {agent: last[agent] for agent in agents if agent in last},
            dict.fromkeys(agents, 0.0),
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, True),
            {agent: {LOST: dict(note)} for agent in agents},
        )

    # The rest

    def state(self) -> Any:
        """Return the environment's state, what all agents together may know.

        Raises:
            NotImplementedError: It has none.
        """
        _ = self._about
        return self._env.get_wrapper_attr("state")()

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the hosted environment, or return an attribute that is no method."""
        _ = self._about
        attribute = self._env.get_wrapper_attr(name)
        return attribute(*args, **kwargs) if callable(attribute) else attribute

    def render(self) -> Any:
        """Return the hosted environment's frame; None in render mode ``"human"``: it has been shown already."""
        _ = self._about
        return self._env.render()

    def close(self) -> None:
        """End the session, and close the window if there is one."""
        if "_env" in vars(self):
            self._env.close()

    def __enter__(self) -> RemoteParallelEnv:
        """Return self."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments only: a copy dials anew."""
        return {"env": self._env, "validates": self._validates}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a copy that has not dialled yet."""
        self._begin(**state)

    def __repr__(self) -> str:
        """Return the address."""
        return repr(self._env).replace("RemoteEnvironment", "RemoteParallelEnv", 1)


def _numbered(said: Any) -> tuple[int, Any]:
    if type(said) is not list or len(said) != 2 or type(said[0]) is not int:
        raise ProtocolError("a description of a space without its number")
    return said[0], said[1]
