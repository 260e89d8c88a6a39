"""Child side: an environment of several agents, a PettingZoo ``ParallelEnv``, presented as one of Gymnasium's.

What it looks like then, and how those who want it as it is ask for that, is told in `remote_gym.agents`. PettingZoo is
never imported here: who has returned such an environment has imported it.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np

from remote_gym import gym as spaces
from remote_gym.agents import (
    AGENTS,
    FACTORIES,
    FACTORY,
    INFOS,
    LIVE,
    OBSERVED,
    RESERVED,
    REWARDS,
    SPACE,
    TERMINATIONS,
    TRUNCATIONS,
    About,
    describe_space,
    said_of,
)
from remote_gym.errors import MisuseError
from remote_gym.gym import Env
from remote_gym.leaves import kind_of
from remote_gym.spaces import build, describe

_STEP = ("observations", "rewards", "terminations", "truncations", "infos")


def is_of_pettingzoo(function: Any, entrypoint: str) -> bool:
    """Return whether `function` makes environments as PettingZoo's modules do: it hands on whatever it is given.

    It is one of PettingZoo's own, or is called as in its modules: `parallel_env`, or `env` or `raw_env` beside it.
    """
    module, _, name = entrypoint.partition(":")
    if "parallel_env" in (name, getattr(function, "__name__", "")):
        return True
    if name in ("env", "raw_env") and hasattr(sys.modules.get(module), "parallel_env"):
        return True
    function = getattr(function, "func", function)  # of a partial
    return str(getattr(function, "__module__", "")).partition(".")[0] == "pettingzoo"


def registered(name: str) -> Any:
    """Return the function that makes the environment of an id of PettingZoo's own registry; None if it knows none."""
    registration = sys.modules.get("pettingzoo.env_registry.registration")
    for kind in ("parallel", "aec"):
        if name in getattr(registration, f"{kind}_registry", ()):
            return partial(registration.make, kind, name)  # type: ignore[union-attr]
    return None


def as_environment(made: Any) -> Any:
    """Return what an entrypoint has `made`; one of PettingZoo's environments as one of Gymnasium's.

    Raises:
        MisuseError: Its agents act in turn and not together, or it cannot be presented.
    """
    if isinstance(made, Env):
        return made
    if _is_instance(made, "AECEnv"):
        made = _converted(made)
    return ParallelEnvironment(made) if _is_parallel(made) else made


def _is_instance(made: Any, name: str) -> bool:
    base = getattr(sys.modules.get("pettingzoo.utils.env"), name, None)
    return isinstance(base, type) and isinstance(made, base)


def _is_parallel(made: Any) -> bool:
    """Whether it is a ``ParallelEnv``, or has all that one has: of its agents it is asked for spaces, as methods."""
    if _is_instance(made, "ParallelEnv"):
        return True
    names = ("reset", "step", "observation_space", "action_space")
    return not isinstance(made, type) and all(callable(getattr(made, name, None)) for name in names)


def _converted(made: Any) -> Any:
    """Return an ``AECEnv`` as the library itself converts it."""
    convert = getattr(sys.modules.get("pettingzoo.utils.conversions"), "aec_to_parallel", None)
    if convert is None:
        raise MisuseError(f"the entrypoint returned {_name_of(made)}, an AECEnv, and no PettingZoo that converts it")
    try:
        return convert(made)
    except AssertionError as error:
        raise MisuseError(
            f"the entrypoint returned {_name_of(made)}, an AECEnv whose agents act in turn, which does not become a "
            f"ParallelEnv: its metadata does not say 'is_parallelizable'. Let the entrypoint return what "
            f"pettingzoo.utils.turn_based_aec_to_parallel makes of it, or a ParallelEnv"
        ) from error


def _name_of(parallel: Any) -> str:
    metadata = getattr(parallel, "metadata", None)
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return str(name or type(parallel).__qualname__)


