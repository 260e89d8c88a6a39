"""Every error: caught as what it is, shown as it is, and the same after a pickle."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
import traceback
from multiprocessing import TimeoutError as ProcessesTimeout
from typing import Any

import gymnasium
import pytest
from failing import Fails, fail

from remote_gym import errors
from remote_gym.errors import (
    CodecError,
    ConnectError,
    EnvironmentLost,
    EnvironmentNeedsReset,
    EnvironmentRaised,
    MisuseError,
    ProtocolError,
    RefusedError,
    RemoteGymError,
    SessionLost,
    TimedOut,
    also,
    known_names,
    raised,
)
from remote_gym.testing import ConformanceError, Rule

TEXT = "environment 3 raised it: 'text'"
KNOWN = sorted(errors._TYPES)

ERRORS = [
    RemoteGymError("text"),
    ConnectError("here:1", "no answer", ["a firewall", "no server"]),
    RefusedError("no", "max_envs"),
    EnvironmentRaised("text", 3, "builtins.ZeroDivisionError", "Traceback ..."),
    EnvironmentNeedsReset("text", 3, "gymnasium.error.ResetNeeded", "Traceback ..."),
    EnvironmentLost("text", 3, "killed by SIGKILL", "last words"),
    SessionLost("EXPIRED", "too late"),
    ProtocolError("text"),
    TimedOut("text"),
    MisuseError("text"),
    CodecError("text", "info['a']"),
    also(MisuseError, TypeError)("text"),
    *(raised(name)(TEXT, 3, name, "Traceback ...") for name in KNOWN),
]


def again_by_cloudpickle(error: Any) -> Any:
    cloudpickle = pytest.importorskip("cloudpickle")
    return pickle.loads(cloudpickle.dumps(error))


AGAIN = {
    **{
        f"pickle {n}": lambda error, n=n: pickle.loads(pickle.dumps(error, n))
        for n in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "cloudpickle": again_by_cloudpickle,
}


def test_every_error_is_tried() -> None:
    def below(kind: type[Exception]) -> set[type[Exception]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    own = {
        kind for kind in below(RemoteGymError) if kind.__module__ == "remote_gym.errors" and "[" not in kind.__name__
    }
    assert own <= set(map(type, ERRORS))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_same_after_a_pickle(error: Any) -> None:
    for way, make in AGAIN.items():
        again = make(error)
        assert type(again) is type(error), way
        assert (str(again), repr(again), again.args) == (str(error), repr(error), error.args), way
        assert vars(again) == vars(error), way
        assert str(make(again)) == str(error), way
    assert pickle.loads(pickle.dumps(type(error))) is type(error)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_same_of_type_and_error_alone(error: Any) -> None:
    """As `AsyncVectorEnv` raises in the parent what a child has sent."""
    again = type(error)(error)
    assert again is not error and type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def test_a_type_of_ours_and_another_is_made_in_its_own_way() -> None:
    """As Ray makes one of its own error and of what was raised, which is its only argument."""

    class Dual(RuntimeError, ConnectError):
        def __init__(self, cause: Exception) -> None:
            self.cause = cause

    cause = ConnectError("here:1", "no answer")
    assert Dual(cause).cause is cause and isinstance(Dual(cause), ConnectError)


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("not me")


class NeedsTwo(Exception):
    """Pickles, and cannot be unpickled."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


