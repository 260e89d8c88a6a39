"""`Recorder`: what is lost, what an error hides, what a callback changes, and what is left behind."""

from __future__ import annotations

import fcntl
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pytest
from conftest import Certificates, ServerFactory
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from trainers.minari.conftest import Make
from trainers.minari.quiet import WARNINGS
from trainers.minari.recorded import Recorded

from remote_gym import EnvironmentRaised, MisuseError, RemoteVectorEnv
from remote_gym.recording import Recorder

pytestmark = [*WARNINGS, pytest.mark.filterwarnings("ignore:.*were lost:UserWarning")]

KILLS = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0]], np.float32)
SPARES = np.zeros((3, 3), np.float32)


def steps_of(episode: Any) -> list[int]:
    """Return the number that each observation's info has: an unbroken row, if nothing is missing."""
    return [int(at) for at in episode.infos["at"][:, 0]]


def check_unbroken(dataset: Any) -> None:
    for episode in dataset:
        assert steps_of(episode) == list(range(len(episode) + 1))
        assert len(episode.observations) == len(episode) + 1 == len(episode.actions) + 1


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("on_lost", ["cut", "drop"])
def test_a_lost_environment(remote: Make, mode: str, on_lost: str) -> None:
    """What was before the loss is kept or dropped, the row that tells of it is no step, and the others go on."""
    with Recorder(remote(mode, mortal=True, length=6), record_infos=True, on_lost=on_lost) as recorder:
        recorder.reset(seed=1)
        for step in range(4):
            *_, truncations, infos = recorder.step(KILLS if step == 3 else SPARES)
        assert truncations.tolist() == [False, True, False]
        assert infos["_remote_gym"].tolist() == [False, True, False]
        if mode == "Disabled":
            recorder.reset(seed=9, options={"reset_mask": truncations})
        for _ in range(2):
            *_, terminations, truncations, _ = recorder.step(SPARES)
        assert terminations.tolist() == [True, False, True]
        dataset = recorder.create_dataset("lost-v0")
    check_unbroken(dataset)
    metadata = list(dataset.storage.get_episode_metadata(range(len(dataset))))
    lengths = [len(episode) for episode in dataset]
    reasons = [said.get("lost") for said in metadata]
    after = {"NextStep": 1, "SameStep": 2, "Disabled": 2}[mode]  # steps of the episode after the loss
    if on_lost == "cut":
        assert lengths == [3, 6, 6, after]
        assert "SIGKILL" in reasons[0]
        assert reasons[1:] == [None] * 3
        assert dataset[0].truncations.tolist() == [False, False, True]
        assert metadata[0]["seed"] == 2
    else:
        assert lengths == [6, 6, after]
        assert reasons == [None] * 3


def test_a_loss_is_told_in_a_dataset_that_is_added_to(remote: Make) -> None:
    with Recorder(remote(mortal=True, length=6), record_infos=True) as recorder:

        def record() -> None:
            recorder.reset(seed=1)
            for actions in (SPARES, KILLS, SPARES):
                recorder.step(actions)

        record()
        dataset = recorder.create_dataset("lost-v0")
        record()
        recorder.add_to_dataset(dataset)
        assert recorder.total_episodes == recorder.total_steps == 0
    assert [len(episode) for episode in dataset] == [1, 3, 3] * 2
    reasons = [said.get("lost") for said in dataset.storage.get_episode_metadata(range(6))]
    assert [reason is not None for reason in reasons] == [True, False, False] * 2
    check_unbroken(dataset)


def test_a_file_that_is_locked_for_a_moment() -> None:
    """By a process that is being started, with all the open files of this one."""
    with Recorder(SyncVectorEnv([Recorded] * 2)) as recorder:
        recorder.reset(seed=1)
        recorder.step(SPARES[:2])
        (file,) = Path(os.environ["MINARI_DATASETS_PATH"]).rglob("main_data.hdf5")
        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)
            release = threading.Timer(0.3, fcntl.flock, (opened, fcntl.LOCK_UN))
            release.start()
            assert len(recorder.create_dataset("locked-v0")) == 2
            release.join()


def test_no_episode_goes_on_over_an_error(serve: ServerFactory) -> None:
    """The other environments were stepped, and nobody has seen it: their episodes end where they were last seen."""
    server = serve(f"{Path(__file__).with_name('raising.py')}")
    with Recorder(RemoteVectorEnv(server.address, num_envs=3), record_infos=True) as recorder:
        recorder.reset(seed=1)
        raised = 0
        for _ in range(60):
            try:
                recorder.step(recorder.action_space.sample())
            except EnvironmentRaised as error:
                raised += 1
                recorder.reset(options={"reset_mask": np.arange(3) == error.env_index})
        assert raised > 5
        dataset = recorder.create_dataset("raised-v0")
    check_unbroken(dataset)
    assert all(episode.terminations[-1] or episode.truncations[-1] for episode in dataset)


