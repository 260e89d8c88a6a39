"""Every wrapper of `gymnasium.wrappers` and `gymnasium.wrappers.vector`: it does on a remote environment what it does
on the local one, with the same spaces, observations, rewards, flags, infos, frames and videos.

One difference is by nature: a wrapper that draws from `env.np_random` (StickyAction, AddWhiteNoise, ObstructView)
draws locally from the environment's own generator, remotely from one beside it with the same seed. They agree as long
as the environment itself draws nothing, and so do the toys that stand for these here.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import toys as toy_module
from conftest import ToyServer
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as vector_wrappers
from sameness import assert_same

NUM_ENVS = 3
STEPS = 30


@dataclass(frozen=True)
class Case:
    """A wrapper's arguments, and the toy that it goes around."""

    toy: str
    toy_kwargs: dict[str, Any] = field(default_factory=dict)
    arguments: Callable[[Path], dict[str, Any]] = lambda _folder: {}  # of a folder for this environment's files
    render_mode: str | None = None
    needs: tuple[str, ...] = ()


def on(toy: str, *, needs: tuple[str, ...] = (), render_mode: str | None = None, **arguments: Any) -> Case:
    """A case with equal arguments for both environments."""
    toy, kwargs = TOYS.get(toy, (toy, {}))
    return Case(toy, kwargs, lambda _folder: deepcopy(arguments), render_mode, needs)


def made(id: str, length: int = 7) -> tuple[str, dict[str, Any]]:
    return "gymnasium_env", {"id": id, "max_episode_steps": length}


TOYS = {
    "cart": made("CartPole-v1"),
    "car": made("MountainCar-v0"),
    "pendulum": made("Pendulum-v1"),
    "blackjack": made("Blackjack-v1"),
    "dict": ("echo", {"space": "dict"}),
    "nested": ("echo", {"space": "nested"}),
}
VIDEO = {"video_length": 0, "episode_trigger": lambda episode: episode == 0}


def video_of(toy: str, **more: Any) -> Case:
    name, kwargs = TOYS.get(toy, (toy, {}))
    return Case(
        name, kwargs, lambda folder: {"video_folder": str(folder), **VIDEO, **more}, "rgb_array", ("moviepy", "pygame")
    )


def numpy_modules(_folder: Path) -> dict[str, Any]:
    from array_api_compat import numpy as xp

    return {"env_xp": xp, "target_xp": xp}


FRAMES = {"render_mode": "rgb_array"}
IMAGES = {"needs": ("cv2",)}

