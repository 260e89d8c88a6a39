"""Whether gRPC would go through a proxy."""

from __future__ import annotations

import pytest

from remote_gym.client.carriers.proxies import proxy_for

NAMES = ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_none() -> None:
    assert proxy_for("farm.example") is None


@pytest.mark.parametrize("name", NAMES[:3])
def test_each_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://proxy:3128")
    assert proxy_for("farm.example") == name
    for host in ("localhost", "127.0.0.1", "::1", "unix:/run/socket"):
        assert proxy_for(host) is None


@pytest.mark.parametrize(("listed", "host", "goes_through"), [
    ("farm.example", "farm.example", False), (".example", "farm.example", False),
    ("a, farm.example", "FARM.example.", False),
    ("other.example", "farm.example", True), ("", "farm.example", True), (",,", "farm.example", True),
    ("10.0.0.0/8", "10.1.2.3", False), ("10.0.0.0/8", "11.1.2.3", True), ("10.0.0.0/x", "10.1.2.3", True),
    ("10.1.2.3", "10.1.2.3", False), ("fe80::/10", "fe80::1%eth0", False),
])  # fmt: skip
@pytest.mark.parametrize("variable", NAMES[3:])
def test_exceptions(monkeypatch: pytest.MonkeyPatch, listed: str, host: str, goes_through: bool, variable: str) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv(variable, listed)
    assert (proxy_for(host) is not None) is goes_through
