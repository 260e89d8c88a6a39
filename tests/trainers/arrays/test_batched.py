"""Simulators of tensors, hosted: what a trainer that was written for the object itself gets, over mutual TLS."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import Certificates
from gymnasium import spaces
from sameness import assert_same
from trainers.arrays import simulators
from trainers.arrays.plain import plain

from remote_gym import (
    EnvironmentRaised,
    MisuseError,
    RemoteEnvironmentServer,
    RemoteVectorEnv,
    create_remote_environment_server,
)
from remote_gym.hosting import batched

SIMULATORS = Path(simulators.__file__)
NUM_ENVS = 6

Host = Callable[..., RemoteVectorEnv]


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[RemoteEnvironmentServer]:
    """One server of all simulators, whose worker imports PyTorch once."""
    with create_remote_environment_server(
        {"entrypoint": str(SIMULATORS)}, port=0, server_credentials_paths=certificates.server_mutual, num_workers=1,
        allow_client_kwargs="*", allow_set="*",
    ) as server:  # fmt: skip
        yield server


@pytest.fixture
def host(server: RemoteEnvironmentServer, certificates: Certificates) -> Iterator[Host]:
    """Host a simulator, and return the trainer's side of it."""
    with ExitStack() as stack:

        def hosted(kind: str, kwargs: Any = None, **options: Any) -> RemoteVectorEnv:
            options = {"array": "torch", "num_envs": NUM_ENVS, "autoreset_mode": "SameStep", **options}
            envs = RemoteVectorEnv(
                server.address, remote_args={"entrypoint_kwargs": {"kind": kind, **(kwargs or {})}},
                client_credentials_paths=certificates.client_mutual, **options,
            )  # fmt: skip
            return stack.enter_context(envs)

        yield hosted


def seen(value: Any) -> Any:
    """What a trainer saw, before the simulator's own buffers change.

    Keys of observations come in the order of the space, as in all of Gymnasium's vector environments.
    """
    return copy.deepcopy(plain(value))


def ordered(space: spaces.Space[Any], observations: Any) -> Any:
    children = getattr(space, "spaces", None)
    return observations if children is None else {key: ordered(children[key], observations[key]) for key in children}


def trained(envs: Any, steps: int = 60) -> Iterator[Any]:
    """A trainer that was written for a simulator: a policy of tensors, on its device, which learns as it goes."""
    torch.manual_seed(0)
    policy = torch.nn.Linear(2, 2).to(envs.unwrapped.device)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.02)
    observations, infos = envs.reset(seed=3)
    yield seen((ordered(envs.single_observation_space, observations), infos))
    for _ in range(steps):
        state = observations["policy"][:, :2] if "policy" in observations else observations["state"]
        actions = policy(state)
        observations, rewards, terminations, truncations, infos = envs.step(actions.detach())
        loss = ((rewards * (~terminations).to(rewards.dtype))[:, None] * actions).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        observations = ordered(envs.single_observation_space, observations)
        yield seen((observations, rewards, terminations, truncations, infos))
    yield sum(one.double().sum().item() for one in policy.parameters())


@pytest.mark.parametrize("kind", ["lab", "skill"])
def test_a_trainer_of_the_object_itself_runs_unchanged(host: Host, kind: str) -> None:
    """Bit for bit: values, dtypes, devices, structure, infos, and what it has learnt in the end."""
    local = getattr(simulators, kind)(NUM_ENVS)
    if kind == "lab":  # the wrapper around it knows nothing of it
        local.single_observation_space = local.unwrapped.single_observation_space
    ends = 0
    for number, (ours, theirs) in enumerate(zip(trained(host(kind)), trained(local), strict=True)):
        assert_same(ours, theirs, f"step {number}")
        if isinstance(ours, tuple) and len(ours) == 5:
            ends += int((ours[2] | ours[3]).sum())
    assert ends > 20 and ours


@pytest.mark.parametrize("kind", ["lab", "skill"])
def test_in_numpy_they_are_the_same_arrays(host: Host, kind: str) -> None:
    local, remote = getattr(simulators, kind)(NUM_ENVS), host(kind, array="numpy")
    space, actions = remote.single_observation_space, np.full((NUM_ENVS, 2), 0.25, np.float32)
    ours, theirs = remote.reset(seed=1), seen(local.reset(seed=1))
    for _ in range(20):
        assert_same(ours, (ordered(space, theirs[0]), *theirs[1:]))
        ours, theirs = remote.step(actions), seen(local.step(torch.from_numpy(actions)))