class ParallelEnvironment(Env):
    """A ``ParallelEnv`` as a `gymnasium.Env`.

    Attributes:
        parallel: It.
    """

    def __init__(self, parallel: Any) -> None:
        """Present `parallel`.

        Raises:
            MisuseError: An agent has a name that is reserved.
            Exception: Whatever it raises when asked for its spaces.
        """
        self.parallel = parallel
        self._name = _name_of(parallel)
        self._seen: dict[int, tuple[int, Any]] = {}  # by id, the number of each space object, and itself
        self.render_mode = getattr(parallel, "render_mode", None)
        possible = getattr(parallel, "possible_agents", None)
        self._possible = list(possible or ())
        self._known = frozenset(self._possible)
        self._keys = _keys_of(self._possible)
        self._places = list(zip(self._keys, self._possible))
        observed, taken = (
            [space_of(agent) for agent in self._possible]
            for space_of in (parallel.observation_space, parallel.action_space)
        )
        self.observation_space, self.action_space = self._joined(observed), self._joined(taken)
        agents, state = getattr(parallel, "agents", None), getattr(parallel, "state_space", None)
        about = About(
            possible=None if possible is None else self._possible,
            keys=self._keys,
            agents=None if agents is None else list(agents),
            observation=[self._number(space) for space in observed],
            action=[self._number(space) for space in taken],
            state=None if state is None else describe_space(state),
        )
        self.metadata = {**getattr(parallel, "metadata", {}), AGENTS: said_of(about)}
        self._blank = {key: blank(space) for key, space in zip(self._keys, observed)}
        self._always = dict(self._seen)

    def _joined(self, each: Sequence[Any]) -> Any:
        # What several agents share is copied: as parts of a Dict they are seeded one by one.
        own, seen = [], set()
        for space in each:
            own.append(deepcopy(space) if id(space) in seen else space)
            seen.add(id(space))
        return spaces.Dict(list(zip(self._keys, own)))  # pairs: of a dict, Gymnasium would sort the keys

    def _number(self, space: Any) -> int:
        """Return the same number for the same object, which is kept so that no other one gets its id."""
        return self._seen.setdefault(id(space), (len(self._seen), space))[0]

    # As Gymnasium has it

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, Any]:
        """Begin a new episode; see `remote_gym.agents`."""
        if type(options) is dict and AGENTS in options:
            observations, infos = self._reset(seed, options[AGENTS])
            return observations, self._with_agents(infos)
        self._check_possible()
        super().reset(seed=seed)  # for `np_random`, which Gymnasium's environments have
        observations, infos = self._reset(seed, options)
        return self._rows(observations, infos)

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Step with the actions of all agents, or of those that act; see `remote_gym.agents`."""
        if type(action) is dict and len(action) == 1 and AGENTS in action:
            observations, rewards, terminations, truncations, infos = self._step(action[AGENTS])
            info = self._with_agents(infos)
            if type(rewards) is defaultdict:
                factory = getattr(rewards.default_factory, "__name__", "")
                if FACTORIES.get(factory) is rewards.default_factory:
                    info[FACTORY] = factory
            return observations, _plain(rewards), terminations, truncations, info
        self._check_possible()
        live = self._live()
        acting = {agent: action[key] for key, agent in self._places if agent in live}
        observations, rewards, terminations, truncations, infos = self._step(acting)
        rows, info = self._rows(observations, infos)
        given = rewards.get
        info[REWARDS] = np.fromiter([given(agent, 0.0) for agent in self._possible], np.float64, len(self._possible))
        terminated, truncated = any(terminations.values()), any(truncations.values())
        over = not self.parallel.agents
        if terminated or truncated:
            info[TERMINATIONS], info[TRUNCATIONS] = self._flags(terminations), self._flags(truncations)
            over = over or all(terminations.get(agent, False) or flag for agent, flag in truncations.items())
        terminated = over and (terminated or not truncated)
        return rows, float(sum(rewards.values())), terminated, over and truncated, info

    def _check_possible(self) -> None:
        if not self._possible:
            raise MisuseError(
                f"{self._name} does not say beforehand which agents there may be (possible_agents): only "
                f"remote_gym.pettingzoo.RemoteParallelEnv can use it"
            )

    def _live(self) -> set[Any]:
        live = set(self.parallel.agents)
        if not live.issubset(self._known):
            strangers = ", ".join(sorted(map(repr, live.difference(self._known))))
            raise MisuseError(f"{self._name}: agents that are none of its possible_agents: {strangers:.200}")
        return live

    def _rows(self, observations: dict[Any, Any], infos: dict[Any, Any]) -> tuple[dict[Any, Any], dict[str, Any]]:
        """Return what all agents observe, and what else there is to say of them."""
        rows, missing = self._blank.copy(), False
        observed, said = observations.get, False
        for key, agent in self._places:
            if (one := observed(agent)) is None:
                missing = True
            else:
                rows[key] = one
            if infos.get(agent):
                said = True
        info: dict[str, Any] = {}
        live = self._live()
        if len(live) < len(self._known):
            info[LIVE] = np.array([agent in live for agent in self._possible])
        if missing:
            info[OBSERVED] = np.array([observed(agent) is not None for agent in self._possible])
        if said:
            info[INFOS] = [infos.get(agent) or {} for agent in self._possible]
        return rows, info

    def _flags(self, flags: dict[Any, Any]) -> Any:
        return np.array([bool(flags.get(agent, False)) for agent in self._possible])

    # As it is

    def _reset(self, seed: Any, options: Any) -> Any:
        self._seen = dict(self._always)  # other spaces may be new ones, and are asked for anew
        arguments = {} if options is None else {"options": options}
        return self._dicts(self.parallel.reset(seed=seed, **arguments), (_STEP[0], _STEP[-1]))

    def _step(self, actions: Any) -> Any:
        return self._dicts(self.parallel.step(actions), _STEP)

    def _dicts(self, returned: Any, names: Sequence[str]) -> Any:
        """Return what the environment returned if it is so many dicts; those by agent that it is made of are its own.

        Raises:
            MisuseError: It is not.
        """
        method = "step" if names is _STEP else "reset"
        if not isinstance(returned, (tuple, list)) or len(returned) != len(names):
            got = f"{len(returned)} items" if isinstance(returned, (tuple, list)) else type(returned).__name__
            raise MisuseError(f"{self._name}: {method} returned {got}, expected {len(names)}: {', '.join(names)}")
        for value, name in zip(returned, names):
            if not isinstance(value, dict):
                raise MisuseError(
                    f"{self._name}: {method} returned {name} of type {type(value).__name__}, expected a dict by agent"
                )
        return [value if name == "rewards" else _plain(value) for value, name in zip(returned, names)]

    def _with_agents(self, infos: dict[Any, Any]) -> dict[Any, Any]:
        if not RESERVED.isdisjoint(infos) or not RESERVED.isdisjoint(self.parallel.agents):
            raise MisuseError(f"{self._name}: agents and their infos may not be called {', '.join(sorted(RESERVED))}")
        return {**infos, AGENTS: list(self.parallel.agents)}

    # The rest

    def render(self) -> Any:
        """Return the environment's own frame."""
        return self.parallel.render()

    def close(self) -> None:
        """Close it."""
        self.parallel.close()

    def remote_gym_space(self, kind: str, agent: Any = None) -> Any:
        """Return the number and the description of the ``"observation"`` or ``"action"`` space of an agent."""
        space = {"observation": self.parallel.observation_space, "action": self.parallel.action_space}[kind](agent)
        return [self._number(space), describe_space(space)]

    # Attributes are those of the environment itself.

    def get_wrapper_attr(self, name: str) -> Any:
        """Return the environment's attribute; what it has not, this object may have."""
        if name == SPACE or not hasattr(self.parallel, name):
            if not hasattr(self, name):
                raise AttributeError(f"{self._name} has no attribute {name!r}")
            return getattr(self, name)
        return getattr(self.parallel, name)

    def has_wrapper_attr(self, name: str) -> bool:
        """Return whether there is such an attribute."""
        return hasattr(self.parallel, name) or hasattr(self, name)

    def set_wrapper_attr(self, name: str, value: Any, *, force: bool = True) -> bool:
        """Set an attribute of the innermost environment if it has it, else of the outermost."""
        innermost = getattr(self.parallel, "unwrapped", self.parallel)
        target = innermost if hasattr(innermost, name) else self.parallel
        if not force and not hasattr(target, name):
            return False
        setattr(target, name, value)
        return True

    def __str__(self) -> str:
        """Return what it presents."""
        return f"<ParallelEnvironment<{self._name}>>"


