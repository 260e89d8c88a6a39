"""Through a proxy that ends TLS and speaks gRPC alone, nginx: gRPC then, equal, also in the middle of a run."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import Certificates, ServerFactory
from faults.proxy import Proxy
from gymnasium.vector import SyncVectorEnv
from helpers import wait_until
from sameness import assert_same

from remote_gym import ConnectError, RemoteEnvironment, RemoteVectorEnv
from remote_gym.client.carriers import dialing
from remote_gym.client.carriers.direct import DirectCarrier
from remote_gym.client.carriers.grpc import GrpcCarrier

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

NUM_ENVS = 4
CONFIGURATION = """
daemon off; master_process off;
pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {certificates}/server.pem;
        ssl_certificate_key {certificates}/server-key.pem;
        ssl_client_certificate {certificates}/ca.pem;
        ssl_verify_client on;
        client_max_body_size {max_body};
        location / {{
            grpc_pass grpcs://{server};
            grpc_ssl_certificate {certificates}/client.pem;
            grpc_ssl_certificate_key {certificates}/client-key.pem;
            grpc_ssl_trusted_certificate {certificates}/ca.pem;
            grpc_ssl_verify on;
            grpc_ssl_name localhost;
        }}
    }}
}}
"""

Front = Callable[..., str]


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "_grpc_only", {})
    monkeypatch.delenv("REMOTE_GYM_TRANSPORT", raising=False)


@pytest.fixture
def front(tmp_path: Path, certificates: Certificates) -> Iterator[Front]:
    """Start nginx in front of a server; returns its address."""
    with ExitStack() as stack:

        def start(server: str, max_body: str = "0") -> str:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]
            names = {"folder": tmp_path, "certificates": certificates.directory, "port": port, "server": server}
            configuration = tmp_path / "nginx.conf"
            configuration.write_text(CONFIGURATION.format(**names, max_body=max_body))
            process = subprocess.Popen([str(NGINX), "-c", configuration], stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            wait_until(lambda: process.poll() is not None or _listens(port), what="nginx")
            assert process.poll() is None, (tmp_path / "error.log").read_text()
            return f"127.0.0.1:{port}"

        yield start


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def run(certificates: Certificates) -> Iterator[Any]:
    """Open environments, and local ones to compare with: ``run(address, num_envs).step()``."""
    with ExitStack() as stack:

        def open_(address: str, num_envs: int = NUM_ENVS) -> Any:
            paths = certificates.client_mutual
            ours = RemoteVectorEnv(address, num_envs=num_envs, client_credentials_paths=paths)
            theirs = SyncVectorEnv([lambda: gym.make("CartPole-v1")] * num_envs)
            stack.callback(ours.close)
            stack.callback(theirs.close)
            assert_same(ours.reset(seed=3), theirs.reset(seed=3))

            def step() -> None:
                actions = np.arange(num_envs) % 2
                assert_same(ours.step(actions), theirs.step(actions))

            def carrier() -> Any:
                (shard,) = ours._remote.fleet.shards
                return type(shard.session._reader._carrier)

            return SimpleNamespace(step=step, carrier=carrier)

        yield open_


def test_grpc_goes_through(serve: ServerFactory, certificates: Certificates, front: Front, run: Any) -> None:
    server = serve(server_credentials_paths=certificates.server_mutual)
    envs = run(front(server.address))
    for _ in range(200):
        envs.step()
    assert envs.carrier() is GrpcCarrier


def test_from_the_server_to_the_proxy_and_back(
    serve: ServerFactory, certificates: Certificates, front: Front, run: Any
) -> None:
    server = serve(server_credentials_paths=certificates.server_mutual)
    ways = {DirectCarrier: server.address, GrpcCarrier: front(server.address)}
    with Proxy(server.address) as way:
        envs = run(way.address)
        for kind, how in ((GrpcCarrier, "rst"), (DirectCarrier, "fin"), (GrpcCarrier, "fin"), (DirectCarrier, "rst")):
            way.target = ways[kind]
            way.cut(how)
            for _ in range(20):
                envs.step()
            assert envs.carrier() is kind


def test_a_limit_on_what_a_stream_may_carry_costs_no_step(
    serve: ServerFactory, certificates: Certificates, front: Front, run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(server_credentials_paths=certificates.server_mutual)
    envs = run(front(server.address, max_body="10k"), num_envs=16)
    for _ in range(200):  # some 30 kB
        envs.step()
    assert caplog.text.count("attaching again") >= 2


def test_without_the_server_the_proxy_is_named(front: Front, certificates: Certificates) -> None:
    address = front("127.0.0.1:1")
    for paths, status in ((certificates.client, 400), (certificates.client_mutual, 502)):
        env = RemoteEnvironment(address, client_credentials_paths=paths, connect_timeout_seconds=2.0)
        with pytest.raises(ConnectError, match=f"a proxy, .* answers at {address}: HTTP status {status}"):
            env.reset()
        env.close()
