"""Trainer process: which carrier a session gets. Direct where the server speaks it, else gRPC.

===========  ======================================================================================================
`transport`  what is dialled
===========  ======================================================================================================
"auto"       direct; gRPC where something else than our protocol is agreed (an older server, ``--grpc-only``, a gRPC
             proxy in between), or where only the proxy of the environment's variables leads to the host
"direct"     direct, or nothing
"grpc"       gRPC
===========  ======================================================================================================

That a server speaks gRPC only is remembered for the process; each session tries direct again when it has lost a
carrier. A certificate that one side does not accept is an error, never a reason for gRPC.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from remote_gym.client.carriers.carrier import Carrier, CarrierEnded, Dialer, End
from remote_gym.client.carriers.channel import FIRST_LOOK_SECONDS, MAX_DIAGNOSIS_SECONDS, Address
from remote_gym.client.carriers.connecting import NotDirect, Patience, connect
from remote_gym.client.carriers.direct import DirectCarrier
from remote_gym.client.carriers.grpc import GrpcDialer
from remote_gym.client.carriers.liveness import Watch
from remote_gym.client.carriers.proxies import proxy_for
from remote_gym.client.carriers.renewal import renewed
from remote_gym.client.carriers.waiting import said
from remote_gym.client.diagnosis.steps import Diagnosis, diagnose
from remote_gym.client.failures import not_taken
from remote_gym.client.jitter import between
from remote_gym.errors import ConnectError

logger = logging.getLogger("remote_gym.client")

TRANSPORTS = ("auto", "direct", "grpc")

BEGIN_SECONDS = 5.0
"""How long one attempt to come back may take, handshake and all; as with gRPC."""

_PAUSE_SECONDS = 0.1, 0.3
"""Between two attempts while the server is not up: at random, as many clients may wait for it."""

_NOT_YET = (ConnectionRefusedError, FileNotFoundError)


def dialer_for(address: Address, transport: str = "auto", watch: Watch | None = None) -> Dialer:
    """Return what makes the carriers of a session with `address`.

    Args:
        address: Of the server.
        transport: One of `TRANSPORTS`.
        watch: How closely the server is watched; None: as usual.
    """
    kinds: dict[str, Callable[[Address, Watch | None], Dialer]]
    kinds = {"auto": AutoDialer, "direct": DirectDialer, "grpc": GrpcDialer}
    return kinds[transport](address, watch)


class DirectDialer:
    """See `Dialer`: direct connections, one after another."""

    def __init__(self, address: Address, watch: Watch | None = None) -> None:
        """Prepare; nothing is dialled yet."""
        self._address = address
        self._watch = watch
        self._reached: DirectCarrier | None = None  # not used yet
        self._needed = True

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """See `Dialer`; the connection made here is the next carrier."""
        try:
            self.reach(timeout_seconds)
        except NotDirect as other:
            raise self.foreign(other) from other

    def foreign(self, other: NotDirect) -> ConnectError:
        """Return the error that says that the server does not speak our protocol."""
        return ConnectError(
            str(self._address),
            f"the server is there but not its direct carrier: {other}",
            [
                "the server is older than the direct carrier, or runs with --grpc-only",
                "a gRPC proxy is in between; transport='auto' and 'grpc' go through it",
            ],
        )

    def reach(self, timeout_seconds: float) -> None:
        """Do what `wait_until_ready` does.

        Raises:
            NotDirect: Something else answers.
            ConnectError, RefusedError, ProtocolError, CarrierEnded: As there.
        """
        self._needed = True
        patience = Patience(time.monotonic() + timeout_seconds, lambda: self._needed)
        began, look = time.monotonic(), FIRST_LOOK_SECONDS
        next_look = began + look
        found: Diagnosis | None = None
        seen, unlike = "no answer", 0
        while self._reached is None and patience.left_seconds:
            self._address = renewed(self._address)
            try:
                self._reached = connect(self._address, self._attempt(patience), self._watch)
                return
            except NotDirect:
                raise
            except (OSError, CarrierEnded) as error:
                patience.check_needed()
                seen = said(error)
                if isinstance(error, CarrierEnded) and error.end is End.STRANGER:
                    raise not_taken(self._address, seen) from error
                if isinstance(error, CarrierEnded) and error.end is not End.BROKEN:
                    raise ConnectError(str(self._address), f"the server takes no connection: {seen}") from error
                now = time.monotonic()
                if not isinstance(error, _NOT_YET) or now >= next_look:
                    if found is None or now >= next_look:
                        found = self._diagnose(patience)
                        look *= 2
                        next_look = time.monotonic() + look
                    if found.permanent:
                        break
                    if found.ok and isinstance(error, OSError):
                        unlike += 1
                        if unlike > 1:  # once may be chance: it has just come up
                            raise NotDirect(f"{seen}, but gRPC is answered", True) from error
                if proxy_for(self._address.host) is not None:
                    break
            patience.pause(between(*_PAUSE_SECONDS))
        if self._reached is None:
            raise self._unreached(found if found is not None else self._diagnose(patience), seen)

    def _attempt(self, patience: Patience) -> Patience:
        """Return patience for one attempt, that leaves some for finding out why it failed."""
        if proxy_for(self._address.host) is not None:
            limit = FIRST_LOOK_SECONDS  # what is to lead there is the proxy
        else:
            limit = max(patience.left_seconds - MAX_DIAGNOSIS_SECONDS, patience.left_seconds / 2)
        return Patience(time.monotonic() + limit, patience.is_needed)

    def _diagnose(self, patience: Patience) -> Diagnosis:
        address = self._address
        limit = max(0.2, min(MAX_DIAGNOSIS_SECONDS, patience.left_seconds))
        return diagnose(address.host, address.port, address.pem, limit)

    def _unreached(self, found: Diagnosis, seen: str) -> ConnectError:
        if found.ok:
            return ConnectError(str(self._address), f"the direct carrier is not to be had: {seen}")
        return ConnectError(str(self._address), found.summary, found.causes)

    def begin(self, timeout_seconds: float = BEGIN_SECONDS) -> DirectCarrier:
        """See `Dialer`.

        Raises:
            NotDirect: Something else answers; it is a `CarrierEnded`.
        """
        reached, self._reached = self._reached, None
        if reached is not None:
            return reached
        self._needed = True
        self._address = renewed(self._address)
        try:
            limit = timeout_seconds if self._watch is None else min(timeout_seconds, self._watch.silence_seconds)
            patience = Patience(time.monotonic() + limit, lambda: self._needed)
            return connect(self._address, patience, self._watch)
        except OSError as error:
            raise CarrierEnded(said(error)) from error
        except ConnectError as error:
            raise CarrierEnded(error.summary, End.OTHER) from error

    def interrupt(self) -> None:
        """See `Dialer`."""
        self._needed = False

    def close(self) -> None:
        """See `Dialer`."""
        reached, self._reached = self._reached, None
        if reached is not None:
            reached.close()


_grpc_only: dict[tuple[str, int], object] = {}
"""Hosts and ports that were seen to speak gRPC alone, each with a mark of whoever saw it first, and said so."""


class AutoDialer:
    """See `Dialer`: direct where that is possible, else gRPC."""

    def __init__(self, address: Address, watch: Watch | None = None) -> None:
        """Prepare; nothing is dialled yet."""
        self._address = address
        self._place = address.host, address.port
        self._direct = DirectDialer(address, watch)
        self._grpc = GrpcDialer(address, watch)
        self._falls_back = False  # the next carrier is to be gRPC's

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """See `Dialer`."""
        deadline = time.monotonic() + timeout_seconds
        seen: NotDirect | None = None
        if self._place not in _grpc_only:
            try:
                self._direct.reach(timeout_seconds)
                return
            except NotDirect as other:
                seen = other
            except ConnectError as error:
                if proxy_for(self._address.host) is None:
                    raise
                logger.debug("%s; going through the proxy by gRPC", error.summary)
        self._grpc.wait_until_ready(max(deadline - time.monotonic(), FIRST_LOOK_SECONDS))
        self._falls_back = True
        if seen is not None:
            self._remember(seen)

    def begin(self) -> Carrier:
        """See `Dialer`."""
        if self._falls_back:  # only once: who has lost a carrier tries direct again
            self._falls_back = False
            return self._grpc.begin()
        only_grpc = self._place in _grpc_only or proxy_for(self._address.host) is not None
        try:
            carrier = self._direct.begin(FIRST_LOOK_SECONDS if only_grpc else BEGIN_SECONDS)
        except NotDirect as other:
            self._remember(other)
            return self._grpc.begin()
        except CarrierEnded:
            if not only_grpc:
                raise
            return self._grpc.begin()
        _grpc_only.pop(self._place, None)
        self._grpc.close()
        return carrier

    def _remember(self, other: NotDirect) -> None:
        mine = object()
        if _grpc_only.setdefault(self._place, mine) is mine:  # many may see it at once
            logger.info("%s does not speak the direct carrier (%s): using gRPC", self._address, other)

    def interrupt(self) -> None:
        """See `Dialer`."""
        self._direct.interrupt()
        self._grpc.interrupt()

    def close(self) -> None:
        """See `Dialer`."""
        self._direct.close()
        self._grpc.close()