SINGLE: dict[str, list[Case]] = {
    "AtariPreprocessing": [],  # see test_atari_preprocessing
    "DelayObservation": [on("cart", delay=2)],
    "DtypeObservation": [on("cart", dtype=np.float64)],
    "DiscretizeObservation": [on("car", bins=5)],
    "FilterObservation": [on("dict", filter_keys=["a"]), on("nested", filter_keys=["z"])],
    "FlattenObservation": [on("nested"), on("blackjack")],
    "FrameStackObservation": [on("cart", stack_size=3), on("nested", stack_size=2, padding_type="zero")],
    "GrayscaleObservation": [on("picture"), on("picture", keep_dim=True)],
    "TransformObservation": [on("cart", func=np.negative, observation_space=None)],
    "MaxAndSkipObservation": [on("cart", skip=2)],
    "NormalizeObservation": [on("cart"), on("pendulum")],
    "AddRenderObservation": [on("picture", **FRAMES), on("counter", render_only=False, **FRAMES)],
    "ResizeObservation": [on("picture", shape=(8, 4), **IMAGES)],
    "ReshapeObservation": [on("cart", shape=(2, 2))],
    "RescaleObservation": [on("car", min_obs=np.float32(-1), max_obs=np.float32(1))],
    "TimeAwareObservation": [on("cart"), on("cart", flatten=False)],
    "ClipAction": [on("pendulum")],
    "DiscretizeAction": [on("pendulum", bins=5)],
    "TransformAction": [on("pendulum", func=np.negative, action_space=spaces.Box(-2, 2, (1,), np.float32))],
    "RescaleAction": [on("pendulum", min_action=np.float32(-1), max_action=np.float32(1))],
    "StickyAction": [on("counter", repeat_action_probability=0.5)],
    "RepeatAction": [on("cart", num_repeats=2)],
    "ClipReward": [on("pendulum", min_reward=-1.0, max_reward=1.0)],
    "TransformReward": [on("pendulum", func=lambda reward: reward * 2)],
    "NormalizeReward": [on("pendulum")],
    "TimeLimit": [on("cart", max_episode_steps=3)],
    "Autoreset": [on("cart"), on("counter")],
    "PassiveEnvChecker": [on("dict"), on("cart")],
    "OrderEnforcing": [on("counter")],
    "RecordEpisodeStatistics": [on("cart"), on("pendulum", stats_key="statistics")],
    "AddWhiteNoise": [on("picture", probability_of_noise_per_pixel=0.3, **FRAMES)],
    "ObstructView": [on("picture", obstructed_pixels_ratio=0.3, obstruction_width=2, **FRAMES)],
    "RenderCollection": [on("picture", **FRAMES), on("picture", pop_frames=False, reset_clean=False, **FRAMES)],
    "RecordVideo": [video_of("cart")],
    "HumanRendering": [],  # see test_human_rendering: there is one window only
    "ArrayConversion": [Case(*TOYS["cart"], numpy_modules, needs=("array_api_compat",))],
    "JaxToNumpy": [on("pendulum", needs=("jax", "array_api_compat"))],
    "JaxToTorch": [on("pendulum", needs=("jax", "torch", "array_api_compat"))],
    "NumpyToTorch": [on("cart", needs=("torch", "array_api_compat"))],
}

Reshape, Clip, Scale = gym.wrappers.ReshapeObservation, gym.wrappers.ClipReward, gym.wrappers.RescaleAction
VECTOR: dict[str, list[Case]] = {
    "VectorizeTransformObservation": [on("cart", wrapper=Reshape, shape=(2, 2))],
    "VectorizeTransformAction": [
        on("pendulum", wrapper=Scale, min_action=np.float32(-1), max_action=np.float32(1)),
    ],
    "VectorizeTransformReward": [on("pendulum", wrapper=Clip, min_reward=-1.0, max_reward=1.0)],
    "DictInfoToList": [on("counter")],
    "TransformObservation": [on("cart", func=np.negative)],
    "FilterObservation": [on("dict", filter_keys=["a"])],
    "FlattenObservation": [on("nested"), on("blackjack")],
    "GrayscaleObservation": [on("picture"), on("picture", keep_dim=True)],
    "ResizeObservation": [on("picture", shape=(8, 4), **IMAGES)],
    "ReshapeObservation": [on("cart", shape=(2, 2))],
    "RescaleObservation": [on("car", min_obs=np.float32(-1), max_obs=np.float32(1))],
    "DtypeObservation": [on("cart", dtype=np.float64)],
    "NormalizeObservation": [on("cart"), on("pendulum")],
    "TransformAction": [on("pendulum", func=np.negative)],
    "ClipAction": [on("pendulum")],
    "RescaleAction": [on("pendulum", min_action=np.float32(-1), max_action=np.float32(1))],
    "TransformReward": [on("pendulum", func=lambda rewards: rewards * 2)],
    "ClipReward": [on("pendulum", min_reward=-1.0, max_reward=1.0)],
    "NormalizeReward": [on("pendulum")],
    "RecordEpisodeStatistics": [on("cart"), on("counter", stats_key="statistics")],
    "RecordVideo": [],  # see test_vector_record_video: slow, and warns in the mode SameStep
    "HumanRendering": [],  # see test_vector_human_rendering
    "ArrayConversion": [Case(*TOYS["cart"], numpy_modules, needs=("array_api_compat",))],
    "JaxToNumpy": [on("pendulum", needs=("jax", "array_api_compat"))],
    "JaxToTorch": [on("pendulum", needs=("jax", "torch", "array_api_compat"))],
    "NumpyToTorch": [on("cart", needs=("torch", "array_api_compat"))],
}


