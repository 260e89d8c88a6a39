"""A remote and a local environment that get the same calls."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from types import TracebackType
from typing import Any

import gymnasium

from remote_gym.testing.action_forms import forms
from remote_gym.testing.comparison import difference, show
from remote_gym.testing.rules import ConformanceError, Record, Rule

NONDETERMINISTIC = (
    "the local environment differs from itself in the same way: it is not deterministic, so nothing can be compared"
)


MARK = "remote_gym_testing_mark"
"""An attribute that no environment has of itself."""

Compare = Callable[[Record, Callable[..., Any], Callable[..., Any]], None]


def explained(compare: Compare, make_remote: Callable[..., Any], make_local: Callable[..., Any]) -> None:
    """Run a strict `compare`; if a rule is broken, look whether the local environment keeps it with itself.

    Raises:
        ConformanceError: A rule is broken; the note says so if the environment is to blame.
    """
    try:
        compare(Record(), make_remote, make_local)
    except ConformanceError as broken:
        if broken.rule is Rule.WORKS:
            raise
        try:
            compare(Record(), make_local, make_local)
        except ConformanceError as also:
            broken.note = f"{NONDETERMINISTIC}\n{also}".replace("\n", "\n          ")
        raise


class Abandoned(Exception):
    """The remote environment raised where the local one did not: there is nothing more to compare in this run."""


class Pair:
    """Two environments; both are closed on leaving. Leaves quietly when the run was abandoned.

    Attributes:
        record: Takes the outcomes.
        remote: The remote environment.
        local: The local one.
        is_local_twice: Whether the remote one is the local one as well, made a second time.
    """

    def __init__(
        self,
        record: Record,
        make_remote: Callable[..., Any],
        make_local: Callable[..., Any],
        **arguments: Any,
    ) -> None:
        """Make both.

        Args:
            record: Takes the outcomes.
            make_remote: Factory of the remote environment; the local one again to see whether it equals itself.
            make_local: Factory of the local one.
            arguments: For both.
        """
        self.record = record
        self.is_local_twice = make_remote == make_local  # not `is`: bound methods are made anew each time
        self.local = make_local(**arguments)
        try:
            self.remote = make_remote(**arguments)
        except BaseException:
            self.local.close()
            raise

    @property
    def envs(self) -> tuple[Any, Any]:
        """The local environment, then the remote one."""
        return self.local, self.remote

    def both(
        self, call: Callable[[Any], Any], rules: Callable[[Any], Sequence[Rule]] = lambda _local: ()
    ) -> tuple[Any, Any]:
        """Return what `call` gives for the remote and for the local environment.

        Args:
            call: What to do with each.
            rules: Returns, of the local result, the rules besides `Rule.WORKS` that it falls under.

        Raises:
            ConformanceError, Abandoned: Only the remote one raised.
            Exception: Whatever the local one raised; the remote one was not asked then.
        """
        local = call(self.local)
        also = rules(local)
        self.record.count(Rule.WORKS, *also)
        try:
            return call(self.remote), local
        except Exception as error:
            words = str(error).partition("\n\nRemote traceback")[0]  # the error itself is the cause of what is raised
            rule = also[0] if also else Rule.WORKS
            self.record.breach(rule, "the call", f"raised {type(error).__name__}: {words:.1000}", "raised nothing")
            raise Abandoned from error

    def compare(self, rule: Rule, what: str, call: Callable[[Any], Any]) -> tuple[Any, Any]:
        """Do the same, and compare the two results under `rule`."""
        remote, local = self.both(call)
        self.record.differ(rule, what, difference(remote, local))
        return remote, local

    def step_as_given(self, seed: int) -> None:
        """Step both with an action in all its forms, each after a reset, and compare under `Rule.ACTIONS`.

        What the local environment does not take, the remote one is not given. Nothing is compared where the two differ
        with the action as it was sampled: other rules tell of that.
        """
        space = self.local.action_space
        action = space.sample()
        for name, given in (("sampled", action), *forms(space, action)):
            self.record.moment = f"a reset, then a step with an action that is {name}: {show(given)}"
            self.both(lambda env: env.reset(seed=seed))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of values that are out of bounds in this form
                    local = self.local.step(deepcopy(given))
            except Exception:
                continue
            try:
                found = difference(self.remote.step(deepcopy(given)), local)
            except Exception as error:
                self.record.breach(Rule.ACTIONS, "the call", f"raised {error!r:.1000}", "raised nothing")
                continue
            if name != "sampled":
                self.record.differ(Rule.ACTIONS, "the result", found)
            elif found is not None:
                break
        self.both(lambda env: env.reset(seed=seed))

    def step_to_failure(self, actions: Sequence[Any], seed: int) -> None:
        """Step both with each of `actions`, which may fail, each after a reset, and look whether they go on."""
        for action in actions:
            self.record.moment = f"a reset, then a step with an action that may fail: {show(action)}"
            self.both(lambda env: env.reset(seed=seed))
            local, remote = (_outcome(env, action) for env in self.envs)
            self.record.differ(Rule.FAILURES, "the outcome", difference(remote, local))
            self.record.moment = f"a reset, after {show(action)}"
            for env in self.envs:
                try:
                    env.reset(seed=seed)
                except Exception as error:
                    if env is self.local:
                        raise
                    self.record.breach(Rule.FAILURES, "reset", f"raised {error!r:.1000}", "raised nothing")
                    raise Abandoned from error

    def render(self) -> None:
        """Compare what both render, where there is something to render and no window is opened for it."""
        if self.local.render_mode not in (None, "human"):
            self.compare(Rule.RENDER, "render", lambda env: env.render())

    def __enter__(self) -> Pair:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Close both. What the remote one raises in it must not hide what broke before; see `expect_closed`."""
        try:
            self.local.close()
        finally:
            with contextlib.suppress(Exception):
                self.remote.close()
        return isinstance(error, Abandoned)


def _outcome(env: Any, action: Any) -> Any:
    """Return the result of a step, or the name of the builtin type of what it raises."""
    try:
        return env.step(deepcopy(action))
    except Exception as error:
        known = (kind for kind in type(error).__mro__ if kind.__module__ in ("builtins", "gymnasium.error"))
        return f"raised {next(known).__name__}"


def expect_closed(record: Record, env: Any, uses: Mapping[str, Callable[[], Any]]) -> None:
    """Close `env` twice and expect that everything raises afterwards.

    Args:
        record: Takes the outcomes.
        env: The remote environment.
        uses: Name -> a use of it; those it has no attribute for are left out.
    """
    record.moment = "close"
    raised = "nothing"
    try:
        env.close()
        env.close()
    except Exception as error:
        raised = repr(error)
    record.expect(Rule.CLOSE, raised == "nothing", "close", f"raised {raised}", "raises nothing")
    for name, use in uses.items():
        record.moment = f"{name} after close"
        raised = "nothing"
        closed = False
        try:
            use()
        except Exception as error:
            raised = repr(error)
            closed = isinstance(error, gymnasium.error.ClosedEnvironmentError)
        record.expect(Rule.AFTER_CLOSE, closed, name, f"raised {raised}", "ClosedEnvironmentError")
