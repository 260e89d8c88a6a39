"""What a notebook shows of environments: what is known already, without a connection, and nobody's markup."""

from __future__ import annotations

import html
import re
import socket
from typing import Any

import numpy as np
import pytest
from conftest import ServerFactory

from remote_gym import RemoteEnvironment, RemoteVectorEnv


def shown(env: Any) -> str:
    """Return the text of what a notebook shows."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", env._repr_html_()))).strip()


@pytest.fixture
def listener() -> Any:
    """Somebody who would notice being dialled."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.0)
        yield listening


@pytest.mark.parametrize("kind", [RemoteVectorEnv, RemoteEnvironment])
def test_showing_dials_nobody(kind: Any, listener: socket.socket) -> None:
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    env = kind(address, token="secret-secret-secret-secret", allow_insecure=True)
    text = shown(env)
    assert text.startswith(f"{kind.__name__} state not dialled yet")
    assert address in text
    assert "secret" not in env._repr_html_()
    with pytest.raises(BlockingIOError):
        listener.accept()
    env.close()


def test_arguments_are_told_before_it_is_dialled() -> None:
    envs = RemoteVectorEnv(["a:1", "b:2"], num_envs=1_024, autoreset_mode="SameStep", batch_size=7, allow_insecure=True)
    text = shown(envs)
    assert "environments 1,024" in text
    assert "autoreset mode SameStep" in text
    assert "batch size 7" in text
    assert "a:1" in text and "b:2" in text
    envs.close()
    assert "state closed" in shown(envs)


def test_a_source_is_named_and_not_asked() -> None:
    def hosts() -> list[str]:
        raise AssertionError("nobody was to ask")

    envs = RemoteVectorEnv(hosts, num_envs=2, allow_insecure=True)
    assert "hosts" in shown(envs)
    envs.close()


def test_markup_in_an_address_is_text() -> None:
    envs = RemoteVectorEnv("unix:<img src=x>", num_envs=2)
    assert "<img" not in envs._repr_html_()
    assert "<img src=x>" in shown(envs)
    envs.close()


def test_what_is_open(serve: ServerFactory) -> None:
    servers = [serve("CartPole-v1", num_workers=1) for _ in range(2)]
    addresses = [server.address for server in servers]
    with RemoteVectorEnv(addresses, num_envs=6) as envs:
        envs.reset(seed=1)
        actions = np.zeros(6, np.int64)
        envs.step(actions)
        envs.step(actions[:2], [4, 1])
        text = shown(envs)
        assert "state open" in text and "hosted CartPole-v1" in text
        assert "steps so far 8" in text
        assert f"{addresses[0]} 0 to 2 3 there {addresses[1]} 3 to 5 3 there" in text
        assert shown(envs.fleet).endswith(f"{addresses[1]} 3 to 5 3 there")
        envs.step_async(actions)
        assert "state open, step pending" in shown(envs)
        envs.step_wait()
    assert "there" not in shown(envs)
    with RemoteEnvironment(addresses[0]) as env:
        env.reset()
        env.step(0)
        text = shown(env)
        assert "steps so far 1" in text
        assert "autoreset" not in text
