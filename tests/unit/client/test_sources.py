"""Addresses by record, by line and by function."""

from __future__ import annotations

import pickle
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import Certificates, ServerFactory
from helpers import settings

from remote_gym import ConnectError, MisuseError, RemoteEnvironment, RemoteVectorEnv
from remote_gym.client.sources import MAX_ADDRESSES, Asked, Lines, Records, source_of

V4, V6 = socket.AF_INET, socket.AF_INET6


class Directory:
    """As a user would write it."""

    def __init__(self, *addresses: str) -> None:
        self.known = list(addresses)

    def addresses(self) -> list[str]:
        return self.known


def nobody() -> list[str]:
    return []


def two_servers() -> list[str]:
    return ["localhost:1", "localhost:2"]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("dns:farm:5", Records), ("dns:farm", Records), ("file:/x", Lines), ("file:x", Lines), (two_servers, Asked),
        (Directory("a:1"), Asked), (nobody, Asked), (Directory("a:1").addresses, Asked), ("dns:5", None),
        ("file:5", None), ("dns", None), ("unix:/x", None), (["dns:farm:5"], None), (None, None), (3, None),
        (Directory, None),
    ],
)  # fmt: skip
def test_what_is_a_source(url: Any, kind: Any) -> None:
    assert type(source_of(url, None)) is (kind or type(None))


def test_lines_are_addresses_and_read_again_when_they_change(tmp_path: Path) -> None:
    path = tmp_path / "servers"
    path.write_text("# ours\nnode-1:5  # the quick one\n\n  node-2:6\nnode-1:5\n")
    source = Lines(f"file:{path}")
    assert source.has_changed() and source.ask(1.0) == ["node-1:5", "node-2:6"] and not source.has_changed()
    path.write_text("node-3\n")
    assert source.has_changed() and source.ask(1.0) == ["node-3"]
    path.unlink()
    assert source.has_changed()
    with pytest.raises(ConnectError, match=f"file:{path}: .*No such file"):
        source.ask(1.0)
    path.write_text("node-1:5\nnode 2:6\n")
    with pytest.raises(MisuseError, match=f"line 2 of file:{path}: url='node 2:6'"):
        source.ask(1.0)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConnectError, match=r"file:.*decode"):
        source.ask(1.0)


def test_a_folder_is_all_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder := tmp_path / "servers").mkdir()
    source = Lines(f"file:{folder}")
    assert source.has_changed() and source.ask(1.0) == [] and not source.has_changed()
    (folder / "node-2").write_text("node-2:6\n")
    (folder / "node-1").write_text("node-1:5\n# once more\nnode-2:6\n")
    (folder / ".node-3.new").write_text("node-3:")
    assert source.has_changed() and source.ask(1.0) == ["node-1:5", "node-2:6"] and not source.has_changed()
    (folder / "node-1").unlink()
    assert source.has_changed() and source.ask(1.0) == ["node-2:6"]
    monkeypatch.setattr("os.listdir", lambda _: ["node-2", "gone"])
    assert source.ask(1.0) == ["node-2:6"]
    (folder / "node-2").write_text("node 2:6\n")
    with pytest.raises(MisuseError, match=f"line 1 of file:{folder}/node-2: url='node 2:6'"):
        source.ask(1.0)


def test_a_relative_path_is_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Lines("file:a/b").carried == f"file:{tmp_path}/a/b" and Lines("file:///a/b").carried == "file:/a/b"
    for bad in ("file:", "file://host/a"):
        with pytest.raises(MisuseError, match="path of a file"):
            Lines(bad)


def records(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> list[tuple[str, int]]:
    """Let the resolver give these; the last one again and again."""
    asked: list[tuple[str, int]] = []
    left = list(answers)

    def look_up(host: str, port: int, **_options: Any) -> Any:
        asked.append((host, port))
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return [(V6 if ":" in one else V4, socket.SOCK_STREAM, 6, "", (one, port)) for one in answer]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


def test_all_records_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = records(monkeypatch, ["10.0.0.3", "fd00::1", "10.0.0.2", "10.0.0.3"], ["fd00::2", "fd00::1"])
    source = Records("dns:farm.example:7", None)
    assert source.ask(5.0) == ["10.0.0.2:7", "10.0.0.3:7"] and source.ask(5.0) == ["[fd00::1]:7", "[fd00::2]:7"]
    assert asked[0] == ("farm.example", 7) and source.tls_name == "farm.example" and not source.has_changed()
    assert Records("dns:farm", 9).name == "dns:farm:9" and Records("dns:farm", None).name == "dns:farm:56765"


def test_a_name_without_records_or_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    records(monkeypatch, socket.gaierror("Name or service not known"))
    with pytest.raises(ConnectError, match=r"(?s)dns:farm:7: the name has no address: Name.*- no server of it is up"):
        Records("dns:farm:7", None).ask(5.0)
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: never.wait(30))
    with pytest.raises(ConnectError, match=r"did not answer within 0\.05 s"):
        Records("dns:farm:7", None).ask(0.05)
    never.set()