def test_a_step_of_four(host: Host) -> None:
    """Episodes that ran out of time are truncated, others terminated; the rest is the simulator's own."""
    local, remote = simulators.PlaygroundEnv(NUM_ENVS, seed=4), host("playground", kwargs={"seed": 4})
    assert_same(seen(remote.reset()[0]), seen(local.reset()))
    rng, flags = np.random.default_rng(1), []
    for _ in range(40):
        actions = torch.from_numpy(rng.uniform(-1, 1, (NUM_ENVS, 2)).astype(np.float32))
        observations, rewards, terminations, truncations, infos = remote.step(actions)
        theirs = local.step(actions)
        assert_same(seen((observations, rewards, infos)), seen((*theirs[:2], theirs[3])))
        assert torch.equal(terminations | truncations, theirs[2].bool())
        assert torch.equal(truncations, theirs[3]["time_outs"].bool())
        flags.append(torch.stack([terminations, truncations]))
    assert all(torch.stack(flags).any(dim=0).any(dim=1)), "the test means to see both ends"
    with pytest.raises(EnvironmentRaised, match=r"PlaygroundEnv\.reset takes no seed"):
        remote.reset(seed=1)


def test_spaces_and_metadata(host: Host) -> None:
    for kind in ("lab", "skill"):
        local, remote = getattr(simulators, kind)(NUM_ENVS).unwrapped, host(kind)
        for name in ("single_observation_space", "single_action_space", "observation_space", "action_space"):
            assert getattr(remote, name) == getattr(local, name)
        assert remote.metadata["autoreset_mode"].value == "SameStep"
        assert remote.device == local.device == torch.device("cpu")


def test_the_mode_and_the_number_must_be_the_simulators(host: Host) -> None:
    with pytest.raises(EnvironmentRaised, match="autoreset_mode='SameStep'"):
        host("lab", autoreset_mode="NextStep").reset()
    with pytest.raises(EnvironmentRaised, match="autoreset_mode='Disabled'"):
        host("skill", kwargs={"auto_reset": False}).reset()
    envs = host("skill", kwargs={"auto_reset": False}, autoreset_mode="Disabled")
    envs.reset(seed=1)
    before = envs.step(torch.ones(NUM_ENVS, 2))[0]["state"]
    after = envs.reset(options={"env_idx": torch.tensor([1])})[0]["state"]
    assert (before != after).any(dim=1).tolist() == [index == 1 for index in range(NUM_ENVS)]


def test_a_mask_becomes_the_indices_that_the_simulator_takes(host: Host) -> None:
    """As whoever resets by masks, in the mode Disabled, resets Gymnasium's own."""
    local = simulators.skill(NUM_ENVS, auto_reset=False)
    envs = host("skill", kwargs={"auto_reset": False}, autoreset_mode="Disabled")
    space, ended = envs.single_observation_space, 0
    assert_same(seen(envs.reset(seed=1)[0]), seen(ordered(space, local.reset(seed=1)[0])))
    for _ in range(30):
        actions = torch.full((NUM_ENVS, 2), 0.3)
        ours, theirs = envs.step(actions), local.step(actions)
        assert_same(seen(ours), seen((ordered(space, theirs[0]), *theirs[1:])))
        over = ours[2] | ours[3]
        if over.any():
            ended += 1
            first, _ = envs.reset(options={"reset_mask": over})
            second, _ = local.reset(options={"env_idx": over.nonzero().squeeze(-1)})
            assert_same(seen(first), seen(ordered(space, second)))
    assert ended > 3


def test_a_scene_of_fixed_size(certificates: Certificates) -> None:
    args = {"entrypoint": str(SIMULATORS), "entrypoint_kwargs": {"fixed": 5}}
    with create_remote_environment_server(
        args, port=0, server_credentials_paths=certificates.server_mutual, num_workers=1, probe=True
    ) as server:
        options: dict[str, Any] = {"array": "torch", "autoreset_mode": "SameStep"}
        options["client_credentials_paths"] = certificates.client_mutual
        with pytest.raises(EnvironmentRaised, match="pass num_envs=5"):
            RemoteVectorEnv(server.address, num_envs=4, **options).reset()
        with RemoteVectorEnv(server.address, num_envs=5, **options) as envs:
            assert_same(seen(envs.reset(seed=1)), seen(simulators.lab(5).reset(seed=1)))