def wrappers_of(module: Any) -> list[str]:
    return [name for name in module.__all__ if name != "vector"]


@pytest.mark.parametrize("module, table", [(gym.wrappers, SINGLE), (vector_wrappers, VECTOR)], ids=["single", "vector"])
def test_every_wrapper_has_its_cases(module: Any, table: dict[str, list[Case]]) -> None:
    assert not set(wrappers_of(module)) - set(table), "Gymnasium has new wrappers: add them to the table"


def cases_of(module: Any, table: dict[str, list[Case]]) -> list[Any]:
    return [
        pytest.param(name, case, id=f"{name}-{number}")
        for name in wrappers_of(module)
        for number, case in enumerate(table.get(name, []))
    ]


class Sync(SyncVectorEnv):
    """Gymnasium's own, but it leaves the caller's options alone.

    It pops ``"reset_mask"`` out of them, so that a wrapper above cannot know of a masked reset any more:
    `RecordEpisodeStatistics` then forgets the episodes that go on.
    """

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        return super().reset(seed=seed, options=None if options is None else dict(options))


@pytest.fixture
def at_end() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def local_of(case: Case) -> gym.Env[Any, Any]:
    return toy_module.create(case.toy, render_mode=case.render_mode, **case.toy_kwargs)


def local_vector(case: Case, mode: str) -> SyncVectorEnv:
    return Sync([lambda: local_of(case)] * NUM_ENVS, autoreset_mode=mode)


def plain(value: Any) -> Any:
    """Return `value` without what a clock said, and arrays of other libraries as NumPy's."""
    if isinstance(value, dict):
        timed = {"r", "l", "t"} == set(value)
        return {key: plain(item) for key, item in value.items() if not (timed and key == "t")}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if type(value).__module__.partition(".")[0] in ("torch", "jax", "jaxlib"):
        return str(value.dtype), np.asarray(value)
    return value


def skip_without(modules: tuple[str, ...]) -> None:
    for module in modules:
        pytest.importorskip(module)


@pytest.mark.parametrize("name, case", cases_of(gym.wrappers, SINGLE))
def test_wrapper(toys: ToyServer, at_end: ExitStack, tmp_path: Path, name: str, case: Case) -> None:
    skip_without(case.needs)
    inner = toys.single(case.toy, case.toy_kwargs, render_mode=case.render_mode)
    wrap = getattr(gym.wrappers, name)
    remote = wrap(inner, **case.arguments(tmp_path / "remote"))
    local = wrap(local_of(case), **case.arguments(tmp_path / "local"))
    for env in (remote, local):
        at_end.callback(env.close)
    compare_single(remote, local)
    compare_videos(tmp_path / "remote", tmp_path / "local")


def compare_single(remote: Any, local: Any, steps: int = STEPS) -> None:
    """Step both with the same actions, over the ends of episodes."""
    for attribute in ("observation_space", "action_space", "metadata", "render_mode", "reward_range"):
        assert getattr(remote, attribute, None) == getattr(local, attribute, None), attribute
    if "video_folder" not in str(local.spec):
        assert remote.spec == local.spec
    for env in (remote, local):
        env.action_space.seed(1)
    assert_same(plain(remote.reset(seed=3)), plain(local.reset(seed=3)), "reset")
    ends = 0
    for number in range(steps):
        action = local.action_space.sample()
        assert_same(remote.action_space.sample(), action, "sampled action")
        ours, theirs = (env.step(as_its_own(env, action)) for env in (remote, local))
        assert_same(plain(ours), plain(theirs), f"step {number}")
        if local.render_mode is not None and number % 3:
            assert_same(remote.render(), local.render(), f"frame {number}")
        if theirs[2] or theirs[3]:
            ends += 1
            if not isinstance(local, gym.wrappers.Autoreset):
                seed = number if ends == 2 else None
                assert_same(plain(remote.reset(seed=seed)), plain(local.reset(seed=seed)), f"reset after {number}")
    assert ends > 1, "the test means to see episodes end"


