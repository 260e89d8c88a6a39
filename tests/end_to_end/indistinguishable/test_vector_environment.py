"""A hosted vector environment: the client sees what the local one gives, and misuse is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from conftest import Certificates, ServeProcess, ServerFactory

from remote_gym import (
    EnvironmentRaised,
    RefusedError,
    RemoteEnvironment,
    RemoteVectorEnv,
    create_remote_environment_server,
)
from remote_gym.errors import MisuseError

CREATES = """
import gymnasium as gym
import numpy as np

def create_vector_environment(num_envs, mode="SameStep"):
    return gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * num_envs, autoreset_mode=mode)
"""


def test_the_ids_own_vector_environment_over_tls(certificates: Certificates) -> None:
    args = {"entrypoint": "CartPole-v1", "vectorization_mode": "vector_entry_point"}
    local = gym.make_vec("CartPole-v1", 5, vectorization_mode="vector_entry_point")
    with create_remote_environment_server(args, port=0, server_credentials_paths=certificates.server) as server:
        remote = RemoteVectorEnv(server.address, num_envs=5, client_credentials_paths=certificates.client)
        assert np.array_equal(remote.reset(seed=3)[0], local.reset(seed=3)[0])
        local.action_space.seed(0)
        for _ in range(300):
            actions = local.action_space.sample()
            for ours, theirs in zip(remote.step(actions)[:4], local.step(actions)[:4], strict=True):
                assert np.array_equal(ours, theirs)
                assert ours.dtype == theirs.dtype
        assert remote.single_action_space == local.single_action_space
        assert remote.spec is not None
        assert remote.spec.id == "CartPole-v1"
        remote.close()


ALWAYS_SIX = """
import gymnasium as gym

def create_vector_environment(num_envs):
    return gym.make_vec("CartPole-v1", 6, vectorization_mode="vector_entry_point")
"""
IN_THREES = """
import gymnasium as gym

def create_vector_environment(num_envs, **kwargs):
    assert num_envs % 3 == 0, "so many lanes there are not"
    return gym.make_vec("CartPole-v1", num_envs, vectorization_mode="vector_entry_point")
"""


@pytest.mark.parametrize("probe_envs", [1, 6])
def test_one_of_a_fixed_size_is_served_and_says_its_size(serve: ServerFactory, tmp_path: Path, probe_envs: int) -> None:
    path = tmp_path / "always_six.py"
    path.write_text(ALWAYS_SIX)
    server = serve(str(path), probe=True, probe_envs=probe_envs)
    with pytest.raises(EnvironmentRaised, match="has 6 environments, not 4: pass num_envs=6"):
        RemoteVectorEnv(server.address, num_envs=4).reset()
    with RemoteVectorEnv(server.address, num_envs=6) as envs:
        local = gym.make_vec("CartPole-v1", 6, vectorization_mode="vector_entry_point")
        assert np.array_equal(envs.reset(seed=3)[0], local.reset(seed=3)[0])
        assert np.array_equal(envs.step(np.ones(6, np.int64))[0], local.step(np.ones(6, np.int64))[0])
    assert server.statistics()["envs"] == 0


def test_one_that_takes_only_some_numbers_is_probed_with_one_of_these(
    serve: ServerFactory, tmp_path: Path, serve_process: Callable[..., ServeProcess]
) -> None:
    path = tmp_path / "in_threes.py"
    path.write_text(IN_THREES)
    with pytest.raises(RefusedError, match=r"so many lanes there are not .*name one by probe_envs="):
        serve(str(path), probe=True)
    for wrong in (0, -1, True, "3"):
        with pytest.raises(MisuseError, match="probe_envs must be a positive integer"):
            serve(str(path), probe_envs=wrong)
    served = serve_process(str(path), "--probe-envs", "3")
    with RemoteVectorEnv(served.address, num_envs=9) as envs:
        assert envs.reset(seed=1)[0].shape == (9, 4)
    with pytest.raises(EnvironmentRaised, match="so many lanes there are not"):
        RemoteVectorEnv(served.address, num_envs=4).reset()


def test_of_single_environments_one_is_probed(serve: ServerFactory) -> None:
    server = serve("tellers:Teller", probe=True, probe_envs=5, num_workers=1)
    with RemoteVectorEnv(server.address, num_envs=2) as envs:
        assert envs.get_attr("env_id") == (0, 1), "the one that was probed is the first"


def test_infos_options_masks_and_calls_go_verbatim(serve: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "vector_entrypoint.py"
    path.write_text(CREATES)
    local = gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 3, autoreset_mode="SameStep")
    server = serve(str(path), probe=True, allow_set=["gravity"])
    with RemoteVectorEnv(server.address, num_envs=3, autoreset_mode="SameStep") as remote:
        for env in (remote, local):
            env.reset(seed=[4, None, 6])
            env.reset(seed=[4, 5, 6], options={"low": -0.01, "high": 0.01})
        ended = 0
        for step in range(60):
            ours, theirs = (env.step(np.ones(3, np.int64)) for env in (remote, local))
            assert np.array_equal(ours[0], theirs[0])
            assert ours[4].keys() == theirs[4].keys()
            if "final_obs" in theirs[4]:
                ended += 1
                for one, other in zip(ours[4]["final_obs"], theirs[4]["final_obs"], strict=True):
                    assert np.array_equal(one, other)
            if step == 30:
                mask = np.array([True, False, True])
                ours, theirs = (env.reset(seed=1, options={"reset_mask": mask}) for env in (remote, local))
                assert np.array_equal(ours[0], theirs[0])
        assert ended
        assert remote.get_attr("gravity") == local.get_attr("gravity")
        remote.set_attr("gravity", [1.0, 2.0, 3.0])
        assert remote.get_attr("gravity") == (1.0, 2.0, 3.0)


def test_what_does_not_fit_is_named(serve: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "vector_entrypoint.py"
    path.write_text(CREATES)
    server = serve(str(path))
    with (
        RemoteVectorEnv(server.address, num_envs=2, autoreset_mode="NextStep") as remote,
        pytest.raises(EnvironmentRaised, match="resets by 'SameStep'"),
    ):
        remote.reset()
    with RemoteEnvironment(server.address) as single, pytest.raises(EnvironmentRaised, match="use RemoteVectorEnv"):
        single.reset()
    with pytest.raises(MisuseError, match="vectorization_mode"):
        create_remote_environment_server({"entrypoint": "CartPole-v1", "vectorization_mode": "async"}, port=0)


def test_what_it_raises_concerns_all_and_a_reset_mends_it(serve: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "vector_entrypoint.py"
    path.write_text(CREATES)
    server = serve(str(path))
    with RemoteVectorEnv(server.address, num_envs=2, autoreset_mode="SameStep") as remote:
        with pytest.raises(gym.error.ResetNeeded):
            remote.step([0, 1])
        remote.reset(seed=1)
        with pytest.raises(EnvironmentRaised, match="gravitas"):
            remote.call("gravitas")
        assert remote.step([0, 1])[1].tolist() == [1.0, 1.0]