def test_a_mask_is_refused_rather_than_taken_for_nothing(host: Host) -> None:
    envs = host("lab")
    envs.reset(seed=1)
    with pytest.raises(EnvironmentRaised, match="reset_mask"):
        envs.reset(options={"reset_mask": torch.ones(NUM_ENVS, dtype=torch.bool)})


def test_seeds_of_a_simulator_with_one_generator_and_of_a_vector_environment(host: Host) -> None:
    for kind, same in (("lab", 5), ("skill", [5, 7, 8, 9, 10, 11])):
        local, remote = getattr(simulators, kind)(NUM_ENVS), host(kind)
        ours, theirs = (env.reset(seed=seed)[0] for env, seed in ((remote, [5, 7, 8, 9, 10, 11]), (local, same)))
        assert_same(seen(ours), seen(ordered(remote.single_observation_space, theirs)))


def test_attributes_and_methods(host: Host) -> None:
    envs = host("lab")
    envs.reset(seed=1)
    envs.step(torch.zeros(NUM_ENVS, 2))
    assert envs.get_attr("max_episode_length") == (simulators.MAX_STEPS,) * NUM_ENVS
    assert [int(one) for one in envs.get_attr("episode_length_buf")] == [1] * NUM_ENVS
    envs.set_attr("gravity", 1.5)
    assert envs.get_attr("gravity") == (1.5,) * NUM_ENVS
    envs.set_attr("gains", [0.0, 1.0] * 3)
    before = envs.step(torch.zeros(NUM_ENVS, 2))[0]["critic"]["at"]
    after = envs.step(torch.full((NUM_ENVS, 2), 0.125))[0]["critic"]["at"]
    assert (before != after).any(dim=1).tolist() == [False, True] * 3
    with pytest.raises(EnvironmentRaised, match="'gravity' of LabEnv is one for all environments"):
        envs.set_attr("gravity", list(range(NUM_ENVS)))
    with pytest.raises(AttributeError, match="LabEnv has no attribute 'levity'"):
        envs.get_attr("levity")


def test_frames(host: Host) -> None:
    scene = host("lab", render_mode="rgb_array")
    scene.reset(seed=1)
    frame, *others = scene.render()
    assert frame.shape == (4, 6, 3) and others == [None] * (NUM_ENVS - 1)
    each = host("skill", render_mode="rgb_array")
    observations, _ = each.reset(seed=1)
    for frame, rgb in zip(each.render(), observations["sensor_data"]["rgb"], strict=True):
        assert_same(frame, rgb.numpy())


@pytest.mark.parametrize("kind", ["lab", "skill"])
def test_a_simulator_that_was_lost_goes_on(host: Host, kind: str) -> None:
    """All its episodes end, and the new one is reset with seeds derived from the old."""
    envs = host(kind)
    envs.reset(seed=1)
    last = seen(envs.step(torch.zeros(NUM_ENVS, 2))[0])
    with pytest.warns(UserWarning, match="lost"):
        observations, rewards, terminations, truncations, infos = envs.step(torch.full((NUM_ENVS, 2), 99.0))
    assert truncations.all() and not terminations.any() and not rewards.any()
    assert infos["remote_gym"]["lost"].all()
    for _ in range(3):
        observations, _, _, truncations, _ = envs.step(torch.zeros(NUM_ENVS, 2))
    assert not truncations.any()
    assert_same(list(seen(observations)), list(last))


# Without a server: what `batched` makes of others


def test_it_is_a_vector_environment_by_itself() -> None:
    env = batched(simulators.lab(3))
    assert isinstance(env, gym.vector.VectorEnv)
    observations, _ = env.reset(seed=1)
    assert env.observation_space.contains(observations)
    for result in env.step(env.action_space.sample())[1:4]:
        assert isinstance(result, np.ndarray) and result.shape == (3,)
    assert env.unwrapped is env.env.unwrapped
    env.close()


def test_a_tensordict_is_a_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    tensordict = pytest.importorskip("tensordict")
    observe = simulators.PlaygroundEnv.get_observations
    monkeypatch.setattr(
        simulators.PlaygroundEnv,
        "get_observations",
        lambda env: tensordict.TensorDict(observe(env), batch_size=[env.num_envs]),
    )
    env = simulators.create_vector_environment(2, "playground")
    assert_same(env.reset()[0], {"state": simulators.PlaygroundEnv(2).reset()["state"].numpy()})