def as_its_own(env: Any, action: Any) -> Any:
    """Return `action` as an array of the library that `env` talks in."""
    name = type(env).__name__
    if name in ("NumpyToTorch", "JaxToTorch"):
        import torch

        return torch.as_tensor(action)
    return action


@pytest.mark.parametrize("mode", [mode.value for mode in AutoresetMode])
@pytest.mark.parametrize("name, case", cases_of(vector_wrappers, VECTOR))
def test_vector_wrapper(toys: ToyServer, at_end: ExitStack, tmp_path: Path, name: str, case: Case, mode: str) -> None:
    skip_without(case.needs)
    inner = toys.vector(case.toy, NUM_ENVS, case.toy_kwargs, render_mode=case.render_mode, autoreset_mode=mode)
    local = local_vector(case, mode)
    for env in (inner, local):
        at_end.callback(env.close)
    wrap = getattr(vector_wrappers, name)
    ours, theirs = (outcome(wrap, env, **case.arguments(tmp_path)) for env in (inner, local))
    if isinstance(theirs, Exception):  # many refuse the mode SameStep
        assert_same_error(ours, theirs)
    else:
        compare_vector(ours, theirs, mode)


def outcome(call: Any, *args: Any, **kwargs: Any) -> Any:
    """Return what `call` returns or, as a value, what it raises."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        return error


def assert_same_error(ours: Any, theirs: Exception) -> None:
    assert (type(ours), str(ours)) == (type(theirs), str(theirs))


def compare_vector(remote: Any, local: Any, mode: str, steps: int = STEPS) -> None:
    """Step both with the same actions; in the mode Disabled, reset what ended with a mask."""
    for attribute in (
        "num_envs", "observation_space", "single_observation_space", "action_space", "single_action_space", "metadata",
        "render_mode",
    ):  # fmt: skip
        assert getattr(remote, attribute) == getattr(local, attribute), attribute
    for env in (remote, local):
        env.action_space.seed(1)
    assert_same(plain(remote.reset(seed=3)), plain(local.reset(seed=3)), "reset")
    ends = 0
    for number in range(steps):
        actions = local.action_space.sample()
        assert_same(remote.action_space.sample(), actions, "sampled actions")
        ours, theirs = (outcome(env.step, as_its_own(env, actions)) for env in (remote, local))
        if isinstance(theirs, Exception):  # ArrayConversion cannot convert "final_obs"
            assert_same_error(ours, theirs)
            return
        assert_same(plain(ours), plain(theirs), f"step {number}")
        over = np.asarray(theirs[2]) | np.asarray(theirs[3])
        ends += over.any()
        if mode == "Disabled" and over.any():
            options = {"reset_mask": over.copy(), "more": 1}
            ours, theirs = (outcome(env.reset, options=dict(options)) for env in (remote, local))
            if isinstance(theirs, Exception):  # JaxToNumpy makes the mask an array of JAX
                assert_same_error(ours, theirs)
                return
            assert_same(plain(ours), plain(theirs), f"masked reset after {number}")
    assert ends > 1, "the test means to see episodes end"


# Statistics over masked resets, against what they should be.


def test_statistics_of_episodes_that_a_masked_reset_leaves_alone(toys: ToyServer, at_end: ExitStack) -> None:
    inner = toys.vector("counter", 3, {"length": 4}, autoreset_mode="Disabled")
    env = at_end.enter_context(closing(vector_wrappers.RecordEpisodeStatistics(inner)))
    env.reset(seed=1)
    go, stop = 0, 2
    seen: list[tuple[list[float], list[int]]] = []
    for actions in ([stop, go, go], [go, stop, go], [go, go, go], [go, go, go], [stop, go, go]):
        *_, terminations, truncations, infos = env.step(np.array(actions))
        over = terminations | truncations
        if over.any():
            seen.append((infos["episode"]["r"].tolist(), infos["episode"]["l"].tolist()))
            env.reset(options={"reset_mask": over})
    # The reward of a step is its number in its episode.
    assert seen == [
        ([1, 0, 0], [1, 0, 0]),
        ([0, 1 + 2, 0], [0, 2, 0]),
        ([0, 0, 1 + 2 + 3 + 4], [0, 0, 4]),
        ([1 + 2 + 3 + 4, 0, 0], [4, 0, 0]),
    ]
    assert list(env.length_queue) == [1, 2, 4, 4]


def test_only_the_wrapper_takes_the_mask_out(toys: ToyServer, at_end: ExitStack) -> None:
    mask = np.array([False, True, False])
    options = {"reset_mask": mask, "goal": 1}
    inner = at_end.enter_context(toys.vector("counter", 3))
    env = vector_wrappers.NormalizeReward(inner)
    env.reset(seed=1)
    env.reset(options=options)
    assert options == {"reset_mask": mask, "goal": 1} and mask.tolist() == [False, True, False]


# Stacks of wrappers, as trainers build them.


def test_a_trainers_stack(toys: ToyServer, at_end: ExitStack) -> None:
    def stack(env: Any) -> Any:
        env = gym.wrappers.RecordEpisodeStatistics(gym.wrappers.FlattenObservation(env))
        env = gym.wrappers.NormalizeObservation(gym.wrappers.ClipAction(env))
        return gym.wrappers.FrameStackObservation(gym.wrappers.NormalizeReward(env, gamma=0.9), 2)

    kwargs = TOYS["pendulum"][1]
    remote, local = stack(toys.single("gymnasium_env", kwargs)), stack(toy_module.gymnasium_env(**kwargs))
    for env in (remote, local):
        at_end.callback(env.close)
    compare_single(remote, local)
    assert remote.get_wrapper_attr("return_queue") == local.get_wrapper_attr("return_queue")
    for name in ("g", "max_speed"):  # of the hosted environment, through all wrappers
        assert remote.has_wrapper_attr(name)
        assert_same(remote.get_wrapper_attr(name), local.get_wrapper_attr(name))
    assert not remote.has_wrapper_attr("nowhere") and not local.has_wrapper_attr("nowhere")
    remote.set_wrapper_attr("g", 3.5), local.set_wrapper_attr("g", 3.5)
    compare_single(remote, local)


def test_a_vector_trainers_stack(toys: ToyServer, at_end: ExitStack) -> None:
    def stack(env: Any) -> Any:
        env = vector_wrappers.NormalizeReward(vector_wrappers.RecordEpisodeStatistics(env))
        return vector_wrappers.DictInfoToList(vector_wrappers.NormalizeObservation(vector_wrappers.ClipAction(env)))

    case = Case(*TOYS["pendulum"])
    remote, local = stack(toys.vector(case.toy, 3, case.toy_kwargs)), stack(local_vector(case, "NextStep"))
    for env in (remote, local):
        at_end.callback(env.close)
    compare_vector(remote, local, "NextStep")
    assert_same(remote.unwrapped.call("g"), local.unwrapped.call("g"))


# Atari: the wrapper reads the emulator's memory, so it belongs to where the emulator is.


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_atari_preprocessing(toys: ToyServer, at_end: ExitStack) -> None:
    skip_without(("ale_py", "cv2"))
    remote, local = (
        toys.single("atari", {"screen_size": 32, "noop_max": 5}),
        toy_module.atari(screen_size=32, noop_max=5),
    )
    for env in (remote, local):
        at_end.callback(env.close)
    stacked = [gym.wrappers.FrameStackObservation(gym.wrappers.TimeLimit(env, 12), 4) for env in (remote, local)]
    assert stacked[0].observation_space == stacked[1].observation_space
    stacked[1].action_space.seed(1)
    assert_same(*(env.reset(seed=3) for env in stacked))
    for number in range(30):
        action = stacked[1].action_space.sample()
        ours, theirs = (env.step(action) for env in stacked)
        assert_same(ours, theirs, f"step {number}")
        if theirs[3]:
            assert_same(*(env.reset() for env in stacked))


def test_atari_preprocessing_on_this_side_raises_at_once(toys: ToyServer, at_end: ExitStack) -> None:
    skip_without(("cv2",))
    env = at_end.enter_context(toys.single("picture"))
    with pytest.raises((ValueError, AttributeError)):
        gym.wrappers.AtariPreprocessing(env)


# Render modes, and what shows or records.


@pytest.mark.parametrize("with_step", [False, True])
@pytest.mark.parametrize(
    "id, mode",
    [
        ("CartPole-v1", "rgb_array"),
        ("CartPole-v1", "rgb_array_list"),
        ("FrozenLake-v1", "ansi"),
        ("Taxi-v4", "ansi"),
        ("FrozenLake-v1", "rgb_array"),
    ],
)
def test_render_modes(toys: ToyServer, at_end: ExitStack, id: str, mode: str, with_step: bool) -> None:
    skip_without(("pygame",) if "rgb" in mode else ())
    kwargs = {"id": id, "max_episode_steps": 4}
    remote = toys.single("gymnasium_env", kwargs, render_mode=mode, render_with_step=with_step)
    local = toy_module.gymnasium_env(render_mode=mode, **kwargs)
    vector = toys.vector("gymnasium_env", 2, kwargs, render_mode=mode, render_with_step=with_step)
    oracle = Sync([lambda: toy_module.gymnasium_env(render_mode=mode, **kwargs)] * 2)
    for env in (remote, local, vector, oracle):
        at_end.callback(env.close)
        env.reset(seed=3)
    assert remote.render_mode == local.render_mode == mode
    for number in range(7):
        for ours, theirs in ((remote, local), (vector, oracle)):
            if number % 3 != 1:  # frames of a list gather in between
                assert_same(ours.render(), theirs.render(), f"frame {number}")
                assert_same(ours.render(), theirs.render(), f"frame {number}, again")
            theirs.action_space.seed(number)
            action = theirs.action_space.sample()
            truncated = [env.step(action)[3] for env in (ours, theirs)]
            if truncated[1] is True:  # of the single environment
                ours.reset(), theirs.reset()


@pytest.fixture
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def shown() -> np.ndarray[Any, Any]:
    """Return what the window shows: (width, height, 3) uint8."""
    import pygame

    return pygame.surfarray.array3d(pygame.display.get_surface()).copy()  # type: ignore[no-any-return]


def what_it_shows(env: Any, steps: int = 5) -> list[np.ndarray[Any, Any]]:
    """Step and close `env`; return each of its window's frames. There is one window in a process."""
    env.reset(seed=3)
    frames = [shown()]
    env.action_space.seed(1)
    for _ in range(steps):
        env.step(env.action_space.sample())
        frames.append(shown())
    env.close()
    return frames


