"""Small PettingZoo environments, hosted as ``parallel_toys:create`` with the name of one as `toy`."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pettingzoo
from gymnasium import spaces
from pettingzoo import ParallelEnv
from pettingzoo.utils import parallel_to_aec

BOOM, KILL, EXIT = 5, 6, 7
"""Actions of a `Flock` that are none of its space: raise, die of a signal, exit."""


class Toy(ParallelEnv):
    """Counts steps, and remembers what it was given."""

    metadata = {"name": "toy_v0", "render_modes": ["rgb_array", "ansi"], "render_fps": 7}
    length = 6

    def __init__(self, render_mode: str | None = None, length: int | None = None) -> None:
        self.render_mode = render_mode
        self.length = length or self.length
        self.seen: Any = None
        self.generator = np.random.default_rng()
        self.level = 1

    def observation_space(self, agent: Any) -> Any:
        return self.spaces_of[agent][0]

    def action_space(self, agent: Any) -> Any:
        return self.spaces_of[agent][1]

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.generator = np.random.default_rng(seed)
        self.steps, self.seen = 0, options
        self.agents = self.beginners()
        return self.observed(), {agent: {"options": options} if options else {} for agent in self.agents}

    def beginners(self) -> list[Any]:
        return list(self.possible_agents)

    def observed(self) -> Any:
        return {agent: self.observe(agent) for agent in self.agents}

    def observe(self, agent: Any) -> Any:
        return self.generator.uniform(-1, 1, 3).astype(np.float32)

    def dies(self, agent: Any) -> bool:
        return False

    def comers(self) -> list[Any]:
        return []

    def step(self, actions: Any) -> Any:
        self.steps += 1
        self.agents = self.agents + self.comers()
        observations = self.observed()
        rewards = {agent: self.reward(agent, actions.get(agent)) for agent in self.agents}
        terminations = {agent: self.dies(agent) for agent in self.agents}
        truncations = dict.fromkeys(self.agents, self.steps >= self.length)
        infos = {agent: self.info(agent, actions) for agent in self.agents}
        self.agents = [agent for agent in self.agents if not (terminations[agent] or truncations[agent])]
        return observations, rewards, terminations, truncations, infos

    def reward(self, agent: Any, action: Any) -> Any:
        return self.generator.normal()

    def info(self, agent: Any, actions: Any) -> Any:
        return {"steps": self.steps, "action": actions.get(agent)} if self.steps % 2 else {}

    def render(self) -> Any:
        return f"step {self.steps}" if self.render_mode == "ansi" else np.full((4, 6, 3), self.steps, np.uint8)


class Flock(Toy):
    """Agents of one kind, of which all live to the end; some of their actions end more than that."""

    def __init__(self, agents: int = 3, **options: Any) -> None:
        super().__init__(**options)
        self.possible_agents = [f"bird_{number}" for number in range(agents)]
        kind = spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(4)
        self.spaces_of = dict.fromkeys(self.possible_agents, kind)
        self.state_space = spaces.Box(0, 1_000, (2,), np.int64)

    def state(self) -> Any:
        return np.array([self.steps, len(self.agents)])

    def reward(self, agent: Any, action: Any) -> Any:
        if action == BOOM:
            raise KeyError(f"{agent} has no such thing")
        if action == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if action == EXIT:
            raise SystemExit(3)
        return float(action) / 3


class Steerers(Flock):
    """The same with continuous actions, and observations of nested parts."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        seen = spaces.Dict({"observation": spaces.Box(0, 255, (2, 3), np.uint8), "legal": spaces.MultiBinary(4)})
        kind = seen, spaces.Tuple([spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(4)])
        self.spaces_of = dict.fromkeys(self.possible_agents, kind)

    def observe(self, agent: Any) -> Any:
        mask = self.generator.integers(0, 2, 4).astype(np.int8)
        return {"observation": self.generator.integers(0, 256, (2, 3)).astype(np.uint8), "legal": mask}

    def reward(self, agent: Any, action: Any) -> Any:
        return np.float32(action[0].sum())


