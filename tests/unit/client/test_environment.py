"""`RemoteEnvironment` on a fake server: what `reset` and `step` return, losses, interrupts, and whose an attribute is.

That it gives what the local environment gives is for `end_to_end/indistinguishable`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from faking import FakeConnection, faked
from gymnasium.error import ClosedEnvironmentError

from remote_gym import EnvironmentLost, EnvironmentRaised, MisuseError, RemoteEnvironment, values
from remote_gym.client.session.session import Session
from remote_gym.info_blocks import pack_infos
from remote_gym.messages import Call, Failure, FailureKind, Reset, Step

LOST = [Failure(0, FailureKind.LOST, "killed")]
RAISED = [Failure(0, FailureKind.RAISED, "builtins.ValueError", "no", base="builtins.ValueError")]


def said(block: Any = None, exact: Any = None) -> dict[str, Any]:
    return {"infos": [values.pack([block, exact, None, None])]}


def observed(*values: float) -> dict[str, Any]:
    return {"observations": [np.array(values, np.float32).tobytes()]}


class Stage:
    """An environment and its server."""

    def __init__(self, **options: Any) -> None:
        self.env = RemoteEnvironment("localhost:1", **options)
        self.server: FakeConnection
        (self.server,) = faked(self.env._remote, 1)
        self.thread = ThreadPoolExecutor(1)

    def play(self, use: Callable[[], Any], **fields: Any) -> Any:
        """Use the environment while its server answers one reset or step."""
        self.asked = self.thread.submit(self.server.answer, **fields)
        return use()

    def call(self, use: Callable[[], Any], value: Any) -> Any:
        """Use it while its server answers one call with `value`."""
        self.asked = self.thread.submit(self.server.give, value)
        return use()

    @property
    def request(self) -> Any:
        """What was answered last."""
        return self.asked.result(timeout=5.0)

    def reset(self, **fields: Any) -> Any:
        return self.play(self.env.reset, **fields)

    def step(self, **fields: Any) -> Any:
        return self.play(lambda: self.env.step(0), **fields)

    @property
    def silent(self) -> bool:
        return self.server.carrier.silent


Make = Callable[..., Stage]


@pytest.fixture
def make() -> Iterator[Make]:
    stages: list[Stage] = []

    def made(**options: Any) -> Stage:
        stages.append(Stage(**options))
        return stages[-1]

    yield made
    for stage in stages:
        stage.server.close()
        stage.thread.shutdown()


# Reset and step


def test_a_reset_takes_a_seed_and_any_mapping_of_options(make: Make) -> None:
    stage = make()
    options: Any = MappingProxyType({"hard": True})
    observation, info = stage.play(
        lambda: stage.env.reset(seed=np.int64(5), options=options),
        **observed(0.5, 1),
        **said(pack_infos([0], [{"a": 1}])),
    )
    request = stage.request
    assert isinstance(request, Reset) and request.seeds == values.pack([5])
    assert values.unpack(bytes(request.options)) == {"hard": True}
    assert observation.tolist() == [0.5, 1] and observation.dtype == np.float32 and info == {"a": 1}
    assert stage.env.np_random_seed == 5


@pytest.mark.parametrize("seed", [True, 1.0, "1", [1]])
def test_a_wrong_seed_asks_nobody(make: Make, seed: Any) -> None:
    stage = make()
    with pytest.raises(MisuseError, match="Seed must be a python integer"):
        stage.env.reset(seed=seed)
    assert stage.silent


def test_a_step_without_anything_of_its_own_types(make: Make) -> None:
    stage = make()
    stage.reset()
    observation, reward, terminated, truncated, info = stage.step(
        **observed(1, 2), rewards=np.array([1.5]).tobytes(), terminations=b"\1"
    )
    assert isinstance(stage.request, Step)
    assert (observation.tolist(), reward, terminated, truncated, info) == ([1, 2], 1.5, True, False, {})
    assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
    assert stage.env._remote.dial().turns.clear


def test_what_an_environment_returned_with_types_of_its_own(make: Make) -> None:
    exact = {"observation": [1, 2], "reward": 3, "terminated": np.bool_(True), "truncated": 0}
    stage = make()
    stage.reset()
    observation, reward, terminated, truncated, _ = stage.step(**said(exact={0: exact}))
    assert (observation, reward, terminated, truncated) == ([1, 2], 3, True, 0)
    assert (type(observation), type(reward), type(terminated), type(truncated)) == (list, int, np.bool_, int)


def test_what_was_returned_is_the_callers_own(make: Make) -> None:
    stage = make()
    first, _ = stage.reset(**observed(1, 2))
    second = stage.step(**observed(3, 4))[0]
    first[:] = 9
    assert second.tolist() == [3, 4]


def test_an_error_of_the_environment_is_raised_and_its_generator_goes_on(make: Make) -> None:
    """A reset without a seed goes on with the generator, as locally; only a lost one gets another seed."""
    stage = make()
    stage.play(lambda: stage.env.reset(seed=1))
    with pytest.raises(ValueError, match="no") as error:
        stage.step(failures=RAISED)
    assert isinstance(error.value, EnvironmentRaised)
    stage.reset()
    assert stage.request.seeds == b""


# Losses


def test_a_loss_is_raised_by_default(make: Make) -> None:
    stage = make()
    stage.reset()
    with pytest.raises(EnvironmentLost, match="killed"):
        stage.step(failures=LOST)


def test_a_loss_ends_the_episode_with_a_copy_of_the_last_observation(make: Make) -> None:
    stage = make(on_worker_failure="truncate")
    last, _ = stage.play(lambda: stage.env.reset(seed=1), **observed(1, 2))
    with pytest.warns(UserWarning, match="killed"):
        observation, reward, terminated, truncated, info = stage.step(failures=LOST)
    assert observation.tolist() == [1, 2] and not np.shares_memory(observation, last)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["remote_gym"] == {"lost": True, "reason": "killed", "generation": 1}
    stage.step()
    assert isinstance(stage.request, Step), "nobody but its user resets it"
    stage.reset()
    assert stage.request.seeds not in (b"", values.pack([1])), "another episode, and the same in every run"


def test_it_is_a_copy_also_of_what_has_types_of_its_own(make: Make) -> None:
    stage = make(on_worker_failure="truncate")
    last, _ = stage.reset(**said(exact={0: {"observation": [1, [2]]}}))
    with pytest.warns(UserWarning, match="killed"):
        observation = stage.step(failures=LOST)[0]
    assert observation == last == [1, [2]] and observation is not last and observation[1] is not last[1]


def test_a_loss_before_any_reset_has_no_observation_to_end_with(make: Make) -> None:
    stage = make(on_worker_failure="truncate")
    with pytest.raises(EnvironmentLost, match="lost before its first reset: killed"):
        stage.step(failures=LOST)


# Interrupts


@pytest.mark.parametrize("when", ["before", "after"])
def test_it_goes_on_after_an_interrupt(make: Make, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """What was sent, and is waited for by nobody, is dropped by the next step."""
    stage = make()
    stage.reset()
    send = Session.send

    def interrupted(*args: Any) -> None:
        if when == "after":
            send(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stage.env.step(0)
    if when == "after":
        stage.server.answer(**observed(9, 9))
    assert stage.step(**observed(3, 4))[0].tolist() == [3, 4]
    assert stage.request.number == (2 if when == "before" else 3)


# Whose an attribute is


def test_what_it_has_itself_asks_nobody(make: Make) -> None:
    env = make().env
    assert env.get_wrapper_attr("render_mode") is None and env.has_wrapper_attr("np_random")
    env.mine = 5  # type: ignore[attr-defined]
    assert env.get_wrapper_attr("mine") == 5
    assert env.set_wrapper_attr("mine", 6) and env.get_wrapper_attr("mine") == 6
    assert env._remote.dialled is None


def test_an_attribute_of_the_hosted_environment(make: Make) -> None:
    stage = make()
    assert stage.call(lambda: stage.env.get_wrapper_attr("gravity"), {"value": 9.8}) == 9.8
    assert isinstance(stage.request, Call) and stage.request.name == "gravity"


def test_a_method_of_the_hosted_environment_is_called_there(make: Make) -> None:
    stage = make()
    method = stage.call(lambda: stage.env.get_wrapper_attr("jump"), {"callable": True})
    stage.env._remote.dial().reader.frames = {0: "old"}
    assert stage.call(lambda: method(2, high=True), "jumped") == "jumped"
    assert values.unpack(bytes(stage.request.arguments)) == [[2], {"high": True}]
    assert stage.env._remote.dial().reader.frames == {}, "it may look different now"


@pytest.mark.parametrize("there", [True, False])
def test_whether_an_attribute_is_there(make: Make, there: bool) -> None:
    stage = make()
    assert stage.call(lambda: stage.env.has_wrapper_attr("gravity"), there) is there
    assert stage.env.has_wrapper_attr("_private") is False and stage.silent


def test_an_attribute_is_set_there(make: Make) -> None:
    stage = make()
    assert stage.call(lambda: stage.env.set_wrapper_attr("gravity", 1.5), None) is True
    assert values.unpack(bytes(stage.request.values)) == [1.5]
    assert stage.call(lambda: stage.env.set_wrapper_attr("mass", 1.5, force=False), False) is False, "it is not there"
    assert stage.request.name == "has_wrapper_attr" and stage.silent


@pytest.mark.parametrize("mode, frame", [("rgb_array", "a frame"), ("human", None)])
def test_a_frame_is_asked_for_unless_it_was_shown(make: Make, mode: str, frame: Any) -> None:
    stage = make(render_mode=mode)
    if frame is None:
        assert stage.env.render() is None and stage.silent
    else:
        assert stage.call(stage.env.render, frame) == frame


# The end


def test_it_says_who_it_is_without_dialling(make: Make) -> None:
    stage = make()
    assert repr(stage.env) == str(stage.env) == "<RemoteEnvironment(localhost:1)>"
    assert stage.env._remote.dialled is None


def test_nothing_after_the_end(make: Make) -> None:
    stage = make()
    stage.reset()
    stage.env.close()
    stage.env.close()
    for use in (stage.env.reset, lambda: stage.env.step(0), stage.env.render, lambda: stage.env.get_wrapper_attr("x")):
        with pytest.raises(ClosedEnvironmentError):
            use()


def test_a_wrong_argument_leaves_nothing_to_close() -> None:
    with pytest.raises(ValueError, match="on_session_lost"):
        RemoteEnvironment("localhost", on_session_lost="no")
    RemoteEnvironment.__new__(RemoteEnvironment).close()
    gc.collect()  # `__del__` raises nothing: warnings are errors


def test_a_copy_has_the_arguments_and_has_not_dialled(make: Make) -> None:
    stage = make(on_worker_failure="truncate", validate_actions=True)
    stage.reset()
    copy = RemoteEnvironment.__new__(RemoteEnvironment)
    copy.__setstate__(stage.env.__getstate__())
    ours, theirs = copy._remote.settings, stage.env._remote.settings
    assert ours.carried() == theirs.carried() and ours.validate_actions and ours.on_worker_failure == "truncate"
    assert copy._remote.dialled is None