@pytest.mark.parametrize("way", AGAIN)
@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (OSError(5, "broken"), None),
        (SessionLost("EXPIRED", "too late"), None),
        (Unpicklable("odd"), "Unpicklable: odd"),
        (NeedsTwo(1, 2), "NeedsTwo: 1 and 2"),
        (also(MisuseError, KeyError)("text"), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_it_was_raised_from_comes_along(way: str, cause: Exception, said: str | None) -> None:
    try:
        try:
            raise cause
        except Exception as inner:
            raise ConnectError("here:1", "no answer") from inner
    except ConnectError as raised:
        error = raised
    if hasattr(error, "add_note"):
        error.add_note("a note")
    again = AGAIN[way](error)
    assert str(again) == str(error) and vars(again) == vars(error)
    if said is None:
        assert type(again.__cause__) is type(cause) and again.__cause__.args == cause.args
    else:
        assert type(again.__cause__) is RemoteGymError and str(again.__cause__).endswith(said)
    assert "direct cause" in "".join(traceback.format_exception(type(again), again, None))
    assert AGAIN[way](again).__cause__ is not None


@pytest.mark.parametrize("way", AGAIN)
@pytest.mark.parametrize("kind", [gymnasium.error.AlreadyPendingCallError, gymnasium.error.NoAsyncCallError])
def test_gymnasiums_own_that_are_raised_here_pickle_as_well(kind: Any, way: str) -> None:
    error = kind("not now", "step")
    if hasattr(error, "add_note"):
        error.add_note("a note")
    again = AGAIN[way](error)
    assert type(again) is kind and str(again) == "not now" and vars(again) == vars(error)


def test_it_comes_out_of_a_pool() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool, pytest.raises(KeyError) as error:
        pool.apply(fail)
    assert isinstance(error.value, MisuseError) and str(error.value) == "in another process"


@pytest.mark.filterwarnings("ignore:.*Received the following error from Worker")
@pytest.mark.filterwarnings("ignore:.*ERROR")
def test_it_is_what_users_of_processes_see() -> None:
    envs = gymnasium.vector.AsyncVectorEnv([Fails] * 2, context="spawn")
    with pytest.raises(ConnectError, match="cannot connect to here:1: no answer") as error:
        envs.reset()
    envs.close(terminate=True)
    assert error.value.causes == ("a firewall",) and error.value.address == "here:1"


@pytest.mark.parametrize("name", KNOWN)
def test_raised_as_what_it_was(name: str) -> None:
    error = raised(name)(TEXT, 3, name, "Traceback: far away")
    base = errors._TYPES[name]
    with pytest.raises(base) as caught:
        raise error
    assert isinstance(error, EnvironmentRaised) and (error.env_index, error.remote_type) == (3, name)
    assert str(error) == f"{TEXT}\n\nRemote traceback:\nTraceback: far away"
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert TEXT in shown and "far away" in shown, "also where Python shows errors of this type in a way of their own"
    assert caught.value is error and raised(name) is type(error)


def test_the_table_holds_no_more_than_may_be_caught_without_a_thought() -> None:
    for name in (
        "SystemExit",
        "KeyboardInterrupt",
        "GeneratorExit",
        "StopIteration",
        "StopAsyncIteration",
        "BaseException",
        "Exception",
        "int",
        "open",
        "",
    ):
        assert raised(f"builtins.{name}") is EnvironmentRaised
    for name in ("os.system", "remote_gym.errors.MisuseError", "ValueError", "builtins.builtins.ValueError"):
        assert raised(name) is EnvironmentRaised
    assert raised("gymnasium.error.ResetNeeded") is EnvironmentNeedsReset


def test_the_nearest_known_type() -> None:
    class Own(ValueError):
        pass

    class OwnOfOwn(Own, IndexError):
        pass

    class Plain(Exception):
        pass

    class Stop(StopIteration):
        pass

    assert known_names(Own) == "builtins.ValueError"
    assert known_names(OwnOfOwn) == "builtins.ValueError,builtins.IndexError"
    assert known_names(KeyError) == "builtins.KeyError"
    assert known_names(IOError) == "builtins.OSError"
    assert {known_names(kind) for kind in (Plain, Stop, SystemExit, KeyboardInterrupt, Exception)} == {""}

    Own.__module__, Own.__qualname__ = "builtins", "KeyError"  # whoever calls itself so is not it
    assert known_names(Own) == "builtins.ValueError"


class AxisError(ValueError, IndexError):
    """As NumPy's."""


class LastBid(gymnasium.error.ResetNeeded, KeyError, BrokenPipeError):
    """Of several known types, some of which have a layout of their own."""


@pytest.mark.parametrize("kind", [io.UnsupportedOperation, AxisError, LastBid], ids=lambda kind: kind.__name__)
def test_what_is_of_several_types_is_caught_as_each(kind: type[Exception]) -> None:
    error = raised(known_names(kind))(TEXT, 3, kind.__qualname__, "Traceback: far away")
    for base in kind.__mro__[1:]:
        assert isinstance(error, base), base
    assert isinstance(error, EnvironmentNeedsReset) is issubclass(kind, gymnasium.error.ResetNeeded)
    assert str(error).startswith(TEXT)
    test_the_same_after_a_pickle(error)


def test_what_a_peer_names_is_of_few_types_and_of_those_that_go_together() -> None:
    names = [f"builtins.{name}" for name in ("KeyError", "ValueError", "TypeError", "RuntimeError")]
    assert raised(",".join(names)).__name__ == "EnvironmentRaised[KeyError, TypeError, ValueError]"
    assert raised("builtins.ValueError,builtins.UnicodeError") is raised("builtins.UnicodeError")
    assert raised("builtins.TypeError,builtins.KeyError") is raised("builtins.KeyError,builtins.TypeError")
    assert raised("builtins.OSError,builtins.SyntaxError") is EnvironmentRaised
    assert raised("builtins.KeyError,os.system,,builtins.SystemExit") is raised("builtins.KeyError")
    for name in (
        "[KeyError]",
        "Kind[KeyError]",
        "RemoteGymError[",
        "RemoteGymError[OSError, SyntaxError]",
        "Any[Error]",
    ):
        assert not hasattr(errors, name)


def test_a_timeout_is_caught_as_others_catch_it() -> None:
    assert issubclass(TimedOut, TimeoutError) and issubclass(TimedOut, ProcessesTimeout)


def test_what_is_of_both_kinds() -> None:
    kind = also(MisuseError, TypeError)
    assert issubclass(kind, MisuseError) and issubclass(kind, TypeError) and issubclass(kind, ValueError)
    assert kind is also(MisuseError, TypeError)
    assert also(MisuseError, ValueError) is MisuseError
    for name in ("NoSuchName", "NoSuch[ValueError]", "MisuseError[NoSuch]", "TEXT[ValueError]"):
        assert not hasattr(errors, name)


def test_what_the_conformance_kit_raises_pickles() -> None:
    error = ConformanceError(Rule.WORKS, "step 3", "the call", 1, "raised KeyError", "raised nothing")
    error.note = "a note"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))