def test_one_of_jax() -> None:
    jax = pytest.importorskip("jax")

    class Counters:
        num_envs = 3

        def reset(self, *, seed: int) -> Any:
            self.count = jax.numpy.full(3, seed)
            return self.count, {}

        def step(self, actions: Any) -> Any:
            assert isinstance(actions, jax.Array)
            self.count += actions
            over = self.count > 5
            return self.count, self.count * 0.5, over, ~over, {"log": {"mean": self.count.mean()}}

    space = spaces.Discrete(100, dtype=np.int32)
    env = batched(Counters(), single_observation_space=space, single_action_space=space)
    assert_same(env.reset(seed=4)[0], np.full(3, 4, np.int32))
    observations, rewards, terminations, truncations, infos = env.step(np.arange(3, dtype=np.int32))
    assert_same((observations, rewards), (np.array([4, 5, 6], np.int32), np.array([2, 2.5, 3], np.float32)))
    assert terminations.tolist() == [False, False, True] and truncations.tolist() == [True, True, False]
    assert_same(infos, {"log": {"mean": np.array(5, np.float32)}})


def test_numbers_without_a_dtype_in_numpy_and_what_is_sparse() -> None:
    from remote_gym.hosting.tensors import fetched

    numbers = torch.tensor([1.5, -2.0, 3.25])
    assert_same(fetched(numbers.bfloat16()), numbers.numpy())
    assert_same(fetched(torch.zeros(2, 3).shape), (2, 3))
    assert_same(fetched(torch.tensor([1 + 2j]).conj()), np.array([1 - 2j], np.complex64))
    assert_same(
        fetched({"a": [numbers.to_sparse(), (numbers.requires_grad_(), "text", None)]})["a"][0],
        numbers.detach().numpy(),
    )


def test_many_tensors_of_one_device_travel_as_one() -> None:
    """As from a GPU: joined there, brought over by one copy, and taken apart here."""
    from remote_gym.hosting.tensors import transferred

    generator = torch.Generator().manual_seed(1)
    tensors = [
        (torch.rand(3, 2, generator=generator) * 100).to(dtype)
        for dtype in (torch.uint8, torch.float64, torch.bool, torch.float16, torch.int64, torch.float32, torch.int16)
    ]
    tensors += [torch.tensor(4.5), torch.zeros(0, 3), torch.rand(4, 3, generator=generator).T, torch.ones(2).bfloat16()]
    with torch.profiler.profile() as profile:
        arrays = transferred(tensors)
    assert sum(event.count for event in profile.key_averages() if event.key == "aten::cat") == 1
    for array, tensor in zip(arrays, tensors, strict=True):
        expected = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        assert_same(np.ascontiguousarray(array).reshape(array.shape), expected.numpy())
        assert array.flags.aligned


@pytest.mark.parametrize(
    "wrong, named",
    [
        (lambda: batched(gym.make("CartPole-v1")), "CartPoleEnv has no num_envs"),
        (
            lambda: batched(simulators.PlaygroundEnv(2)),
            r"PlaygroundEnv has no single_observation_space: give batched\(",
        ),
        (lambda: batched(simulators.lab(2), autoreset_mode="Never"), "autoreset_mode='Never' is not one of"),
    ],
)
def test_what_is_no_simulator(wrong: Callable[[], Any], named: str) -> None:
    with pytest.raises(MisuseError, match=named):
        wrong()


def test_results_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    small = spaces.Dict({"policy": spaces.Box(-np.inf, np.inf, (4,))})
    with pytest.raises(MisuseError, match=r"LabEnv returns observations\['critic'\], of which its space knows nothing"):
        batched(simulators.lab(2), single_observation_space=small).reset()
    env = batched(simulators.lab(2))
    env.reset()
    step = simulators.LabEnv.step
    monkeypatch.setattr(
        simulators.LabEnv, "step", lambda *args: (*step(*args)[:1], torch.zeros(2, 1), *step(*args)[2:])
    )
    with pytest.raises(MisuseError, match=r"LabEnv returned rewards of shape \(2, 1\), not \(2,\)"):
        env.step(np.zeros((2, 2), np.float32))
    monkeypatch.setattr(simulators.LabEnv, "step", lambda *args: step(*args)[:3])
    with pytest.raises(MisuseError, match=r"LabEnv\.step returned 3, expected 5 items, or 4"):
        env.step(np.zeros((2, 2), np.float32))
