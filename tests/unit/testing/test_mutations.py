"""The checks fail, and name the right rule, for remote environments that are broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from remote_gym import RemoteEnvironment, RemoteVectorEnv
from remote_gym.testing import ConformanceError, Rule, check_env, check_vector_env

INFOS = [
    {"int": 1, "listed": [1, {"a": 2}], "tuple": (1, 2), "array": np.arange(2.0), "float": 0.0, "one": "x"},
    {"int": 2, "listed": [1, {"a": 2}], "tuple": (1, 2), "array": np.arange(2.0), "float": 0.0},
]
SPACE = ["dict", {"a": "box f4", "b": "discrete"}]


class Broken(RemoteVectorEnv):
    """Changes what comes back; the calls that are changed are those that `step` and `reset` are made of."""

    change: Callable[..., Any]

    def step_wait(self, timeout: float | None = None) -> Any:
        return self.stepped(*super().step_wait(timeout))

    def stepped(self, observations: Any, rewards: Any, terminations: Any, truncations: Any, infos: Any) -> Any:
        return observations, rewards, terminations, truncations, infos


def step(change: Callable[..., Any]) -> type[Broken]:
    """Return a class whose step result goes through ``change(env, observations, rewards, ...)``."""
    return type("BrokenStep", (Broken,), {"stepped": change})


def info(change: Callable[[dict[str, Any]], Any]) -> type[Broken]:
    """Return a class whose infos are changed in place."""

    def stepped(env: Any, *result: Any) -> Any:
        if {"listed", "one"} <= set(result[4]):
            change(result[4])
        return result

    return step(stepped)


def reset(change: Callable[[Any, Any], tuple[Any, Any]]) -> type[Broken]:
    """Return a class that resets with ``change(seed, options)``."""

    def reset_async(env: Any, *, seed: Any = None, options: Any = None) -> None:
        seed, options = change(seed, options)
        RemoteVectorEnv.reset_async(env, seed=seed, options=options)

    return type("BrokenReset", (Broken,), {"reset_async": reset_async})


def method(**methods: Any) -> type[Broken]:
    return type("BrokenMethod", (Broken,), methods)


def swap_rows(env: Any, observations: Any, *rest: Any) -> Any:
    return {key: array[::-1].copy() for key, array in observations.items()}, *rest


def with_old_observations(env: Any, observations: Any, *rest: Any) -> Any:
    old, env.old = env.__dict__.get("old", observations), deepcopy(observations)
    return old, *rest


def with_one_buffer(env: Any, observations: Any, *rest: Any) -> Any:
    buffers = env.__dict__.setdefault("buffers", {key: array.copy() for key, array in observations.items()})
    for key, array in observations.items():
        buffers[key].flags.writeable = True
        buffers[key][...] = array
        buffers[key].flags.writeable = False
    return {key: buffer.view() for key, buffer in buffers.items()}, *rest


def with_observations(change: Callable[[Any], Any]) -> type[Broken]:
    return step(lambda env, observations, *rest: (change(observations), *rest))


def with_rewards(change: Callable[[Any], Any]) -> type[Broken]:
    return step(lambda env, observations, rewards, *rest: (observations, change(rewards), *rest))


def reset_row_reward(env: Any, observations: Any, rewards: Any, terminations: Any, truncations: Any, infos: Any) -> Any:
    rewards[env.__dict__.get("ended", [])] = 1.0
    env.ended = np.flatnonzero(terminations | truncations)
    return observations, rewards, terminations, truncations, infos


def show_final(env: Any, observations: Any, rewards: Any, terminations: Any, truncations: Any, infos: Any) -> Any:
    for index in np.flatnonzero(terminations | truncations):
        observations["a"][index] = infos["final_obs"][index]["a"]
    return observations, rewards, terminations, truncations, infos


def drop_mask(options: Any) -> Any:
    return options and {key: value for key, value in options.items() if key != "reset_mask"}


def change_options(env: Any, *, seed: Any = None, options: Any = None) -> None:
    RemoteVectorEnv.reset_async(env, seed=seed, options=options)
    if options:
        options.pop("reset_mask", None)


def keep_wrong_masks(seed: Any, options: Any) -> Any:
    mask = (options or {}).get("reset_mask")
    wrong = not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.ndim != 1 or not mask.any()
    return seed, drop_mask(options) if mask is not None and wrong else options


def set_in(array_of: str, change: Callable[[Any], Any]) -> type[Broken]:
    def apply(infos: dict[str, Any]) -> None:
        index = int(np.flatnonzero(infos[f"_{array_of}"])[0])
        infos[array_of][index] = change(infos[array_of][index])

    return info(apply)


def recast(key: str, change: Callable[[Any], Any]) -> type[Broken]:
    return info(lambda infos: infos.update({key: change(infos[key])}))


def use_after_close(env: Any, actions: Any) -> Any:
    return None if env.closed else RemoteVectorEnv.step(env, actions)


def close_once(env: Any, **kwargs: Any) -> None:
    if env.closed:
        raise RuntimeError("already closed")
    RemoteVectorEnv.close(env)


def old_frames(env: Any) -> Any:
    frames = RemoteVectorEnv.render(env)
    old, env.frames = env.__dict__.get("frames", frames), frames
    return old


def reordered(env: Any) -> Any:
    space = deepcopy(RemoteVectorEnv.single_observation_space.fget(env))  # type: ignore[attr-defined]
    space.spaces = dict(reversed(space.spaces.items()))
    return space


VECTOR: dict[str, tuple[Rule, type[Broken]]] = {
    "rows are swapped": (Rule.OBSERVATION_VALUES, step(swap_rows)),
    "observations are stale": (Rule.OBSERVATION_VALUES, step(with_old_observations)),
    "observations are doubles": (
        Rule.OBSERVATION_DTYPES,
        with_observations(lambda observations: {**observations, "a": observations["a"].astype(np.float64)}),
    ),
    "observations have another shape": (
        Rule.OBSERVATION_DTYPES,
        with_observations(lambda observations: {**observations, "b": observations["b"][:, None]}),
    ),
    "observations are tuples": (
        Rule.OBSERVATION_TYPES,
        with_observations(lambda observations: tuple(observations.values())),
    ),
    "observations lack a key": (
        Rule.OBSERVATION_TYPES,
        with_observations(lambda observations: {"a": observations["a"]}),
    ),
    "rewards are single precision": (Rule.REWARD_TYPE, with_rewards(lambda rewards: rewards.astype(np.float32))),
    "rewards are a list": (Rule.REWARD_TYPE, with_rewards(lambda rewards: rewards.tolist())),
    "rewards are a bit off": (Rule.REWARD_VALUES, with_rewards(lambda rewards: np.nextafter(rewards, 9))),
    "terminated and truncated are swapped": (
        Rule.TERMINATED,
        step(lambda env, observations, rewards, one, other, infos: (observations, rewards, other, one, infos)),
    ),
    "truncated is terminated too": (
        Rule.TRUNCATED,
        step(lambda env, observations, rewards, one, other, infos: (observations, rewards, one, one | other, infos)),
    ),
    "a mask is missing": (Rule.INFO_MASKS, info(lambda infos: infos.pop("_int"))),
    "a mask is too wide": (Rule.INFO_MASKS, recast("_one", np.ones_like)),
    "a mask is of numbers": (Rule.INFO_MASKS, recast("_int", lambda mask: mask.astype(np.int8))),
    "a key is missing": (Rule.INFO_KEYS, info(lambda infos: (infos.pop("int"), infos.pop("_int")))),
    "a key is new": (Rule.INFO_KEYS, info(lambda infos: infos.update(more=1))),
    "a list is a tuple": (Rule.INFO_TYPES, set_in("listed", tuple)),
    "a tuple is a list": (Rule.INFO_TYPES, set_in("tuple", list)),
    "an int is a NumPy integer": (Rule.INFO_TYPES, set_in("listed", lambda old: [np.int64(1), *old[1:]])),
    "a str is a NumPy string": (Rule.INFO_TYPES, set_in("one", np.str_)),
    "an info is single precision": (Rule.INFO_DTYPES, recast("array", lambda array: array.astype(np.float32))),
    "an info has another shape": (Rule.INFO_DTYPES, recast("array", lambda array: array[:, :1])),
    "a zero is negative": (Rule.INFO_VALUES, recast("float", lambda array: -array)),
    "a nested value is off": (Rule.INFO_VALUES, set_in("listed", lambda old: [1, {"a": 3}])),
    "the seed is off by one": (
        Rule.SEED_INT,
        reset(lambda seed, options: (seed + 1 if isinstance(seed, int) else seed, options)),
    ),
    "every environment has the same seed": (
        Rule.SEED_INT,
        reset(lambda seed, options: ([seed] * 3 if isinstance(seed, int) else seed, options)),
    ),
    "None in a list is a zero": (
        Rule.SEED_LIST,
        reset(lambda seed, options: ([one or 0 for one in seed] if isinstance(seed, list) else seed, options)),
    ),
    "no seed is a zero": (
        Rule.UNSEEDED,
        reset(lambda seed, options: (0 if seed is None and options is None else seed, options)),
    ),
    "reset_mask resets all": (Rule.MASKED_RESET, reset(lambda seed, options: (seed, drop_mask(options)))),
    "the caller's options are changed": (Rule.OPTIONS, method(reset_async=change_options)),
    "a wrong reset_mask is ignored": (Rule.MISUSE, reset(keep_wrong_masks)),
    "actions are cast": (Rule.ACTIONS, method(step_async=lambda env, actions: cast_actions(env, actions))),
    "an autoreset has a reward": (Rule.AUTORESET, step(reset_row_reward)),
    "views can be written": (Rule.VIEWS, with_observations(deepcopy)),
    "copies cannot be written": (Rule.COPIES, step(with_one_buffer)),
    "spaces have other bounds": (
        Rule.SPACES,
        method(single_action_space=property(lambda env: spaces.Discrete(6))),
    ),
    "spaces have another order": (
        Rule.SAMPLES,
        method(single_observation_space=property(reordered)),
    ),
    "metadata is empty": (Rule.DESCRIPTION, method(metadata={})),
    "frames are stale": (Rule.RENDER, method(render=old_frames)),
    "results are a list": (
        Rule.CALLS,
        method(get_attr=RemoteVectorEnv.call, call=lambda env, *args: list(RemoteVectorEnv.call(env, *args))),
    ),
    "attributes are all one": (
        Rule.ATTRIBUTES,
        method(set_attr=lambda env, name, values: RemoteVectorEnv.set_attr(env, name, 0)),
    ),
    "an error of its own": (Rule.WORKS, with_rewards(lambda rewards: 1 / 0)),
    "a second close raises": (Rule.CLOSE, method(close=close_once)),
    "it works after close": (Rule.AFTER_CLOSE, method(step=use_after_close)),
}


TOY: dict[str, Any] = {"observation_space": SPACE, "infos": INFOS, "render_mode": "rgb_array"}


def broken(make: Any, check: Any, **options: Any) -> ConformanceError:
    with pytest.raises(ConformanceError) as raised:
        check(*make, **options)
    error = raised.value
    assert not error.note
    assert str(error).startswith(f"{error.rule.name}: {error.rule.value}\n")
    return error


@pytest.mark.parametrize("mutation", VECTOR)
def test_vector(two_workers: Any, mutation: str) -> None:
    rule, kind = VECTOR[mutation]
    make = two_workers.remote_vector("script", kind, **TOY), two_workers.local_vector("script", **TOY)
    modes = ["NextStep"] if rule is not Rule.MISUSE else ["Disabled"]
    assert broken(make, check_vector_env, num_steps=30, autoreset_modes=modes).rule is rule


def test_same_step_shows_the_final_observation(two_workers: Any) -> None:
    make = two_workers.remote_vector("script", step(show_final), **TOY), two_workers.local_vector("script", **TOY)
    assert broken(make, check_vector_env, num_steps=30, autoreset_modes=["SameStep"]).rule is Rule.AUTORESET


def test_arrays_that_change_later(two_workers: Any) -> None:
    make = two_workers.remote_vector("script", step(with_one_buffer), **TOY), two_workers.local_vector("script", **TOY)
    assert broken(make, check_vector_env, num_steps=30, copies=(False,)).rule is Rule.KEPT


def test_a_message_names_all_there_is_to_know(two_workers: Any) -> None:
    def change(env: Any, observations: Any, *rest: Any) -> Any:
        observations["a"][2, 1, 0] = 77
        return observations, *rest

    make = two_workers.remote_vector("script", step(change), **TOY), two_workers.local_vector("script", **TOY)
    error = broken(make, check_vector_env, num_steps=5)
    assert error.env_index == 2
    assert error.when == "NextStep, copy=True: step 0"
    assert error.what == "observations['a'][2][1][0]"
    assert error.remote == "np.float32(77.0) (float32)"
    assert error.local.endswith("(float32)")
    assert str(error).count("\n") == 4


def cast_actions(env: Any, actions: Any) -> None:
    """Send what older clients sent: the space's dtype."""
    RemoteVectorEnv.step_async(env, np.asarray(actions).astype(np.int64))