@pytest.mark.parametrize("bad", ["dns:", "dns:a b", "dns:farm:x", "dns:unix:/x", "dns:fröm", "dns:farm:99999"])
def test_no_name(bad: str) -> None:
    with pytest.raises(MisuseError, match=r"dns:"):
        source_of(bad, None)


def test_a_function_that_gives_something_else() -> None:
    for said in (None, "a:1", 3, [3], [b"a:1"], ["a b"], ["a:1"] * MAX_ADDRESSES + [f"a:{n}" for n in range(5000)]):
        with pytest.raises(MisuseError, match=r"url=\S*lambda"):
            Asked(lambda said=said: said, lambda said=said: said).ask(1.0)

    def failing() -> list[str]:
        raise OSError("the cluster is gone")

    with pytest.raises(ConnectError, match=r"failing: asked for addresses, it raised OSError: the cluster is gone"):
        Asked(failing, failing).ask(1.0)


def test_settings_find_what_the_source_says(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    records(monkeypatch, ["10.0.0.2", "10.0.0.3"])
    ours = settings(url="dns:farm", port=7, client_credentials_paths=certificates.client_mutual)
    assert ours.addresses == () and [str(one) for one in ours.find()] == ["10.0.0.2:7", "10.0.0.3:7"]
    assert {one.pem.server_name for one in ours.find() if one.pem} == {"farm"}
    named = settings(url="dns:farm", client_credentials_paths=certificates.client_mutual, tls_name="simulator")
    assert {one.pem.server_name for one in named.find() if one.pem} == {"simulator"}
    single = settings(url="dns:farm:7", client_credentials_paths=certificates.client, single=True)
    assert [str(one) for one in single.find()] == ["10.0.0.2:7"]
    with pytest.raises(MisuseError, match=r"of dns:farm:7: refusing to talk to 10\.0\.0\.2 without TLS"):
        settings(url="dns:farm:7").find()
    assert len(settings(url="dns:farm:7", allow_insecure=True).find()) == 2
    with pytest.raises(MisuseError, match="tls_name"):
        settings(url="dns:farm:7", tls_name="x")


def test_what_comes_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records(monkeypatch, socket.gaierror("not yet"), [], ["127.0.0.1"])
    assert [str(one) for one in settings(url="dns:farm:7", connect_timeout_seconds=30).find()] == ["127.0.0.1:7"]
    with pytest.raises(ConnectError, match=f"file:{tmp_path}/none: the file"):
        settings(url=f"file:{tmp_path}/none", connect_timeout_seconds=0.3).find()
    with pytest.raises(ConnectError, match="it gives no address"):
        settings(url=nobody, connect_timeout_seconds=0.3).find()


def test_a_pickle_holds_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "servers").write_text("localhost:1\n")
    for url in ("file:servers", two_servers, Directory("localhost:1")):
        envs = pickle.loads(pickle.dumps(RemoteVectorEnv(url, port=None, num_envs=2)))
        assert str(envs._remote.settings.find()[0]) == "localhost:1"
    assert RemoteVectorEnv("dns:farm", port=5, num_envs=2).__getstate__()["url"] == "dns:farm:5"
    assert settings(url=two_servers, port=7).carried()["port"] == 7


def test_repr_says_where_from(tmp_path: Path) -> None:
    assert repr(RemoteVectorEnv("dns:farm", num_envs=2)) == "RemoteVectorEnv(dns:farm:56765, num_envs=2)"
    assert "two_servers" in repr(RemoteVectorEnv(two_servers, num_envs=2))
    assert f"file:{tmp_path}" in repr(RemoteEnvironment(f"file:{tmp_path}"))


def test_sources_stand_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MisuseError, match="stand alone"):
        settings(url=["dns:farm:7", "localhost:1"])
    for bad in (3, [], [3], Directory):
        with pytest.raises(MisuseError, match="url must be"):
            settings(url=bad)
    monkeypatch.setenv("REMOTE_GYM_URL", "dns:farm:7")
    assert settings(url=None).find.__self__.source.name == "dns:farm:7"


@pytest.mark.parametrize("how", ["file", "callable", "dns"])
def test_environments_behind_a_source(serve: ServerFactory, tmp_path: Path, how: str) -> None:
    addresses = [serve("CartPole-v1", num_workers=1).address for _ in range(2)]
    asked: list[None] = []

    def ask() -> list[str]:
        asked.append(None)
        return addresses

    (tmp_path / "servers").write_text("\n".join(addresses))
    port = addresses[0].rpartition(":")[2]
    url: Any = {
        "file": f"file:{tmp_path}/servers",
        "callable": ask,
        "dns": f"dns:localhost:{port}",
    }[how]
    with RemoteVectorEnv(url, num_envs=4) as envs, RemoteEnvironment(url) as env:
        assert not asked  # nothing is, before there is need
        observations, _ = envs.reset(seed=1)
        assert [shard.count for shard in envs._remote.fleet.shards] == ([4] if how == "dns" else [2, 2])
        assert (env.reset(seed=1)[0] == observations[0]).all()
