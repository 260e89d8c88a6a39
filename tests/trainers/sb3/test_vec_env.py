"""All of `VecEnv`'s contract; the oracle is `DummyVecEnv` over the same environments."""

from __future__ import annotations

import copy
import importlib
import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import Certificates
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError
from sameness import assert_same
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)
from trainers.sb3.hosting import HOSTED, Hosting, hosted

from remote_gym import EnvironmentRaised, MisuseError, RefusedError, create_remote_environment_server
from remote_gym.sb3 import VecEnv

STEPS = 40
KINDS = ["numbers", "images", "both", "pair", "loose", "flipping", "CartPole-v1", "Pendulum-v1", "FrozenLake-v1"]


def plain(value: Any) -> Any:
    """`DummyVecEnv` has dicts of its own type for observations."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return type(value)(map(plain, value)) if isinstance(value, list | tuple) else value


def actions_of(envs: Any, rounds: int) -> list[Any]:
    envs.action_space.seed(7)
    return [np.array([envs.action_space.sample() for _ in range(envs.num_envs)]) for _ in range(rounds)]


def assert_alike(ours: Any, theirs: Any, steps: int = STEPS) -> int:
    """Reset and step both; return how many episodes ended."""
    ended = 0
    assert_same(plain(ours.reset()), plain(theirs.reset()), "reset")
    assert_same(list(ours.reset_infos), list(theirs.reset_infos), "reset_infos")
    for number, actions in enumerate(actions_of(theirs, steps)):
        assert_same(plain(ours.step(actions)), plain(theirs.step(actions)), f"step {number}")
        assert_same(list(ours.reset_infos), list(theirs.reset_infos), f"reset_infos {number}")
        ended += int(theirs.buf_dones.sum()) if isinstance(theirs, DummyVecEnv) else 0
    return ended


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_the_local_ones(kind: str, hosting: Hosting) -> None:
    ours, theirs = hosting.both(kind)
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    assert (ours.num_envs, ours.render_mode, ours.metadata) == (3, theirs.render_mode, theirs.metadata)
    assert ours.seed(5) == theirs.seed(5)
    ended = assert_alike(ours, theirs)
    assert ended > 3 or kind == "Pendulum-v1"
    assert_alike(ours, theirs, 3)  # a second reset, without seeds


@pytest.mark.parametrize("actions", ["discrete", "multi-discrete", "multi-binary", "box", "double"])
def test_actions_arrive_as_they_do_locally(actions: str, hosting: Hosting) -> None:
    ours, theirs = hosting.both(actions=actions)
    for envs in (ours, theirs):
        envs.reset()
    given = actions_of(theirs, 1)[0]
    dtypes = [given.dtype, np.float32, np.float64] if given.dtype.kind == "f" or "multi" in actions else [given.dtype]
    for batch in [*(given.astype(dtype) for dtype in dtypes), list(given)]:  # policies give float32 for MultiBinary
        for envs in (ours, theirs):
            envs.step(batch)
        assert ours.get_attr("last_action") == theirs.get_attr("last_action")


def test_lists_of_actions_that_are_dicts_and_tuples() -> None:
    from remote_gym.sb3 import _batcher

    space = gym.spaces.Dict(
        {"a": gym.spaces.Discrete(9), "b": gym.spaces.Tuple((gym.spaces.Box(-1, 1, (2,)), gym.spaces.Text(9)))}
    )
    batch = _batcher(space)
    assert batch is not None and _batcher(space["a"]) is None
    made = batch([{"a": at, "b": (np.full(2, at), "x" * at)} for at in range(3)])
    expected = {"a": np.arange(3), "b": (np.arange(3).repeat(2).reshape(3, 2), ("", "x", "xx"))}
    assert_same(made, expected)


def test_seeds_and_options_are_for_the_next_reset(hosting: Hosting) -> None:
    ours, theirs = hosting.both()
    for options in ({"level": 1}, [{"level": at} for at in range(3)], [{}, {"level": np.arange(2)}, {}], None, {}):
        for envs in (ours, theirs):
            envs.seed(9)
            envs.set_options(options)
        assert_same(ours.reset(), theirs.reset())
        assert_same(ours.reset_infos, theirs.reset_infos)
        assert ours._seeds == [None] * 3 and ours._options == [{}] * 3
        assert_same(ours.reset(), theirs.reset())
        assert_same(ours.reset_infos, theirs.reset_infos)
    np.random.seed(1)
    chosen = ours.seed()
    np.random.seed(1)
    assert chosen == theirs.seed()
    assert len({*chosen}) == 3
    assert_same(ours.reset(), theirs.reset())


@pytest.mark.parametrize("options", [[{}, {"a": 1}], [{}] * 4, ["text", {}, {}], [3, 3, 3], "abc", 3])
def test_options_that_are_none_are_refused_and_nothing_is_lost(options: Any, hosting: Hosting) -> None:
    ours = hosting.ours()
    first = ours.reset()
    ours.set_options(options)
    with pytest.raises(MisuseError, match="options"):
        ours.reset()
    ours.set_options({"fine": 1})
    assert ours.reset().shape == first.shape


def test_nothing_that_was_returned_is_written_again(hosting: Hosting) -> None:
    for kind in ("numbers", "both"):
        ours = hosting.ours(kind)
        kept = [plain(ours.reset())]
        before = [copy.deepcopy(kept[0])]
        for actions in actions_of(ours, 15):
            kept.append(plain(ours.step(actions)))
            before.append(copy.deepcopy(kept[-1]))
        for now, then in zip(kept, before, strict=True):
            assert_same(now, then)


def test_arrays_are_the_users_to_write(hosting: Hosting) -> None:
    ours, theirs = hosting.both()
    for envs in (ours, theirs):
        envs.seed(3)
        envs.reset()[:] = 77
    for actions in actions_of(theirs, 20):
        results = [envs.step(actions) for envs in (ours, theirs)]
        assert_same(*results)
        for observations, rewards, dones, infos in results:
            observations[:], rewards[:], dones[:] = 99, 99, True
            for info in infos:
                if "terminal_observation" in info:
                    info["terminal_observation"][:] = 99
                info.clear()


def test_the_adapter_copies_no_observations(hosting: Hosting) -> None:
    ours = hosting.ours("both")
    given: list[Any] = []
    step_wait = ours.remote.step_wait

    def watched(*args: Any) -> Any:
        given.append(step_wait(*args))
        return given[-1]

    ours.remote.step_wait = watched  # type: ignore[method-assign]
    ours.reset()
    observations, *_ = ours.step(np.zeros(3, np.int64))
    assert observations is given[0][0]
    views = hosting.ours("both", copy=False)
    assert not views.reset()["image"].flags.writeable


def test_nested_observations_are_refused_as_locally(hosting: Hosting) -> None:
    with pytest.raises(NotImplementedError, match="ested"):
        hosting.theirs("nested")
    with pytest.raises(NotImplementedError, match="ested"):
        hosting.ours("nested")


# Attributes and methods


def test_attributes_and_methods_of_all_and_of_some(hosting: Hosting) -> None:
    ours, theirs = hosting.both("numbers")
    for envs in (ours, theirs):
        envs.seed(1)
        envs.reset()
        for actions in actions_of(theirs, 2):
            envs.step(actions)
        envs.set_attr("level", 5)
        envs.set_attr("level", [6, 7], indices=[0, -1])  # the list itself is the value
        envs.set_attr("level", 8, indices=1)
        envs.set_attr("level", 9, indices=[])
    for indices in (None, 0, -1, [2, 0], (1,), np.array([0, 2]), np.int64(1), range(2), [1, 1], [0, -3], []):
        if not isinstance(indices, np.integer):  # which `DummyVecEnv` does not take
            assert_same(ours.get_attr("level", indices), theirs.get_attr("level", indices))
            asked = [envs.env_method("scaled", 3, indices=indices, plus=1) for envs in (ours, theirs)]
            assert_same(*asked)
        assert len(ours.env_is_wrapped(Monitor, indices)) == np.size(np.arange(3) if indices is None else indices)
    assert ours.get_attr("level", np.int64(1)) == [8]
    assert_same(ours.env_method("action_masks"), theirs.env_method("action_masks"))
    assert ours.env_method("has_wrapper_attr", "level", indices=[1]) == [True]


@pytest.mark.parametrize("indices", [3, [0, -4], "0", [1.5], [None], 2.0])
def test_indices_of_nobody(indices: Any, hosting: Hosting) -> None:
    ours = hosting.ours()
    kinds = (MisuseError, IndexError if indices in (3, [0, -4]) else TypeError)
    for kind in kinds:
        with pytest.raises(kind):
            ours.get_attr("level", indices)


def test_what_is_not_there(hosting: Hosting) -> None:
    ours, theirs = hosting.both()
    for envs in (ours, theirs):
        assert not envs.has_attr("nonsense")
        assert envs.has_attr("level") and envs.has_attr("scaled") and envs.has_attr("np_random")
        with pytest.raises(AttributeError):
            envs.get_attr("nonsense")
        with pytest.raises(AttributeError):
            envs.env_method("nonsense")
        with pytest.raises(TypeError):
            envs.env_method("scaled")
    assert not ours.has_attr("_length")
    with pytest.raises(MisuseError, match="by position"):
        ours.env_method("scaled", name=1)
    with pytest.raises(EnvironmentRaised, match="np_random"):
        ours.get_attr("np_random")  # a generator cannot travel; that it is there was told all the same


def test_asking_calls_nothing(hosting: Hosting) -> None:
    ours = hosting.ours()
    ours.seed(1)
    ours.reset()
    before = ours.get_attr("length")
    assert ours.has_attr("reset") and ours.has_attr("step")
    assert ours.get_attr("length") == before


def test_wrappers_are_known_by_their_types(hosting: Hosting) -> None:
    ours, theirs = hosting.both("numbers", wrapped="monitor")
    assert ours.env_is_wrapped(Monitor) == theirs.env_is_wrapped(Monitor) == [False, True, False]
    assert ours.env_is_wrapped(Monitor, indices=[1, 2]) == [True, False]
    assert ours.env_is_wrapped(gym.Wrapper, indices=1) == [True]
    with pytest.warns(UserWarning, match="already wrapped"):
        VecMonitor(hosting.ours("numbers", 1, wrapped="outer-monitor"))
    outer = hosting.ours("CartPole-v1", wrapped="outer")
    assert outer.env_is_wrapped(hosted.Outer) == [True] * 3
    assert outer.env_is_wrapped(gym.wrappers.TimeLimit) == [True] * 3
    assert outer.env_is_wrapped(Monitor) == [False] * 3


def test_an_owner_who_lets_nobody_look(certificates: Certificates) -> None:
    args = {"entrypoint": str(HOSTED), "entrypoint_kwargs": {"kind": "numbers", "render_mode": "rgb_array"}}
    with (
        create_remote_environment_server(args, port=0, num_workers=1, allow_call=["scaled", "level"]) as server,
        VecEnv(server.address, num_envs=2, render_mode="rgb_array") as envs,
    ):
        envs.reset()
        assert envs.render_mode == "rgb_array"
        assert envs.get_images()[0].shape == (4, 6, 3)  # type: ignore[union-attr]
        assert envs.env_method("scaled", 2) == [0, 0]
        assert envs.has_attr("level") and not envs.has_attr("length")
        assert envs.env_is_wrapped(Monitor) == [False, False]
        with pytest.raises(RefusedError, match="allow-call length"):
            envs.get_attr("length")
        with pytest.raises(RefusedError, match="allow-set level"):
            envs.set_attr("level", 1)


# Frames


def test_frames(hosting: Hosting) -> None:
    ours, theirs = hosting.both("numbers", render_mode="rgb_array")
    for envs in (ours, theirs):
        envs.seed(1)
        envs.reset()
        envs.step(np.zeros(3, np.int64))
    assert ours.render_mode == "rgb_array"
    assert_same(list(ours.get_images()), list(theirs.get_images()))
    assert_same(ours.render(), theirs.render())
    assert_same(ours.render("rgb_array"), theirs.render("rgb_array"))
    with pytest.warns(UserWarning, match="ansi"):
        assert ours.render("ansi") is None
    none = hosting.ours("numbers")
    with pytest.warns(UserWarning, match="rgb_array"):
        assert none.get_images() == [None] * 3
    with pytest.warns(UserWarning, match="no `render_mode`"):
        assert none.render() is None


def test_a_window_shows_what_was_asked_for(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    ours = VecMonitor(hosting.ours("CartPole-v1", 2, render_mode="human"))
    assert ours.render_mode == ours.get_attr("render_mode")[0] == "human"
    ours.reset()
    ours.step(np.zeros(2, np.int64))
    assert ours.render() is None and ours.render("human") is None
    with pytest.warns(UserWarning, match="render modes are determined"):
        ours.render("rgb_array")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MoviePy's dependencies
def test_videos(hosting: Hosting, tmp_path: Path) -> None:
    ours = hosting.ours("CartPole-v1", 2, render_mode="rgb_array")
    recorder = VecVideoRecorder(VecMonitor(ours), str(tmp_path), lambda step: step == 0, video_length=5)
    assert recorder.frames_per_sec == 50  # the hosted environment's
    recorder.reset()
    for _ in range(7):
        recorder.step(np.zeros(2, np.int64))
    recorder.close()
    (video,) = tmp_path.glob("*.mp4")
    assert video.stat().st_size > 1_000


# Wrappers of Stable-Baselines3


@pytest.mark.parametrize(
    ("kind", "wrap"),
    [
        ("numbers", VecNormalize),
        ("numbers", VecCheckNan),
        ("numbers", lambda envs: VecFrameStack(envs, 3)),
        ("images", VecTransposeImage),
        ("images", lambda envs: VecFrameStack(VecTransposeImage(envs), 2)),
        ("both", VecTransposeImage),
        ("both", lambda envs: VecNormalize(envs, norm_obs_keys=["numbers"])),
        ("both", lambda envs: VecExtractDictObs(envs, "image")),
        ("flipping", lambda envs: VecFrameStack(VecNormalize(envs), 2)),
    ],
)
def test_wrappers_see_what_they_see_locally(kind: str, wrap: Any, hosting: Hosting) -> None:
    ours, theirs = map(wrap, hosting.both(kind))
    for envs in (ours, theirs):
        envs.seed(4)
    assert_same(plain(ours.reset()), plain(theirs.reset()))
    for actions in actions_of(theirs, STEPS):
        assert_same(plain(ours.step(actions)), plain(theirs.step(actions)))


def test_monitors_tell_the_same(hosting: Hosting, tmp_path: Path) -> None:
    lines = []
    for envs in hosting.both("numbers"):
        file = tmp_path / type(envs).__name__
        monitored = VecMonitor(envs, str(file), info_keywords=("steps",))
        monitored.seed(2)
        monitored.reset()
        for actions in actions_of(envs, STEPS):
            monitored.step(actions)
        monitored.close()
        text = Path(f"{file}.monitor.csv").read_text().splitlines()[1:]
        lines.append([line.rsplit(",", 2)[0] for line in text])
    assert len(lines[0]) > 5
    assert lines[0] == lines[1]
    named = VecMonitor(hosting.ours("CartPole-v1"), str(tmp_path / "named"))
    named.close()
    assert '"env_id": "CartPole-v1"' in (tmp_path / "named.monitor.csv").read_text()


# One server or several, pending steps, ends


def test_several_servers(hosting: Hosting, certificates: Certificates) -> None:
    args = {"entrypoint": str(HOSTED)}
    options = {"server_credentials_paths": certificates.server_mutual, "allow_client_kwargs": "*", "num_workers": 1}
    with create_remote_environment_server(args, port=0, **options) as other:
        ours = hosting.ours("both", 5, url=[hosting.server.address, other.address])
        theirs = hosting.theirs("both", 5)
        for envs in (ours, theirs):
            envs.seed(11)
        assert assert_alike(ours, theirs) > 5
        assert ours.env_method("has_wrapper_attr", "steps", indices=[4, 0]) == [True, True]
        assert_same(ours.get_attr("steps", [4, 0]), theirs.get_attr("steps", [4, 0]))
        ours.close()


def test_a_server_of_its_own() -> None:
    with VecEnv.local(str(HOSTED), 3, entrypoint_kwargs={"kind": "numbers"}, num_workers=2) as ours:
        ours.seed(6)
        theirs = DummyVecEnv([lambda: hosted.create_environment("numbers", reuse=False)] * 3)
        theirs.seed(6)
        assert assert_alike(ours, theirs) > 3
        assert isinstance(ours, VecEnv)
    with pytest.raises(ClosedEnvironmentError):
        ours.reset()


def test_a_reset_forgets_a_step_in_flight(hosting: Hosting) -> None:
    ours, theirs = hosting.both()
    for envs in (ours, theirs):
        envs.seed(3)
        envs.reset()
        envs.step_async(np.zeros(3, np.int64))
    with pytest.raises(AlreadyPendingCallError):
        ours.step_async(np.zeros(3, np.int64))
    for envs in (ours, theirs):
        envs.seed(4)
    assert assert_alike(ours, theirs, 10) > 0
    ours.step_async(np.zeros(3, np.int64))
    with pytest.warns(UserWarning, match="pending call to `step`"):
        ours.close()
    ours.close()


@pytest.mark.parametrize("actions", [np.zeros(2, np.int64), np.zeros((3, 2)), "abc", None, [0, 1, None]])
def test_actions_that_do_not_fit_are_refused_before_they_are_sent(actions: Any, hosting: Hosting) -> None:
    ours = hosting.ours()
    ours.reset()
    with pytest.raises(MisuseError):
        ours.step(actions)
    assert ours.step(np.zeros(3, np.int64))[1].shape == (3,)


def test_a_copy_dials_anew(hosting: Hosting) -> None:
    ours = hosting.ours()
    ours.seed(8)
    ours.set_options({"a": 1})
    again: Any = pickle.loads(pickle.dumps(ours))
    assert type(again) is VecEnv and again.remote is not ours.remote
    assert_same(again.reset(), ours.reset())
    assert_same(again.reset_infos, ours.reset_infos)
    again.close()
    assert ours.step(np.zeros(3, np.int64))[0].shape == (3, 4)


def test_an_environment_that_raises(hosting: Hosting) -> None:
    ours = hosting.ours()
    ours.reset()
    ours.set_attr("length", "no number", indices=1)
    with pytest.raises(EnvironmentRaised) as raised:
        ours.step(np.zeros(3, np.int64))
    assert raised.value.env_index == 1
    assert ours.reset().shape == (3, 4)
    assert ours.step(np.zeros(3, np.int64))[1].shape == (3,)


def test_a_lost_worker_ends_episodes_as_a_time_limit_does(hosting: Hosting) -> None:
    ours = hosting.ours("numbers", 4)
    ours.seed(2)
    last = ours.reset()
    (pid, *_) = ours.get_attr("pid")
    os.kill(pid, signal.SIGKILL)
    with pytest.warns(UserWarning, match="were lost"):
        while True:
            observations, rewards, dones, infos = ours.step(np.zeros(4, np.int64))
            lost = [at for at, info in enumerate(infos) if "remote_gym" in info]
            if lost:
                break
            last = observations
    for at in lost:
        assert dones[at] and rewards[at] == 0 and infos[at]["TimeLimit.truncated"] is True
        assert_same(infos[at]["terminal_observation"], last[at])
        assert infos[at]["remote_gym"]["lost"] is True
        assert "remote_gym" not in ours.reset_infos[at] and "final_obs" not in ours.reset_infos[at]
    assert ours.step(np.zeros(4, np.int64))[0].shape == (4, 4)


# Arguments


def test_what_is_not_to_be_given(hosting: Hosting) -> None:
    for name, value in {"autoreset_mode": "NextStep", "info_format": "gymnasium"}.items():
        with pytest.raises(MisuseError, match=name):
            hosting.ours(**{name: value})
        with pytest.raises(MisuseError, match=name):
            VecEnv.local("CartPole-v1", 2, **{name: value})
    for functions in ([lambda: gym.make("CartPole-v1")] * 2, lambda: gym.make("CartPole-v1")):
        with pytest.raises(MisuseError, match=r"VecEnv\.local"):
            VecEnv(functions)  # type: ignore[arg-type]
    with pytest.raises(MisuseError, match="num_envs"):
        hosting.ours(num_envs=0)
    with pytest.raises(TypeError, match="nonsense"):
        hosting.ours(nonsense=1)


def test_without_the_library_an_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "remote_gym.sb3")
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.vec_env", None)
    with pytest.raises(ImportError, match=r"remote_gym\.sb3 needs Stable-Baselines3.*extra `sb3`"):
        importlib.import_module("remote_gym.sb3")


def test_after_an_interrupt_a_reset_goes_on(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook whose cell was interrupted, and run again."""
    ours, theirs = hosting.both()
    ours.reset()
    step_wait = ours.remote.step_wait

    def interrupted() -> Any:
        monkeypatch.setattr(ours.remote, "step_wait", step_wait)
        raise KeyboardInterrupt

    monkeypatch.setattr(ours.remote, "step_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ours.step(np.zeros(3, np.int64))
    for envs in (ours, theirs):
        envs.seed(12)
    assert assert_alike(ours, theirs, 15) > 0


def test_it_says_what_it_is(hosting: Hosting) -> None:
    ours = hosting.ours("CartPole-v1")
    assert repr(ours) == f"VecEnv(RemoteVectorEnv(CartPole-v1, {hosting.server.address}, num_envs=3))"
    assert ours.spec is not None and ours.spec.id == "CartPole-v1"
    assert ours.unwrapped is ours
    assert ours.getattr_depth_check("num_envs", True) == "remote_gym.sb3.VecEnv"