class BrokenSingle(RemoteEnvironment):
    def step(self, action: Any) -> Any:
        return self.stepped(*super().step(action))

    def stepped(self, observation: Any, reward: Any, terminated: Any, truncated: Any, info: Any) -> Any:
        return observation, reward, terminated, truncated, info


def single(change: Callable[..., Any]) -> type[BrokenSingle]:
    return type("BrokenStep", (BrokenSingle,), {"stepped": lambda env, *result: change(*result)})


def missing_is_misuse(env: RemoteEnvironment, name: str) -> Any:
    try:
        return RemoteEnvironment.get_wrapper_attr(env, name)
    except AttributeError as error:
        raise ValueError(name) from error


SINGLE: dict[str, tuple[Rule, type[RemoteEnvironment]]] = {
    "the reward is a NumPy scalar": (Rule.REWARD_TYPE, single(lambda o, r, e, t, i: (o, np.float64(r), e, t, i))),
    "the reward is off": (Rule.REWARD_VALUES, single(lambda o, r, e, t, i: (o, r + 1e-9, e, t, i))),
    "terminated is a NumPy bool": (Rule.TERMINATED, single(lambda o, r, e, t, i: (o, r, np.bool_(e), t, i))),
    "terminated and truncated are swapped": (Rule.TERMINATED, single(lambda o, r, e, t, i: (o, r, t, e, i))),
    "truncated is an int": (Rule.TRUNCATED, single(lambda o, r, e, t, i: (o, r, e, int(t), i))),
    "the observation is a list": (Rule.OBSERVATION_TYPES, single(lambda o, r, e, t, i: ([*o.values()], r, e, t, i))),
    "an int is a NumPy integer": (
        Rule.INFO_TYPES,
        single(lambda o, r, e, t, i: (o, r, e, t, {**i, "int": np.int64(i["int"])})),
    ),
    "a key begins with an underscore": (Rule.INFO_KEYS, single(lambda o, r, e, t, i: (o, r, e, t, {**i, "_int": 1}))),
    "the seed is ignored": (
        Rule.SEED_INT,
        type("Reset", (BrokenSingle,), {"reset": lambda env, **_: RemoteEnvironment.reset(env, seed=0)}),
    ),
    "spec is another": (Rule.DESCRIPTION, type("Spec", (BrokenSingle,), {"spec": "CartPole-v1"})),
    "an action is cast": (
        Rule.ACTIONS,
        type("Cast", (BrokenSingle,), {"step": lambda env, action: BrokenSingle.step(env, np.int64(action))}),
    ),
    "an action of another dtype is refused": (
        Rule.ACTIONS,
        type(
            "Strict",
            (BrokenSingle,),
            {"step": lambda env, action: BrokenSingle.step(env, {np.int64: action}[type(action)])},
        ),
    ),
    "attributes are its own": (
        Rule.ATTRIBUTES,
        type("Attributes", (BrokenSingle,), {"get_wrapper_attr": lambda env, name: 0}),
    ),
    "a missing attribute is an error of its own": (
        Rule.MISSING,
        type("Missing", (BrokenSingle,), {"get_wrapper_attr": missing_is_misuse}),
    ),
    "it works after close": (Rule.AFTER_CLOSE, type("Closed", (BrokenSingle,), {"render": lambda env: None})),
}
SINGLE_TOY = {**TOY, "render_mode": None}


