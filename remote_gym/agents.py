"""No I/O: how an environment of several agents, a PettingZoo ``ParallelEnv``, travels as one of Gymnasium's.

Its worker presents it as a `gymnasium.Env` (`worker.parallel`): observations and actions are Dicts with a key for each
possible agent. That is what `RemoteEnvironment` and `RemoteVectorEnv` see of it. Absent agents have zeros there; the
reward is the sum of all, and the episode is over once no agent is left. What each agent got is in the info, an item for
each possible agent, under the names below.

`remote_gym.pettingzoo.RemoteParallelEnv` wants the environment as it is. It says so in every request: an action
``{AGENTS: {agent: action}}``, options ``{AGENTS: options}``. The answer then holds what the environment returned,
dicts by agent in place of observation, reward and flags, each travelling as the values they are; its info holds those
of the agents and, under `AGENTS`, the agents that are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from remote_gym.errors import MisuseError, ProtocolError
from remote_gym.spaces import build, describe

AGENTS = "remote_gym.agents"
"""In the environment's metadata: a description, see `About`. In requests and answers: see above."""

FACTORY = "remote_gym.factory"
"""In such an answer: the rewards are a ``defaultdict`` of ``"int"`` or ``"float"``, as PettingZoo's own conversions
return them."""

FACTORIES = {"int": int, "float": float}

LIVE = "remote_gym.live"
"""(agents,) bool: who is in the episode from now on, and acts next. Left out if all are."""

OBSERVED = "remote_gym.observed"
"""(agents,) bool: of whom there is an observation; the others have zeros. Left out if there is one of each."""

REWARDS = "remote_gym.rewards"
"""(agents,) float64: of a step; 0 for who got none."""

TERMINATIONS = "remote_gym.terminations"
"""(agents,) bool: of a step; False for who got none. Left out, with the next, if it has ended for nobody."""

TRUNCATIONS = "remote_gym.truncations"
"""(agents,) bool: likewise."""

INFOS = "remote_gym.infos"
"""A list of the agents' infos, each a dict. Left out if all are empty."""

SPACE = "remote_gym_space"
"""The method that describes the space of an agent, for agents that nobody knew beforehand, and that of the state."""

RESERVED = frozenset({AGENTS, FACTORY, "remote_gym"})
"""What no agent may be called: keys of infos."""


@dataclass(frozen=True)
class About:
    """What is said of a multi-agent environment besides its spaces.

    Attributes:
        possible: All agents that there may be, in the environment's order; None: it does not know them beforehand.
        keys: By position in `possible`, the key of the agent in the Dict spaces.
        agents: Those in the episode when the environment was made; None: there was no such attribute.
        observation: By position in `possible`, a number: agents with the same one share one observation space object.
        action: Likewise.
        state: The description of the space of `state()`; None: it has none.
    """

    possible: list[Any] | None
    keys: list[Any]
    agents: list[Any] | None
    observation: list[int]
    action: list[int]
    state: dict[str, Any] | None


def said_of(about: About) -> dict[str, Any]:
    """Return `about` as a value that travels."""
    return dict(vars(about))


def read_about(said: Any) -> About:
    """Return what `said_of` has made a value of.

    Raises:
        ProtocolError: It is malformed.
    """
    try:
        about = About(**said)
        lists = [about.keys, about.observation, about.action]
        known = about.possible or []
        if (
            not all(type(one) is list and len(one) == len(known) for one in lists)
            or not all(one is None or type(one) is list for one in (about.possible, about.agents))
            or len({*known}) != len(known)
            or not {int}.issuperset(map(type, [*about.observation, *about.action]))
        ):
            raise ValueError("lists that do not fit together")
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"a malformed description of agents: {error!s:.200}") from error
    return about


def describe_space(space: Any) -> dict[str, Any]:
    """Return a space as a value that travels; raises like `spaces.describe`."""
    return describe(space)


def build_space(said: Any) -> Any:
    """Return the space that `describe_space` has made a value of.

    Raises:
        ProtocolError: It is malformed.
    """
    try:
        return build(said, custom=True)
    except MisuseError as error:
        raise ProtocolError(f"a malformed description of a space: {error}") from error