class Pack(Flock):
    """Agents of two kinds, which padding makes one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        wolf, dog = self.possible_agents[:2]
        self.spaces_of = {
            wolf: (spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(2)),
            dog: (spaces.Box(-1, 1, (5,), np.float32), spaces.Discrete(4)),
        }
        self.possible_agents = [wolf, dog]

    def observe(self, agent: Any) -> Any:
        return self.generator.uniform(-1, 1, self.observation_space(agent).shape).astype(np.float32)


class Mortals(Flock):
    """The first dies in the third step, the second comes in the second; of one kind."""

    def beginners(self) -> list[Any]:
        return [agent for agent in self.possible_agents if agent != "bird_1"]

    def comers(self) -> list[Any]:
        return ["bird_1"] if self.steps == 2 else []

    def dies(self, agent: Any) -> bool:
        return agent == "bird_0" and self.steps == 3

    def reward(self, agent: Any, action: Any) -> Any:
        return 1


class Menagerie(Toy):
    """Agents of all kinds, named by no identifiers; one dies, one comes, and dicts have orders of their own."""

    possible_agents = ["zebra 1", "ant/2", "", "köter"]
    spaces_of = {
        "zebra 1": (spaces.Box(-1, 1, (3,), np.float32), spaces.Box(-1, 1, (2,), np.float64)),
        "ant/2": (
            spaces.Dict(
                {"observation": spaces.Box(0, 9, (2,), np.int16), "action_mask": spaces.Box(0, 1, (4,), np.int8)}
            ),
            spaces.Discrete(4),
        ),
        "": (spaces.Discrete(50), spaces.MultiDiscrete([2, 3])),
        "köter": (spaces.Text(12), spaces.Tuple([spaces.Discrete(2), spaces.MultiBinary(2)])),
    }

    def beginners(self) -> list[Any]:
        return ["köter", "zebra 1", "ant/2"]

    def comers(self) -> list[Any]:
        return [""] if self.steps == 2 else []

    def dies(self, agent: Any) -> Any:
        return np.bool_(self.steps == 4) if agent == "ant/2" else agent == "köter" and self.steps == 5

    def observe(self, agent: Any) -> Any:
        if agent == "ant/2":
            return {
                "action_mask": self.generator.integers(0, 2, 4).astype(np.int8),
                "observation": self.generator.integers(0, 9, 2).astype(np.int16),
            }
        return {"": np.int64(self.steps), "köter": "wuff" * (self.steps % 3)}.get(agent, super().observe(agent))

    def reward(self, agent: Any, action: Any) -> Any:
        return {"ant/2": np.float32(0.1), "": 1, "köter": np.float64(0.3)}.get(agent, 0.2)

    def info(self, agent: Any, actions: Any) -> Any:
        return {"saw": [(name, repr(action)) for name, action in actions.items()], agent: (1, np.int8(2))}


class Strangers(Toy):
    """Agents that nobody knows beforehand, named by tuples; spaces are new in each episode."""

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.born, self.spaces_of = 0, {}
        return super().reset(seed, options)

    def beginners(self) -> list[Any]:
        kind = spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(int(self.generator.integers(2, 9)))
        self.spaces_of = {("guest", number): kind for number in range(30)}
        return [("guest", 0), ("guest", 1)]

    def comers(self) -> list[Any]:
        self.born += 1
        return [("guest", 1 + self.born)]

    def dies(self, agent: Any) -> bool:
        return bool(self.generator.random() < 0.2)


class Unruly(Toy):
    """Returns what no ParallelEnv does."""

    possible_agents = ["a"]
    spaces_of = {"a": (spaces.Discrete(2), spaces.Discrete(2))}

    def step(self, actions: Any) -> Any:
        return {}, {}, {}, {}


TOYS: dict[str, Any] = {
    kind.__name__.lower(): kind for kind in (Flock, Steerers, Pack, Mortals, Menagerie, Strangers, Unruly)
}


def create(
    toy: str = "flock", render_mode: str | None = None, agents: int | None = None, length: int | None = None
) -> Any:
    """Return a toy; ``"aec ..."`` is the same with agents in turn, as PettingZoo converts it."""
    kwargs = {} if agents is None else {"agents": agents}
    made = TOYS[toy.rpartition(" ")[2]](render_mode=render_mode, length=length, **kwargs)
    return parallel_to_aec(made) if toy.startswith("aec ") else made


def padded() -> Any:
    """Return a pack, padded by SuperSuit."""
    import supersuit

    return supersuit.pad_action_space_v0(supersuit.pad_observations_v0(create("pack")))


def knights(max_cycles: int = 60) -> Any:
    """Return knights, archers and zombies, of whom the dead are kept by SuperSuit."""
    import supersuit

    return supersuit.black_death_v3(
        pettingzoo.make("parallel", "butterfly/knights_archers_zombies-v11", max_cycles=max_cycles)
    )


def create_environment(render_mode: str | None = None) -> Any:
    """Return a flock: this file is an entrypoint, too."""
    return create("flock", render_mode)