def test_nothing_is_lost_to_bad_actions(make: Make) -> None:
    with Recorder(make(length=9), record_infos=True) as recorder:
        recorder.reset(seed=1)
        for step in range(9):
            if step % 2 and make.where == "remote":
                with pytest.raises(MisuseError):
                    recorder.step(np.zeros((3, 8)))
            recorder.step(SPARES)
        assert recorder.total_episodes == 3
        dataset = recorder.create_dataset("all-v0")
    check_unbroken(dataset)
    assert [len(episode) for episode in dataset] == [9] * 3


def test_infos_that_are_not_alike(make: Make) -> None:
    """As with DataCollector it is an error, which says where; without infos it is none."""
    with Recorder(make(uneven=True), record_infos=True) as recorder:
        recorder.reset(seed=1)
        with pytest.raises(MisuseError, match=r"environment 0: .* does not always have odd"):
            recorder.step(SPARES)
    with Recorder(make(uneven=True)) as recorder:
        recorder.reset(seed=1)
        for _ in range(20):
            recorder.step(SPARES)
        assert len(recorder.create_dataset("uneven-v0")) > 3


def test_a_reset_of_some(make: Make) -> None:
    """Their episodes are truncated where they are; the others go on."""
    with Recorder(make("Disabled", length=9), record_infos=True) as recorder:
        recorder.reset(seed=4)
        for _ in range(3):
            recorder.step(SPARES)
        recorder.reset(seed=[None, 77, None], options={"from": 0, "reset_mask": np.array([False, True, False])})
        assert recorder.total_episodes == 1
        assert recorder.total_steps == 9
        recorder.step(SPARES)
        dataset = recorder.create_dataset("some-v0")
    assert [len(episode) for episode in dataset] == [3, 4, 1, 4]
    assert all(episode.truncations[-1] for episode in dataset)
    seeds = [said["seed"] for said in dataset.storage.get_episode_metadata(range(4))]
    assert seeds == [5, 4, 77, 6]
    check_unbroken(dataset)


def test_seeds_are_made_where_none_are_given(make: Make) -> None:
    with Recorder(make("Disabled", length=2)) as recorder:
        for _ in range(2):
            recorder.reset()
            recorder.step(SPARES)
        recorder.reset(options={"minari_autoseed": False})
        recorder.step(SPARES)
        recorder.reset(seed=2**64 - 4)
        recorder.step(SPARES)
        dataset = recorder.create_dataset("seeds-v0")
    seeds = [said.get("seed") for said in dataset.storage.get_episode_metadata(range(12))]
    assert len(set(seeds[:6])) == 6
    assert seeds[6:] == [None] * 3 + [2**64 - 4, 2**64 - 3, 2**64 - 2]
    for episode, seed in zip(dataset, seeds[:6], strict=False):
        np.testing.assert_array_equal(Recorded().reset(seed=seed)[0], episode.observations[0])


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_steps_of_some(remote: Make, mode: str) -> None:
    """In any order; each environment has its own row, and its own episode's end."""
    with Recorder(remote(mode, length=4), record_infos=True) as recorder:
        recorder.reset(seed=1)
        for env_id in ([2, 0], [1], [2, 0], [2], [0, 1, 2], [2], [2]):
            recorder.step(SPARES[: len(env_id)], env_id)
        dataset = recorder.create_dataset("some-v0")
    check_unbroken(dataset)
    assert [len(episode) for episode in dataset] == ([4, 3, 2, 1] if mode == "NextStep" else [4, 3, 2, 2])
    seeds = [said.get("seed") for said in dataset.storage.get_episode_metadata(range(4))]
    assert seeds == [3, 1, 2, None]


