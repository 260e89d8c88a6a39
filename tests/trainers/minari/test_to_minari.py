"""`to_minari`: whose episodes and how many, seeds that repeat them, and what an interruption leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pytest
from conftest import Certificates, ServerFactory
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from repository.test_docs import DOCS, follow
from trainers.minari.conftest import Make
from trainers.minari.quiet import WARNINGS
from trainers.minari.recorded import Recorded
from trainers.minari.test_equality import same

from remote_gym import MisuseError, RemoteEnvironment, RemoteVectorEnv, create_remote_environment_server
from remote_gym.recording import to_minari

pytestmark = WARNINGS


def fields(dataset: Any) -> list[tuple[Any, ...]]:
    names = ("observations", "actions", "rewards", "terminations", "truncations")
    return [tuple(getattr(episode, name) for name in names) for episode in dataset]


@pytest.mark.parametrize("mode", [mode.value for mode in AutoresetMode])
def test_remote_and_local_environments_give_the_same_dataset(remote: Make, mode: str) -> None:
    """Whole, in the same order, with the same seeds; and so does the next run."""
    datasets = []
    for at, where in enumerate(("remote", "sync", "sync")):
        envs = Make(where, remote.server, remote.certificates)(mode, num_envs=4)
        datasets.append(to_minari(envs, f"data/{at}-v0", episodes=11, seed=5, record_infos=True, options={"from": 2}))
        envs.close()
    for other in datasets[1:]:
        assert len(datasets[0]) == len(other) == 11
        for ours, theirs in zip(fields(datasets[0]), fields(other), strict=True):
            same(ours, theirs)
        said = [list(dataset.storage.get_episode_metadata(range(11))) for dataset in (datasets[0], other)]
        assert said[0] == said[1]
    assert {5, 6, 7, 8} <= {one.get("seed") for one in said[0]}


def test_infos_of_an_older_gymnasium(remote: Make) -> None:
    """Where the observation that ends an episode has another name."""
    datasets = []
    for at, options in enumerate(({}, {"info_format": "gymnasium-0.29"})):
        envs = remote("SameStep", options=options)
        datasets.append(to_minari(envs, f"{at}-v0", episodes=9, seed=5, record_infos=True))
        envs.close()
    for ours, theirs in zip(*datasets, strict=True):
        same(ours.observations, theirs.observations)
        same(ours.infos, theirs.infos)


@pytest.mark.parametrize(("episodes", "each"), [(2, [0, 0, 1, 1]), (4, [1] * 4), (9, [2, 2, 2, 3])])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_each_environment_gives_its_share(episodes: int, each: list[int], mode: str) -> None:
    """Else the short episodes would come first: here environment 0 ends one in each step."""
    lengths = [1, 5, 9, 13]
    envs = SyncVectorEnv([lambda n=n: Recorded(length=n) for n in lengths], autoreset_mode=AutoresetMode(mode))
    dataset = to_minari(envs, "share-v0", episodes=episodes)
    assert sorted(len(episode) for episode in dataset) == [
        n for n, count in zip(lengths, each, strict=True) for _ in range(count)
    ]
    assert all(episode.terminations[-1] and not episode.truncations[-1] for episode in dataset)


def test_so_many_steps(make: Make) -> None:
    envs = make(length=7)
    dataset = to_minari(envs, "steps-v0", steps=50, seed=1)
    assert dataset.total_steps == 51
    assert [len(episode) for episode in dataset] == [7] * 6 + [3] * 3
    assert all(episode.truncations[-1] for episode in list(dataset)[6:])
    envs.reset()  # still open
    envs.close()


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_an_episode_can_be_repeated(serve: ServerFactory, certificates: Certificates, mode: str) -> None:
    """From its seed and actions, in the environment that the dataset says; with Disabled all have a seed."""
    server = serve("CartPole-v1", server_credentials_paths=certificates.server_mutual)
    options: dict[str, Any] = {"client_credentials_paths": certificates.client_mutual, "autoreset_mode": mode}
    with RemoteVectorEnv(server.address, num_envs=4, **options) as envs:
        dataset = to_minari(
            envs, "cartpole/right-v0", lambda seen: (seen[:, 2] > 0).astype(np.int64), episodes=12, author="me",
            algorithm_name="towards where it falls", code_permalink="https://example.org", description="of a test",
        )  # fmt: skip
    loaded = minari.load_dataset("cartpole/right-v0")
    assert loaded.storage.metadata["author"] == {"me"}
    env = loaded.recover_environment()
    seeds = [said.get("seed") for said in loaded.storage.get_episode_metadata(range(12))]
    assert len({*seeds} - {None}) == (12 if mode == "Disabled" else 4)
    for episode, seed in zip(loaded, seeds, strict=True):
        if seed is None:
            continue
        observation, _ = env.reset(seed=seed)
        np.testing.assert_array_equal(observation, episode.observations[0])
        for at, action in enumerate(episode.actions):
            observation, reward, terminated, truncated, _ = env.step(action)
            np.testing.assert_array_equal(observation, episode.observations[at + 1])
            assert (reward, terminated, truncated) == (
                episode.rewards[at], episode.terminations[at], episode.truncations[at],
            )  # fmt: skip
        assert terminated or truncated
    env.close()
    assert len(dataset) == 12


def test_a_single_environment_in_its_own_collector(serve: ServerFactory) -> None:
    datasets = []
    for at, env in enumerate((RemoteEnvironment(serve("CartPole-v1").address), gym.make("CartPole-v1"))):
        collector = minari.DataCollector(env, record_infos=True)
        for seed in range(3):
            collector.reset(seed=seed)
            while not any(collector.step(seed % 2)[2:4]):
                pass
        datasets.append(collector.create_dataset(f"{at}-v0", description="of one"))
        collector.close()
    assert datasets[0].env_spec == datasets[1].env_spec
    for ours, theirs in zip(*map(fields, datasets), strict=True):
        same(ours, theirs)


def test_environments_made_as_a_vector() -> None:
    """They have one generator: the seed is theirs to use, and no episode claims to begin with one."""
    local = gym.make_vec("CartPole-v1", 3, vectorization_mode="vector_entry_point")
    args = {"entrypoint": "CartPole-v1", "vectorization_mode": "vector_entry_point"}
    server = create_remote_environment_server(args, port=0, num_workers=1)
    remote = RemoteVectorEnv(server.address, num_envs=3)
    datasets = [to_minari(envs, f"{at}-v0", episodes=9, seed=5) for at, envs in enumerate((local, remote))]
    assert to_minari(remote, "unseeded-v0", episodes=3).total_episodes == 3
    for ours, theirs in zip(*map(fields, datasets), strict=True):
        same(ours, theirs)
    for dataset in datasets:
        assert dataset.env_spec.id == "CartPole-v1"
        assert not [said for said in dataset.storage.get_episode_metadata(range(9)) if "seed" in said]
    local.close()
    remote.close()
    server.stop()


def test_arrays_that_are_written_over() -> None:
    """`SyncVectorEnv(copy=False)` returns the same arrays in each step, and a policy may do so too."""
    actions = np.zeros((3, 3), np.float32)

    def policy(observations: Any) -> Any:
        actions[:] = observations / 2
        return actions

    datasets = []
    for at, options in enumerate(({"copy": True}, {"copy": False})):
        envs = SyncVectorEnv([Recorded] * 3, **options)
        datasets.append(to_minari(envs, f"{at}-v0", policy, episodes=9, seed=1))
        envs.close()
    for ours, theirs in zip(*map(fields, datasets), strict=True):
        same(ours, theirs)
        np.testing.assert_array_equal(ours[1], ours[0][:-1] / 2)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ArithmeticError])
def test_an_interruption_keeps_what_was_recorded(make: Make, error: type[BaseException]) -> None:
    envs, calls = make(length=4), iter(range(10))

    def policy(observations: Any) -> Any:
        if next(calls) == 9:
            raise error("enough")
        return np.zeros((3, 3), np.float32)

    with pytest.raises(error, match="enough") as raised:
        to_minari(envs, "kept-v0", policy, steps=1_000)
    assert [len(episode) for episode in minari.load_dataset("kept-v0")] == [4] * 3 + [4] * 3
    if hasattr(raised.value, "__notes__"):
        assert raised.value.__notes__ == ["the dataset 'kept-v0' has what was recorded before, 6 episodes"]
    envs.reset()
    envs.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "give either episodes= or steps="),
        ({"episodes": 1, "steps": 1}, "give either episodes= or steps="),
        ({"episodes": 0}, "episodes must be a positive int, got 0"),
        ({"steps": 1.5}, "steps must be a positive int, got 1.5"),
        (
            {"steps": 1, "autor": "me", "recordinfos": True},
            "to_minari takes no autor, recordinfos; .*record_infos.*author",
        ),
        ({"steps": 1, "dataset_id": "no id"}, "Malformed dataset ID: no id"),
        ({"steps": 1, "dataset_id": "there-v0"}, "there is a dataset 'there-v0' already"),
        ({"steps": 1, "on_lost": "keep"}, "on_lost must be one of"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_stepped(arguments: dict[str, Any], said: str) -> None:
    envs = SyncVectorEnv([Recorded] * 2)
    to_minari(envs, "there-v0", steps=1)

    def reset(**_: Any) -> Any:
        raise AssertionError("reset")

    envs.reset = reset  # type: ignore[method-assign]
    with pytest.raises(MisuseError, match=said):
        to_minari(envs, arguments.pop("dataset_id", "new-v0"), **arguments)
    assert list(minari.list_local_datasets()) == ["there-v0"]


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(DOCS / "trainers" / "minari.md", tmp_path, monkeypatch)
