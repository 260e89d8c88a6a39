"""Server process: what a client has shown -> who it is, or why nobody; and who is so no longer.

===================  ============================================================================================
who connects by      is, the first that applies
===================  ============================================================================================
TLS                  what its token is called; what its certificate is; ``anonymous``
a Unix socket        what its token is called; ``uid:N`` of this machine
plaintext            what its token is called, if the owner has allowed that; ``anonymous``
===================  ============================================================================================

Each thing that the owner has asked for is needed: a certificate where there is a CA for clients, and a token, in
addition, where there is a file of tokens. Only who comes to a Unix socket, and so is the owner, needs neither.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from remote_gym.addresses import unix_path
from remote_gym.credentials import ServerPem
from remote_gym.errors import MisuseError
from remote_gym.server.certificate_names import certificate_name
from remote_gym.server.denied import Denied
from remote_gym.server.principals import ANONYMOUS, Principal, of_user, unfit
from remote_gym.server.refusals import RefusalError
from remote_gym.server.tokens import Tokens, digest_of, time_text
from remote_gym.texts import printable

logger = logging.getLogger("remote_gym.server")

LIMIT = "authentication"

LOOK_SECONDS = 2.0
"""How often it is looked whose sessions must end: what a revoked token or certificate has opened ends at the second."""

_NEW = "its owner makes one with `remote-gym tokens add NAME`"


class StrangerError(RefusalError):
    """A client is nobody whom this server takes; another attempt will be in vain, too."""

    def __init__(self, message: str) -> None:
        """Say why, and what to do about it."""
        super().__init__(LIMIT, message)


@dataclass(frozen=True)
class Shown:
    """What a client has shown of who it is.

    Attributes:
        is_private: Whether nobody else has seen it: over TLS, or within this machine.
        certificate: A certificate that the CA for clients has signed, as DER.
        uid: The user of this machine who has connected to a Unix socket.
        token: Empty without one.
    """

    is_private: bool
    certificate: bytes | None = None
    uid: int | None = None
    token: str = field(default="", repr=False)


class Held(Protocol):
    """A session, as far as it is of interest here."""

    principal: Principal

    def revoke(self, detail: str) -> None:
        """End."""


class Authenticator:
    """Who may use one server, and as whom."""

    def __init__(
        self, tokens: Tokens | None = None, denied: Denied | None = None, allow_insecure: bool = False
    ) -> None:
        """Know the owner's lists; with `allow_insecure`, tokens may come in plaintext."""
        self._tokens = tokens
        self._denied = denied
        self._allow_insecure = allow_insecure

    @property
    def asks_for_tokens(self) -> bool:
        """Whether who comes over TCP needs one."""
        return self._tokens is not None

    def principal(self, shown: Shown) -> Principal:
        """Return who has shown that.

        Raises:
            StrangerError: Nobody whom this server takes; says what to do.
        """
        if shown.token and not (shown.is_private or self._allow_insecure):
            raise StrangerError(
                "a token came in plaintext, so others may know it by now: revoke it, and connect over TLS or by a Unix "
                "socket; or allow_insecure=True at both ends, in a network that you trust"
            )
        fingerprint = None if shown.certificate is None else hashlib.sha256(shown.certificate).digest()
        if self._is_denied(fingerprint):
            raise StrangerError("your certificate was denied by this server's owner: ask for another one")
        is_owner = shown.uid is not None and shown.uid == os.geteuid()
        if self._tokens is not None and (shown.token or shown.uid is None):
            return replace(self._by_token(self._tokens, shown.token, fingerprint), is_owner=is_owner)
        if shown.uid is not None:
            return replace(of_user(shown.uid), is_owner=is_owner)
        return Principal(_name(shown.certificate), fingerprint=fingerprint)

    def _by_token(self, tokens: Tokens, text: str, fingerprint: bytes | None) -> Principal:
        if not text:
            raise StrangerError(f"this server asks for a token: pass token=, or set REMOTE_GYM_TOKEN; {_NEW}")
        tokens.refresh()
        digest = digest_of(text)
        token = tokens.find(digest)
        if token is None:
            raise StrangerError(
                f"this server does not know your token (token=, or REMOTE_GYM_TOKEN): it was revoked, or is another "
                f"server's; {_NEW}"
            )
        if token.has_expired():
            raise StrangerError(f"your token, {token.name!r}, has expired at {time_text(token.expires)}; {_NEW}")
        return Principal(token.name, digest, fingerprint)

    def _is_denied(self, fingerprint: bytes | None) -> bool:
        if self._denied is None or fingerprint is None:
            return False
        self._denied.refresh()
        return fingerprint in self._denied

    def why_no_longer(self, principal: Principal) -> str | None:
        """Return why `principal` may not go on by what it has shown; None: it may."""
        if self._tokens is not None and principal.token is not None:
            token = self._tokens.find(principal.token)
            if token is None or token.name != principal.name:
                return f"the token of {principal.name!r} was revoked"
            if token.has_expired():
                return f"the token of {principal.name!r} has expired"
        if self._denied is not None and principal.fingerprint in self._denied:
            return f"the certificate of {principal.name!r} was denied"
        return None

    def check(self, principal: Principal) -> None:
        """Look once more, before `principal` opens or attaches: it may have shown who it is some time ago.

        Raises:
            StrangerError: What it has shown holds no longer.
        """
        self._refresh()
        if (why := self.why_no_longer(principal)) is not None:
            raise StrangerError(why)

    def _refresh(self) -> None:
        for one in (self._tokens, self._denied):
            if one is not None:
                one.refresh()

    async def watch(self, sessions: Mapping[bytes, Held]) -> None:
        """End those of `sessions`, which change meanwhile, whose tokens and certificates hold no longer; for ever."""
        suspects: set[bytes] = set()
        while self._tokens is not None or self._denied is not None:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                suspects = self.look(sessions, suspects)
            except Exception:  # a bug of ours must not let the next ones go on
                logger.exception("whose token or certificate holds no longer could not be found out")

    def look(self, sessions: Mapping[bytes, Held], suspects: Container[bytes]) -> set[bytes]:
        """End those sessions of `suspects` that may not go on; return the ids of the others that may not.

        At the second look only: somebody who writes a file anew empties it first.
        """
        self._refresh()
        found = set()
        for number, session in list(sessions.items()):
            if (why := self.why_no_longer(session.principal)) is None:
                continue
            if number not in suspects:
                found.add(number)
                continue
            logger.info("%r ends: %s", session, why)
            session.revoke(why)
        return found