@pytest.mark.usefixtures("no_screen")
@pytest.mark.parametrize("mode", ["rgb_array", "rgb_array_list", "human"])
def test_human_rendering(toys: ToyServer, mode: str) -> None:
    skip_without(("pygame",))
    kwargs = {"id": "CartPole-v1"}
    remote = toys.single("gymnasium_env", kwargs, render_mode=mode)
    local = toy_module.gymnasium_env(**kwargs, render_mode="rgb_array" if mode == "human" else mode)
    wrapped = remote if mode == "human" else gym.wrappers.HumanRendering(remote)
    ours, theirs = what_it_shows(wrapped), what_it_shows(gym.wrappers.HumanRendering(local))
    assert_same(ours, theirs, "frames")
    assert len({frame.tobytes() for frame in ours}) > 2


@pytest.mark.usefixtures("no_screen")
def test_vector_human_rendering(toys: ToyServer) -> None:
    skip_without(("pygame", "cv2"))
    kwargs = {"id": "CartPole-v1", "render_mode": "rgb_array"}
    remote = toys.vector("gymnasium_env", 4, {"id": "CartPole-v1"}, render_mode="rgb_array")
    local = Sync([lambda: toy_module.gymnasium_env(**kwargs)] * 4)
    ours, theirs = (what_it_shows(vector_wrappers.HumanRendering(env)) for env in (remote, local))
    assert_same(ours, theirs, "frames")