class EverySecond(minari.StepDataCallback):
    """Records half of the observation, and truncates after three steps."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, env: Any, **kwargs: Any) -> Any:
        told = super().__call__(env, **kwargs)
        told["observation"] = told["observation"][:1] / 2
        if self.calls and self.calls % 3 == 0:
            told["truncated"] = True
        self.calls += 1
        return told


def test_a_callback_changes_what_is_recorded(make: Make) -> None:
    space = gym.spaces.Box(-1, 1, (1,), np.float32)
    with Recorder(make(length=100), EverySecond, observation_space=space, record_infos=True) as recorder:
        first, _ = recorder.reset(seed=1)
        observations = [recorder.step(SPARES)[0] for _ in range(9)]
        dataset = recorder.create_dataset("half-v0")
    assert [len(episode) for episode in dataset] == [3] * 9
    assert dataset.observation_space == space
    for at, episode in enumerate(dataset):
        begin, index = 3 * (at // 3), at % 3
        seen = [first, *observations][begin : begin + 4]
        np.testing.assert_array_equal(episode.observations, np.stack([batch[index, :1] / 2 for batch in seen]))
        assert steps_of(episode) == list(range(begin, begin + 4))


def test_the_spec_is_that_of_the_hosted_environment(
    serve: ServerFactory, certificates: Certificates, datasets: Path
) -> None:
    server = serve("CartPole-v1", server_credentials_paths=certificates.server_mutual)
    local = gym.make("CartPole-v1")
    options: dict[str, Any] = {"client_credentials_paths": certificates.client_mutual}
    made = gym.make_vec("remote_gym:remote_gym/Remote-v0", num_envs=2, url=server.address, **options)
    for name, envs in {
        "direct": RemoteVectorEnv(server.address, num_envs=2, **options),
        "made": made,
        "wrapped": RecordEpisodeStatistics(RemoteVectorEnv(server.address, num_envs=2, **options)),
        "local": gym.make_vec("CartPole-v1", 2, vectorization_mode="sync"),
    }.items():
        with Recorder(envs) as recorder:
            recorder.reset(seed=1)
            recorder.step(recorder.action_space.sample())
            dataset = recorder.create_dataset(f"{name}-v0")
        assert dataset.env_spec == local.spec, name
        dataset.recover_environment().close()
    texts = [path.read_text() for path in datasets.rglob("*.json")]
    assert len(texts) == 4
    assert not [text for text in texts if server.address in text or "client" in text]


def test_environments_stay_open_with_their_owner(make: Make) -> None:
    envs = make()
    recorder = Recorder(envs)
    recorder.reset(seed=1)
    del recorder
    gc.collect()
    envs.step(SPARES)
    recorder = Recorder(envs)
    recorder.discard()
    envs.step(SPARES)
    recorder.close()
    recorder.close()
    assert envs.closed


def test_finished_episodes_are_on_disk(make: Make, datasets: Path) -> None:
    """Nothing piles up in memory: what has ended is written before there is a dataset."""
    with Recorder(make(length=50)) as recorder:
        recorder.reset(seed=1)
        for _ in range(1_500):
            recorder.step(SPARES)
        (file,) = datasets.rglob("main_data.hdf5")
        assert file.stat().st_size > 100_000
        assert recorder.total_steps > 4_096
        held = [one for one in gc.get_objects() if type(one).__name__ == "EpisodeBuffer"]
        assert len(held) <= 4_096 // 50 + 1
    assert list(datasets.iterdir()) == []


def test_values_outside_of_their_space_are_told_once() -> None:
    with Recorder(SyncVectorEnv([Recorded] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)) as recorder:
        recorder.reset(seed=1)
        with pytest.warns(UserWarning, match="environment 1: action .* is not in its space Box"):
            recorder.step(np.array([[0, 0, 0], [0, 0, 7]], np.float32))
        recorder.step(np.array([[0, 0, 0], [0, 0, 7]], np.float32))
        assert float(recorder.create_dataset("outside-v0")[1].actions[0, 2]) == 7


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"on_lost": "keep"}, "on_lost must be one of 'cut', 'drop', got 'keep'"),
        ({"observation_space": gym.spaces.Discrete(2)}, "needs a step_data_callback"),
    ],
)
def test_bad_arguments(make: Make, arguments: Any, said: str) -> None:
    envs = make()
    with pytest.raises(MisuseError, match=said):
        Recorder(envs, **arguments)
    envs.close()


def test_spaces_that_minari_cannot_store() -> None:
    envs = SyncVectorEnv([lambda: Graphs()] * 2)
    with pytest.raises(MisuseError, match=r"Minari cannot store such a space: .*Graph"):
        Recorder(envs)
    envs.metadata["autoreset_mode"] = None
    with pytest.raises(MisuseError, match="autoreset_mode"):
        Recorder(envs)


class Graphs(Recorded):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = gym.spaces.Graph(gym.spaces.Discrete(2), None)


def test_without_minari_it_is_said_what_to_install() -> None:
    code = "import sys; sys.modules['minari'] = None; import remote_gym.recording"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ImportError: remote_gym.recording needs Minari" in done.stderr
    assert "pip install 'remote-gym-pool[minari]'" in done.stderr
