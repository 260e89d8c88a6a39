"""What a client has shown, and who it is by that."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Certificates
from cryptography.hazmat.primitives.serialization import Encoding
from signing import common_name, sign

from remote_gym.credentials import ServerPem
from remote_gym.errors import MisuseError
from remote_gym.server import authentication
from remote_gym.server.authentication import LIMIT, Authenticator, Shown, StrangerError, authenticator
from remote_gym.server.denied import Denied
from remote_gym.server.principals import ANONYMOUS, Principal
from remote_gym.server.tokens import Token, Tokens, digest_of


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


# Lists of the owner's


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    now = time.time()
    ends = {"alice": None, "bob": now - 5, "carol": now + 60}
    listed = [Token(name, digest_of(name[0]), end) for name, end in ends.items()]
    path.write_text("".join(f"{token}\n" for token in listed))
    return path


def test_a_token_is_its_name_whatever_else_was_shown(certificates: Certificates, tokens: Path) -> None:
    known = Authenticator(Tokens("token_file", tokens))
    certificate = der(certificates, "bob")
    for shown in (Shown(True, token="a"), Shown(True, certificate, token="a"), Shown(True, uid=0, token="a")):
        assert known.principal(shown) == Principal("alice")
    assert known.principal(Shown(True, der(certificates, "a\0"), token="a")).fingerprint  # though it could name nobody
    assert known.principal(Shown(True, uid=0)) == Principal("uid:0")  # the owner needs none
    assert known.asks_for_tokens and not Authenticator().asks_for_tokens


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("", r"this server asks for a token: pass token=, or set REMOTE_GYM_TOKEN; .*`remote-gym tokens add NAME`"),
        ("x", r"this server does not know your token .*revoked.*`remote-gym tokens add NAME`"),
        ("b", r"your token, 'bob', has expired at 20\d\d-.*`remote-gym tokens add NAME`"),
    ],
)
def test_no_token_that_holds(certificates: Certificates, tokens: Path, token: str, said: str) -> None:
    known = Authenticator(Tokens("token_file", tokens))
    for certificate in (None, der(certificates, "alice")):
        with pytest.raises(StrangerError, match=said):
            known.principal(Shown(True, certificate, token=token))
    if token:
        with pytest.raises(StrangerError, match=said):
            known.principal(Shown(True, uid=0, token=token))


def test_plaintext(tokens: Path) -> None:
    for known in (Authenticator(Tokens("token_file", tokens)), Authenticator()):
        with pytest.raises(StrangerError, match=r"a token came in plaintext.*revoke it"):
            known.principal(Shown(False, token="a"))
    allowed = Authenticator(Tokens("token_file", tokens), allow_insecure=True)
    assert allowed.principal(Shown(False, token="a")) == Principal("alice")
    assert Authenticator().principal(Shown(True, token="a")) == ANONYMOUS  # nobody asks what it is


def test_a_new_token_holds_at_once(tokens: Path) -> None:
    known = Authenticator(Tokens("token_file", tokens))
    with tokens.open("a") as file:
        file.write(f"{Token('dave', digest_of('d'), None)}\n")
    assert known.principal(Shown(True, token="d")) == Principal("dave")


def test_who_has_shown_it_some_time_ago(tokens: Path) -> None:
    known = Authenticator(Tokens("token_file", tokens))
    principal = known.principal(Shown(True, token="a"))
    known.check(principal)
    tokens.write_text("")
    with pytest.raises(StrangerError, match="the token of 'alice' was revoked"):
        known.check(principal)
    Authenticator().check(principal)


def test_a_denied_certificate(certificates: Certificates, tokens: Path, tmp_path: Path) -> None:
    denied, listed = der(certificates, "alice"), tmp_path / "denied"
    listed.touch()
    known = Authenticator(Tokens("token_file", tokens), Denied("deny_file", listed))
    principal = known.principal(Shown(True, denied, token="a"))
    listed.write_text(hashlib.sha256(denied).hexdigest())
    with pytest.raises(StrangerError, match="your certificate was denied"):
        known.principal(Shown(True, denied, token="a"))
    assert known.principal(Shown(True, der(certificates, "alice"), token="a")) == principal  # she has another one
    assert known.why_no_longer(principal) == "the certificate of 'alice' was denied"


# Whose sessions end


@dataclass
class Session:
    principal: Principal
    ended: str = ""

    def revoke(self, detail: str) -> None:
        self.ended = detail


def test_what_holds_no_longer_ends_at_the_second_look(tokens: Path) -> None:
    known = Authenticator(Tokens("token_file", tokens))
    alice = Session(known.principal(Shown(True, token="a")))
    carol, owner = Session(known.principal(Shown(True, token="c"))), Session(Principal("uid:0"))
    sessions = {b"a": alice, b"c": carol, b"o": owner}
    suspects = known.look(sessions, set())
    assert suspects == set()
    text = tokens.read_text()
    tokens.write_text("")  # while somebody writes it anew
    suspects = known.look(sessions, suspects)
    assert suspects == {b"a", b"c"}
    tokens.write_text(text)
    suspects = known.look(sessions, suspects)
    assert suspects == set()
    tokens.write_text(text.replace("alice", "eve"))  # the token is somebody else's now
    suspects = known.look(sessions, known.look(sessions, suspects))
    assert [one.ended for one in (alice, carol, owner)] == ["the token of 'alice' was revoked", "", ""]


def test_an_end_that_fails_keeps_no_other_from_it(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "LOOK_SECONDS", 0.001)
    known = Authenticator(Tokens("token_file", tokens))
    gone = Principal("x", digest_of("x"))

    class Broken(Session):
        def revoke(self, detail: str) -> None:
            del sessions[b"1"]
            raise RuntimeError("a bug of ours")

    sessions: dict[bytes, Session] = {b"1": Broken(gone), b"2": Session(gone)}

    async def main() -> None:
        watching = asyncio.ensure_future(known.watch(sessions))
        while not sessions[b"2"].ended:
            await asyncio.sleep(0)
        watching.cancel()

    asyncio.run(asyncio.wait_for(main(), 10.0))


def test_nothing_is_watched_without_lists() -> None:
    asyncio.run(asyncio.wait_for(Authenticator().watch({}), 1.0))


# What a server is told


PEM, MUTUAL = ServerPem(b"", b""), ServerPem(b"", b"", b"")


@pytest.mark.parametrize(
    ("hosts", "pem"), [(["127.0.0.1"], PEM), (["0.0.0.0"], MUTUAL), (["unix:/x"], None), (["unix:/x", "host"], PEM)]
)
def test_tokens_where_nobody_reads_along(tokens: Path, hosts: list[str], pem: ServerPem | None) -> None:
    assert authenticator(tokens, None, hosts, pem, False).asks_for_tokens


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_tokens_in_plaintext(tokens: Path, host: str) -> None:
    with pytest.raises(MisuseError, match=r"token_file: .*plaintext.*server_credentials_paths.*allow_insecure=True"):
        authenticator(tokens, None, [host], None, False)
    with pytest.warns(UserWarning, match="tokens would travel in plaintext"):
        authenticator(tokens, None, [host], None, True)


@pytest.mark.parametrize("pem", [None, PEM])
def test_a_deny_list_without_certificates(tokens: Path, pem: ServerPem | None) -> None:
    with pytest.raises(MisuseError, match="deny_file lists certificates of clients, and this server asks for none"):
        authenticator(None, tokens, ["127.0.0.1"], pem, False)
