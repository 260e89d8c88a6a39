"""What a client has shown, and who it is by that."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from conftest import Certificates
from cryptography.hazmat.primitives.serialization import Encoding
from signing import common_name, sign

from remote_gym.server.authentication import LIMIT, Authenticator, Shown, StrangerError
from remote_gym.server.principals import ANONYMOUS, Principal


def der(certificates: Certificates, *names: str) -> bytes:
    certificate, _ = sign(certificates.directory, [common_name(name) for name in names])
    return bytes(certificate.public_bytes(Encoding.DER))


def test_a_certificate_is_its_name_also_when_it_is_renewed(certificates: Certificates) -> None:
    old, new = der(certificates, "alice"), der(certificates, "alice")
    principals = [Authenticator().principal(Shown(True, one)) for one in (old, new)]
    assert principals == [Principal("alice")] * 2
    assert [one.fingerprint for one in principals] == [hashlib.sha256(one).digest() for one in (old, new)]


def test_who_shows_nothing(certificates: Certificates) -> None:
    for shown in (Shown(False), Shown(True), Shown(True, der(certificates))):
        assert Authenticator().principal(shown) == ANONYMOUS


def test_a_user_of_this_machine() -> None:
    assert Authenticator().principal(Shown(True, uid=0)) == Principal("uid:0")


@pytest.mark.parametrize("name", ["anonymous", "uid:0", "a\0b", "a\nb"])
def test_a_certificate_cannot_be_somebody_elses_name(certificates: Certificates, name: str) -> None:
    with pytest.raises(StrangerError, match=r"your certificate is for .*get one") as caught:
        Authenticator().principal(Shown(True, der(certificates, name)))
    assert caught.value.limit == LIMIT
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("damaged", [b"", b"0", b"0\x84\xff\xff\xff\xff", b"\0" * 99])
def test_a_certificate_that_cannot_be_read_is_nobodys(damaged: Any) -> None:
    with pytest.raises(StrangerError, match="cannot be read"):
        Authenticator().principal(Shown(True, damaged))
