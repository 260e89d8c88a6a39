"""No I/O: the rules that make a remote environment indistinguishable, and the record of which ones hold."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from remote_gym.testing.comparison import Difference


class Rule(enum.Enum):
    """What is compared. The value is the whole message: what must hold."""

    WORKS = "what works on the local environment works on the remote one"
    SPACES = "spaces equal the local ones"
    SAMPLES = "a space that is seeded samples the local sequence"
    DESCRIPTION = "num_envs, render_mode, metadata, autoreset_mode and spec are the local ones"
    SEED_INT = "an int seeds the environment; in a vector, environment i with seed + i"
    SEED_LIST = "a list seeds each environment with its own item, and None leaves its generator as it is"
    UNSEEDED = "a reset without a seed goes on with the generator as it is"
    MASKED_RESET = "reset_mask resets the environments it names; the others keep their last observation"
    MISUSE = "a reset_mask that the local environment refuses is refused, with a TypeError or ValueError"
    OPTIONS = "the caller's options are not changed"
    OBSERVATION_TYPES = "observations have the local structure and types"
    OBSERVATION_DTYPES = "observations have the local dtypes and shapes"
    KEY_ORDER = "observations that are dicts have their keys in the local order"
    OBSERVATION_VALUES = "observations are bit for bit the local ones"
    REWARD_TYPE = "rewards have the local type, dtype and shape"
    REWARD_VALUES = "rewards are bit for bit the local ones"
    TERMINATED = "terminated is the local one"
    TRUNCATED = "truncated is the local one"
    INFO_KEYS = "infos have the local keys, at every level"
    INFO_MASKS = "every info key of a vector has its mask `_key`, True for the environments that gave the key"
    INFO_TYPES = "infos hold the local types: an int is no NumPy integer, a tuple no list"
    INFO_DTYPES = "arrays in infos have the local dtypes and shapes"
    INFO_VALUES = "infos are bit for bit the local ones"
    SUBCLASSES = "in infos an instance of a subclass (an IntEnum, a named tuple) arrives equal, as its base"
    ODD_RESULTS = "what fits neither space nor Gymnasium comes as locally: array rewards, undeclared dtypes and shapes"
    LIMITS = "values at the limits come as locally: beyond 64 bits, not finite, of a MiB and more, empty actions"
    FAILURES = "what fails locally fails here, with the same builtin type of error, and the environment goes on"
    ACTIONS = "actions arrive as given: whatever type and dtype the caller uses gives the local results"
    AUTORESET = "at the end of an episode the autoreset mode is followed: same observation, reward and flags"
    COPIES = "with copy=True the arrays of observations are writable and the caller's own"
    VIEWS = "with copy=False the arrays of observations are read-only"
    KEPT = "arrays that were handed out never change later"
    RENDER = "render gives the local frames, of the state just stepped to"
    CALLS = "methods of the environments take the local arguments and return the local results"
    ATTRIBUTES = "attributes of the environments are read and set as locally"
    MISSING = "an attribute that the local environment has not is an AttributeError"
    CLOSE = "close may be called twice"
    AFTER_CLOSE = "after close everything raises gymnasium.error.ClosedEnvironmentError"


class ConformanceError(AssertionError):
    """A remote environment is not what the local one is.

    Attributes:
        rule: The rule that is broken.
        when: The moment: mode, step or call.
        what: The result that differs, e.g. ``observations['camera'][2, 0]``.
        env_index: The environment, where one can be named.
        remote: What the remote environment gave.
        local: What the local one gave, or what was expected.
    """

    def __init__(self, rule: Rule, when: str, what: str, env_index: int | None, remote: str, local: str) -> None:
        """Make the message from the rule's constant text and what was seen."""
        self.rule = rule
        self.when = when
        self.what = what
        self.env_index = env_index
        self.remote = remote
        self.local = local
        self.note = ""
        super().__init__(rule, when, what, env_index, remote, local)

    def __str__(self) -> str:
        """Return one line per fact."""
        index = "" if self.env_index is None else f" (environment {self.env_index})"
        lines = [
            f"{self.rule.name}: {self.rule.value}",
            f"  when    {self.when}",
            f"  what    {self.what}{index}",
            f"  remote  {self.remote}",
            f"  local   {self.local}",
        ]
        return "\n".join([*lines, *([f"  note    {self.note}"] if self.note else [])])


@dataclass
class Record:
    """Which rules were looked at, how often, and the first time each was broken.

    Attributes:
        strict: Whether the first broken rule raises at once.
        counts: How often a rule was looked at.
        broken: The first breach of each rule.
        known: The first difference under each rule that is documented, and breaks none.
        scene: Which run this is, for messages.
        moment: What is being done in it, for messages.
    """

    strict: bool = True
    counts: dict[Rule, int] = field(default_factory=dict)
    broken: dict[Rule, ConformanceError] = field(default_factory=dict)
    known: dict[Rule, ConformanceError] = field(default_factory=dict)
    scene: str = ""
    moment: str = ""

    @property
    def holds(self) -> bool:
        """Whether no rule is broken."""
        return not self.broken

    def count(self, *rules: Rule) -> None:
        """Note that `rules` were looked at."""
        for rule in rules:
            self.counts[rule] = self.counts.get(rule, 0) + 1

    def differ(self, rule: Rule, what: str, found: Difference | None, env_index: int | None = None) -> bool:
        """Note a comparison under `rule` and its outcome; return whether there was a difference.

        Raises:
            ConformanceError: There was, and the record is strict.
        """
        if found is None:
            self.count(rule)
            return False
        self.breach(rule, what + found.where, found.show_remote(), found.show_local(), env_index)
        return True

    def expect(self, rule: Rule, holds: bool, what: str, remote: str, local: str) -> None:
        """Note whether something `holds` that is no comparison of two values; raises like `differ`."""
        if holds:
            self.count(rule)
        else:
            self.breach(rule, what, remote, local)

    def know(self, rule: Rule, what: str, remote: str, local: str, env_index: int | None = None) -> None:
        """Note a difference under `rule` that is documented (`docs/reference/gymnasium-api.md`): it holds."""
        self.count(rule)
        self.known.setdefault(rule, self._error(rule, what, remote, local, env_index))

    def breach(self, rule: Rule, what: str, remote: str, local: str, env_index: int | None = None) -> None:
        """Note that `rule` is broken; raises like `differ`."""
        self.count(rule)
        error = self._error(rule, what, remote, local, env_index)
        self.broken.setdefault(rule, error)
        if self.strict:
            raise error

    def _error(self, rule: Rule, what: str, remote: str, local: str, env_index: int | None) -> ConformanceError:
        return ConformanceError(rule, f"{self.scene}: {self.moment}", what, env_index, remote, local)
