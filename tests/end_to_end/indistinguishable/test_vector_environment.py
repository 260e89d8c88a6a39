"""A hosted vector environment: the client sees what the local one gives, and misuse is named."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from conftest import Certificates, ServerFactory

from remote_gym import EnvironmentRaised, RemoteEnvironment, RemoteVectorEnv, create_remote_environment_server
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