def _name(certificate: bytes | None) -> str:
    try:
        name = None if certificate is None else certificate_name(certificate)
    except ValueError as error:
        raise StrangerError(f"the name in your certificate cannot be read ({error}): get another one") from error
    if name is None:
        return ANONYMOUS.name
    if (wrong := unfit(name)) is not None:
        raise StrangerError(
            f"your certificate is for {printable(name)!r}, and {wrong}: get one with another common name, from "
            f"`remote-gym certs --client NAME --ca DIR` say"
        )
    return name


def authenticator(
    token_file: str | os.PathLike[str] | None,
    deny_file: str | os.PathLike[str] | None,
    hosts: Sequence[str],
    pem: ServerPem | None,
    allow_insecure: bool,
) -> Authenticator:
    """Return who knows the clients of a server that listens on `hosts`.

    Raises:
        MisuseError: A file cannot be read, or is of no use to this server; says what to do.
    """
    if deny_file is not None and (pem is None or pem.root is None):
        raise MisuseError(
            "deny_file lists certificates of clients, and this server asks for none: add the CA's certificate as third "
            "path to require client certificates, or leave deny_file out"
        )
    if token_file is not None and pem is None and any(unix_path(host) is None for host in hosts):
        text = "tokens would travel in plaintext, where others can read and use them"
        if not allow_insecure:
            raise MisuseError(
                f"token_file: {text}: pass server_credentials_paths (make them with `remote-gym certs`), listen on a "
                f"Unix socket, or spell out allow_insecure=True"
            )
        warnings.warn(text, stacklevel=3)
    return Authenticator(
        None if token_file is None else Tokens("token_file", token_file),
        None if deny_file is None else Denied("deny_file", deny_file),
        allow_insecure,
    )