def _keys_of(agents: Sequence[Any]) -> list[Any]:
    """Return keys that a Dict space may have: the agents themselves if all are str or all are int."""
    if len(set(agents)) != len(agents) or not RESERVED.isdisjoint(agents):
        raise MisuseError(f"possible_agents must be distinct, and none of {', '.join(sorted(RESERVED))}")
    if len(set(map(type, agents))) <= 1 and all(type(agent) in (str, int) for agent in agents):
        return list(agents)
    texts = list(map(str, agents))
    return texts if len(set(texts)) == len(texts) else [f"{at}: {text}" for at, text in enumerate(texts)]


def _plain(value: dict[Any, Any]) -> dict[Any, Any]:
    return value if type(value) is dict else dict(value)


def blank(space: Any) -> Any:
    """Return what stands in the place of an absent agent's observation: zeros; of no fixed size some element."""
    kind = kind_of(space)
    if kind == "Dict":
        return {key: blank(child) for key, child in space.spaces.items()}
    if kind == "Tuple":
        return tuple(blank(child) for child in space.spaces)
    if kind == "Discrete":
        return np.dtype(space.dtype).type(0)
    if space.shape is not None and kind in ("Box", "MultiDiscrete", "MultiBinary"):
        return np.zeros(space.shape, space.dtype)
    copied = build(describe(space, False))  # whose own generator stays as it is
    copied.seed(0)
    return copied.sample()
