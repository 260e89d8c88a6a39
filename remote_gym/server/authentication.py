"""Server process: what a client has shown -> who it is, or why nobody; and who is so no longer.

===================  ============================================================================================
who connects by      is, the first that applies
===================  ============================================================================================
TLS                  what its token is called; what its certificate is; ``anonymous``
a Unix socket        what its token is called; ``uid:N`` of this machine
plaintext            what its token is called, if the owner has allowed plaintext; ``anonymous``
===================  ============================================================================================
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from remote_gym.server.certificate_names import certificate_name
from remote_gym.server.principals import ANONYMOUS, Principal, of_user, unfit
from remote_gym.server.refusals import RefusalError
from remote_gym.texts import printable

LIMIT = "authentication"


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
    """

    is_private: bool
    certificate: bytes | None = None
    uid: int | None = None


class Authenticator:
    """Who may use one server, and as whom."""

    def principal(self, shown: Shown) -> Principal:
        """Return who has shown that.

        Raises:
            StrangerError: Nobody whom this server takes; says what to do.
        """
        if shown.uid is not None:
            return of_user(shown.uid)
        if shown.certificate is None:
            return ANONYMOUS
        fingerprint = hashlib.sha256(shown.certificate).digest()
        return Principal(_name(shown.certificate), fingerprint=fingerprint)


def _name(certificate: bytes) -> str:
    try:
        name = certificate_name(certificate)
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
