"""Which servers are meant, and how each is proven to be it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Certificates

from remote_gym.certificates import Authority
from remote_gym.client.servers import addresses_of, carried_paths, checked_name, urls_of
from remote_gym.errors import MisuseError

AUTHORITY = Authority.new()
BYTES = AUTHORITY.client().client_credentials(servers=AUTHORITY)


def test_the_name_is_part_of_what_is_proven(certificates: Certificates) -> None:
    urls = ["10.0.0.7:1", "node-2:2"]
    paths, addresses = addresses_of(urls, None, certificates.client_mutual, "simulator", None, False)
    assert paths == certificates.client_mutual
    assert [(one.host, one.port) for one in addresses] == [("10.0.0.7", 1), ("node-2", 2)]
    assert {one.pem.server_name for one in addresses if one.pem is not None} == {"simulator"}
    _, (other,) = addresses_of(["10.0.0.7:1"], None, certificates.client_mutual, None, None, False)
    assert other != addresses[0]  # no channel is shared between the two


def test_bytes_are_carried_as_they_are_and_paths_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert carried_paths(("ca.pem", BYTES[1], None)) == (str(tmp_path / "ca.pem"), BYTES[1], None)
    assert carried_paths(None) is None
    _, (address,) = addresses_of(["node-1"], None, BYTES, None, None, False)
    assert address.pem is not None and address.pem.certificate == BYTES[1]


@pytest.mark.parametrize("name", ["", 1, b"a", "a b", "a:1", "näme", "unix:/x", "https://a", "[::1]:5"])
def test_names_that_no_certificate_is_for(name: Any) -> None:
    with pytest.raises(MisuseError, match=r"tls_name|url="):
        checked_name(name)


@pytest.mark.parametrize(
    ("name", "host"), [(None, None), ("node-1", "node-1"), ("::1", "::1"), ("10.0.0.7", "10.0.0.7")]
)
def test_names_that_one_may_be_for(name: str | None, host: str | None) -> None:
    assert checked_name(name) == host


def test_a_name_needs_a_certificate_to_be_checked_against() -> None:
    with pytest.raises(MisuseError, match="client_credentials_paths"):
        addresses_of(["127.0.0.1:1"], None, None, "node-1", None, False)


def test_no_address_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REMOTE_GYM_URL", raising=False)
    with pytest.raises(MisuseError, match="REMOTE_GYM_URL"):
        urls_of(None)
    monkeypatch.setitem(os.environ, "REMOTE_GYM_URL", "node-1:5")
    assert urls_of(None) == ["node-1:5"]
    for wrong in ([], [1], 5):
        with pytest.raises(MisuseError, match="url"):
            urls_of(wrong)  # type: ignore[arg-type]
