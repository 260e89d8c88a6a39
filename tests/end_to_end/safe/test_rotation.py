"""Certificates are renewed while environments step: no restart, no lost step, over either carrier."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import ServerFactory
from gymnasium.vector import SyncVectorEnv
from helpers import wait_until
from sameness import assert_same

from remote_gym import ConnectError, RemoteEnvironment, RemoteVectorEnv
from remote_gym.cli.certificates import write_certificates
from remote_gym.server import certificates as module

NUM_ENVS = 4
SERVER, CLIENT = ("server.pem", "server-key.pem", "ca.pem"), ("ca.pem", "client.pem", "client-key.pem")
LIMIT = {"connect_timeout_seconds": 2}


class Load:
    """A client that steps all the time and compares each step with local environments."""

    def __init__(self, address: str, paths: Any, transport: str) -> None:
        self.envs = RemoteVectorEnv(
            address,
            num_envs=NUM_ENVS,
            client_credentials_paths=paths,
            transport=transport,
            reconnect_timeout_seconds=20,
        )
        self.steps = 0
        self.error: BaseException | None = None
        self.breaks = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def carrier(self) -> Any:
        (shard,) = self.envs._remote.fleet.shards
        return shard.session._reader._carrier

    def _run(self) -> None:
        oracle = SyncVectorEnv([lambda: gym.make("CartPole-v1")] * NUM_ENVS)
        try:
            assert_same(self.envs.reset(seed=3), oracle.reset(seed=3))
            while not self._ending.is_set():
                actions = np.array([(self.steps + index) % 2 for index in range(NUM_ENVS)])
                self.envs.step_async(actions)
                if self.breaks:  # with an answer on its way
                    self.breaks -= 1
                    self.carrier.close()
                assert_same(self.envs.step_wait(), oracle.step(actions))
                self.steps += 1
        except BaseException as error:
            self.error = error
        oracle.close()

    def go_on(self) -> None:
        """Return when it has stepped on."""
        since = self.steps
        wait_until(lambda: self.steps > since + 10 or self.error is not None, 30)
        assert self.error is None, self.error

    def come_back(self) -> None:
        """Lose the connection, and return when another one carries steps."""
        before = self.carrier
        self.breaks = 1
        wait_until(lambda: (self.breaks == 0 and self.carrier is not before) or self.error is not None, 30)
        self.go_on()

    def end(self) -> None:
        self._ending.set()
        self._thread.join()
        self.envs.close()


@contextlib.contextmanager
def stepping(*arguments: Any) -> Iterator[Load]:
    load = Load(*arguments)
    try:
        yield load
    finally:
        load.end()


def put(target: Path, **contents: Path | bytes) -> None:
    for name, content in contents.items():
        path = target / f"{name.replace('_', '-')}.pem"
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())


@pytest.mark.parametrize("transport", ["direct", "grpc"])
def test_a_ca_and_its_leaves_are_renewed_under_load(
    serve: ServerFactory,
    tmp_path: Path,
    transport: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    caplog.set_level(logging.INFO, "remote_gym.server")
    old, new, server_side, client_side = (tmp_path / name for name in ("old", "new", "server", "client"))
    for made in (old, new):
        write_certificates(made)
    shutil.copytree(old, server_side)
    shutil.copytree(old, client_side)
    server = serve(server_credentials_paths=[server_side / name for name in SERVER])
    taken = 0

    def renew(**contents: Path | bytes) -> None:
        nonlocal taken
        put(server_side, **contents)
        taken += 1
        wait_until(lambda: caplog.text.count("new connections get") == taken, 20)

    def reaches(folder: Path) -> bool:
        paths = [folder / name for name in CLIENT]
        try:
            with RemoteEnvironment(
                server.address, client_credentials_paths=paths, transport=transport, connect_timeout_seconds=2
            ) as env:
                env.reset(seed=0)
        except ConnectError:
            return False
        return True

    with stepping(server.address, [client_side / name for name in CLIENT], transport) as load:
        load.go_on()
        first = load.carrier
        both = (old / "ca.pem").read_bytes() + (new / "ca.pem").read_bytes()
        renew(ca=both)
        put(client_side, ca=both)
        load.come_back()
        renew(server=new / "server.pem", server_key=new / "server-key.pem")
        second = load.carrier
        load.go_on()
        assert load.carrier is second is not first  # who is there goes on
        load.come_back()  # the old client, the new server
        put(client_side, client=new / "client.pem", client_key=new / "client-key.pem")
        load.come_back()
        assert reaches(client_side) and not reaches(new.parent / "old")  # the old one knows the old CA alone
        renew(ca=new / "ca.pem")
        put(client_side, ca=new / "ca.pem")
        load.come_back()
        assert reaches(new)
        put(old, ca=both)
        assert not reaches(old)  # its certificate is the old CA's
        load.go_on()
    assert load.error is None