def as_older_servers_gave_them(space: Any, observation: Any) -> Any:
    """Return an observation with its keys in the order of the space."""
    if isinstance(space, spaces.Dict):
        return {key: as_older_servers_gave_them(child, observation[key]) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(map(as_older_servers_gave_them, space.spaces, observation))
    return observation


def refuse(*refused: type) -> Callable[..., Any]:
    """Raise for rewards or infos that hold one of these types, as older servers did."""

    def stepped(observation: Any, reward: Any, *rest: Any) -> Any:
        if isinstance(reward, refused) or any(isinstance(value, refused) for value in rest[-1].values()):
            raise RuntimeError("cannot travel")
        return observation, reward, *rest

    return stepped


def overflows(observation: Any, reward: Any, *rest: Any) -> Any:
    float(reward)  # a worker's death, once
    return observation, reward, *rest


def with_info(change: Callable[[dict[str, Any]], dict[str, Any]]) -> type[BrokenSingle]:
    return single(lambda o, r, e, t, info: (o, r, e, t, {**info, **change(info)}))


def raises_its_own(env: RemoteEnvironment, action: Any) -> Any:
    try:
        return RemoteEnvironment.step(env, action)
    except Exception as error:
        raise RuntimeError("remote") from error


def stays_broken(env: RemoteEnvironment, action: Any) -> Any:
    try:
        return RemoteEnvironment.step(env, action)
    except Exception:
        env.reset = lambda **_: 1 / 0  # type: ignore[method-assign]
        raise


ODDITIES: dict[str, tuple[Rule, str, type[RemoteEnvironment]]] = {
    "keys have the order of the space": (
        Rule.KEY_ORDER,
        "disordered",
        type("Ordered", (BrokenSingle,), {"stepped": lambda env, observation, *rest: (
            as_older_servers_gave_them(env.observation_space, observation), *rest)}),
    ),
    "enums are refused": (Rule.SUBCLASSES, "subclasses", single(refuse(int))),
    "an enum is its name": (Rule.SUBCLASSES, "subclasses", with_info(lambda _: {"level": "LOW"})),
    "a named tuple is a list": (Rule.SUBCLASSES, "subclasses", with_info(lambda info: {"point": [*info["point"]]})),
    "another value is off": (Rule.INFO_VALUES, "subclasses", with_info(lambda info: {"given": [np.int64(77)]})),
    "array rewards are refused": (Rule.ODD_RESULTS, "odd rewards", single(refuse(np.ndarray))),
    "array rewards are numbers": (
        Rule.ODD_RESULTS,
        "odd rewards",
        single(lambda o, r, *rest: (o, float(r) if np.size(r) == 1 and r is not None else r, *rest)),
    ),
    "flags are bools": (Rule.ODD_RESULTS, "odd terminated", single(lambda o, r, e, *rest: (o, r, bool(e), *rest))),
    "observations are cast": (
        Rule.ODD_RESULTS,
        "odd observations",
        single(lambda o, *rest: (o.astype(np.float32), *rest)),
    ),
    "no info is an empty one": (Rule.ODD_RESULTS, "odd infos", single(lambda o, r, e, t, i: (o, r, e, t, i or {}))),
    "large rewards kill": (Rule.LIMITS, "limits of rewards", single(overflows)),
    "large rewards are infinite": (
        Rule.LIMITS,
        "limits of rewards",
        single(lambda o, r, *rest: (o, np.inf if r == 10**400 else r, *rest)),
    ),
    "large infos are left out": (
        Rule.LIMITS,
        "limits of sizes",
        with_info(lambda info: {"text": ""}),
    ),
    "large numbers are floats": (
        Rule.LIMITS,
        "limits of numbers",
        with_info(lambda info: {"ints": [np.inf, *info["ints"][1:]]}),
    ),
    "empty actions are refused": (
        Rule.LIMITS,
        "empty tuple",
        type("Strict", (BrokenSingle,), {"step": lambda env, action: BrokenSingle.step(env, (*action, 1))}),
    ),
    "errors are its own": (Rule.FAILURES, "failing", type("Own", (RemoteEnvironment,), {"step": raises_its_own})),
    "after an error nothing goes on": (
        Rule.FAILURES, "failing", type("Broken", (RemoteEnvironment,), {"step": stays_broken}),
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:infos hold what arrives as its base")
@pytest.mark.parametrize("mutation", ODDITIES)
def test_oddities(two_workers: Any, mutation: str) -> None:
    rule, name, kind = ODDITIES[mutation]
    make = two_workers.remote(name, kind), two_workers.local(name)
    failing = [np.int64(1)] if name == "failing" else []
    assert broken(make, check_env, num_steps=30, failing_actions=failing).rule is rule


@pytest.mark.filterwarnings("ignore:infos hold what arrives as its base")
def test_an_enum_of_a_batch_is_a_number(two_workers: Any) -> None:
    def change(env: Any, *result: Any) -> Any:
        result[4]["level"] = result[4]["level"].astype(object)
        return result

    make = two_workers.remote_vector("subclasses", step(change)), two_workers.local_vector("subclasses")
    assert broken(make, check_vector_env, num_steps=5).rule is Rule.SUBCLASSES


@pytest.mark.parametrize("mutation", SINGLE)
def test_single(two_workers: Any, mutation: str) -> None:
    rule, kind = SINGLE[mutation]
    make = two_workers.remote("script", kind, **SINGLE_TOY), two_workers.local("script", **SINGLE_TOY)
    assert broken(make, check_env, num_steps=30, attributes=["gravity"]).rule is rule


def test_every_rule_can_be_broken() -> None:
    rules = {rule for rule, *_ in [*VECTOR.values(), *SINGLE.values(), *ODDITIES.values()]}
    assert rules | {Rule.KEPT} == set(Rule)
