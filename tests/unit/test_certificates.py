"""An authority and what it signs, in memory: what cryptography and OpenSSL say of it, and what cannot be made."""

from __future__ import annotations

import builtins
import copy
import datetime
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from remote_gym.certificates import ALWAYS_HOSTS, CA_DAYS, DAYS, Authority, Leaf
from remote_gym.credentials import load_client_pem, load_server_pem
from remote_gym.errors import MisuseError

AUTHORITY = Authority.new()


def read(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def days_left(pem: bytes) -> float:
    return (read(pem).not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)) / datetime.timedelta(days=1)


def names(pem: bytes) -> list[str]:
    extension: Any = read(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(name.value) for name in extension.value]


def test_what_it_signs_is_what_both_sides_load() -> None:
    server, client = AUTHORITY.server(["node-1"]), AUTHORITY.client("alice")
    for leaf in (server, client):
        read(leaf.certificate).verify_directly_issued_by(read(AUTHORITY.certificate))
    assert load_server_pem(server.server_credentials()) is not None
    loaded = load_server_pem(server.server_credentials(clients=AUTHORITY))
    assert loaded is not None and loaded.root == AUTHORITY.certificate
    shown = load_client_pem(client.client_credentials(servers=AUTHORITY))
    assert shown is not None and shown.certificate == client.certificate


def test_a_server_is_for_its_hosts_and_a_client_for_its_name() -> None:
    server, client = AUTHORITY.server(["Node-1", "10.0.0.7", "localhost"]), AUTHORITY.client("spiffe://lab/alice")
    assert names(server.certificate) == ["node-1", "10.0.0.7", *ALWAYS_HOSTS]
    assert read(client.certificate).subject.rfc4514_string() == "CN=spiffe://lab/alice"
    for leaf, usage in ((server, ExtendedKeyUsageOID.SERVER_AUTH), (client, ExtendedKeyUsageOID.CLIENT_AUTH)):
        extension: Any = read(leaf.certificate).extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        assert list(extension.value) == [usage]


def test_days() -> None:
    assert DAYS - 1 < days_left(AUTHORITY.server().certificate) <= DAYS
    assert DAYS + CA_DAYS - 1 < days_left(AUTHORITY.certificate) <= DAYS + CA_DAYS
    assert 6 < days_left(AUTHORITY.client(days=7).certificate) <= 7
    short = Authority.new(days=3)
    assert read(short.server(days=30).certificate).not_valid_after_utc == read(short.certificate).not_valid_after_utc
    with pytest.raises(MisuseError, match="within a day"):
        Authority.new(days=1).client()


@pytest.mark.parametrize("days", [0, -1, True, "7", 1.5, 40_151])
@pytest.mark.parametrize("make", [Authority.new, AUTHORITY.server, AUTHORITY.client])
def test_wrong_days(make: Callable[..., Any], days: Any) -> None:
    with pytest.raises(MisuseError, match="days="):
        make(days=days)


@pytest.mark.parametrize("hosts", ["node-1", b"node-1", [""], ["node:1"], ["0.0.0.0"], ["a b"], [1], ["1.2.3"]])
def test_wrong_hosts(hosts: Any) -> None:
    with pytest.raises(MisuseError, match="host"):
        AUTHORITY.server(hosts)


@pytest.mark.parametrize("name", ["", " alice", "a\nb", "x" * 65, None, b"alice"])
def test_wrong_names(name: Any) -> None:
    with pytest.raises(MisuseError, match="client "):
        AUTHORITY.client(name)


@pytest.mark.parametrize(
    "authority",
    [
        Authority(b"", b""),
        Authority(AUTHORITY.certificate, b"no key"),
        Authority(AUTHORITY.certificate, Authority.new().private_key),
        Authority(AUTHORITY.client().certificate[:200], AUTHORITY.private_key),
    ],
)
def test_an_authority_that_is_none(authority: Authority) -> None:
    with pytest.raises(MisuseError, match="CA's"):
        authority.server()


@pytest.mark.parametrize("carry", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_they_travel_and_keep_their_keys_to_themselves(carry: Callable[[Any], Any]) -> None:
    leaf = AUTHORITY.client()
    for one in (AUTHORITY, leaf):
        assert carry(one) == one
        assert "PRIVATE" not in repr(one)
    carried: Authority = carry(AUTHORITY)
    read(carried.server().certificate).verify_directly_issued_by(read(AUTHORITY.certificate))
    assert isinstance(carry(leaf), Leaf)


def test_two_authorities_differ() -> None:
    other = Authority.new()
    assert other != AUTHORITY
    assert read(other.certificate).subject != read(AUTHORITY.certificate).subject


def test_without_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    import_module = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return import_module(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MisuseError, match=r"\[server\]"):
        Authority.new()