@pytest.mark.parametrize("mode", ["rgb_array", "rgb_array_list"])
@pytest.mark.parametrize("with_step", [False, True])
def test_record_video(toys: ToyServer, at_end: ExitStack, tmp_path: Path, mode: str, with_step: bool) -> None:
    skip_without(("moviepy", "pygame"))
    kwargs = TOYS["cart"][1]
    envs = {
        "remote": toys.single("gymnasium_env", kwargs, render_mode=mode, render_with_step=with_step),
        "local": toy_module.gymnasium_env(**kwargs, render_mode=mode),
    }
    for where, env in envs.items():
        recording = gym.wrappers.RecordVideo(env, str(tmp_path / where), **VIDEO)
        at_end.callback(recording.close)
        recording.reset(seed=3)
        while not any(recording.step(1)[2:4]):
            pass
        recording.close()
    assert compare_videos(tmp_path / "remote", tmp_path / "local") == 1


@pytest.mark.parametrize("only_first", [False, True])
def test_vector_record_video(toys: ToyServer, at_end: ExitStack, tmp_path: Path, only_first: bool) -> None:
    skip_without(("moviepy", "pygame"))
    kwargs = {"id": "CartPole-v1", "max_episode_steps": 6}
    envs = {
        "remote": toys.vector("gymnasium_env", 2, kwargs, render_mode="rgb_array"),
        "local": Sync([lambda: toy_module.gymnasium_env(**kwargs, render_mode="rgb_array")] * 2),
    }
    for where, env in envs.items():
        recording = vector_wrappers.RecordVideo(env, str(tmp_path / where), record_first_only=only_first, **VIDEO)
        at_end.callback(recording.close)
        recording.reset(seed=3)
        for _ in range(8):
            recording.step(np.array([1, 0]))
        recording.close()
    assert compare_videos(tmp_path / "remote", tmp_path / "local") == 1


def compare_videos(ours: Path, theirs: Path) -> int:
    """Decode and compare the videos of two folders; return how many there are."""
    names = sorted(path.name for path in theirs.glob("*.mp4"))
    assert sorted(path.name for path in ours.glob("*.mp4")) == names
    for name in names:
        frames, expected = frames_of(ours / name), frames_of(theirs / name)
        assert len(frames) == len(expected) > 4
        assert (frames[0] == expected[0]).all() and (frames[-1] == expected[-1]).all()
        assert (frames[0] != frames[-1]).any(), "something moved"
    return len(names)


def frames_of(path: Path) -> np.ndarray[Any, Any]:
    """Return the frames of a video: (frames, height, width, 3) uint8."""
    # moviepy's own reader leaves pipes open.
    from imageio_ffmpeg import get_ffmpeg_exe

    command = [get_ffmpeg_exe(), "-i", str(path), "-f", "image2pipe", "-c:v", "ppm", "-"]
    data = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    header = data[: data.index(b"\n255\n") + 5]
    width, height = map(int, header.split()[1:3])
    rows = np.frombuffer(data, np.uint8).reshape(-1, len(header) + width * height * 3)
    return rows[:, len(header) :].reshape(-1, height, width, 3)
