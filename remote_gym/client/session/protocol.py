"""Trainer process, no I/O: what a session decides. When to attach, what an arriving message means, patience, the end.

`Reader` performs it: it has the thread, the carrier and the clock. So whatever can go wrong on the way is a call here.
Requests and answers are `Outstanding`'s.

Threads: the reader calls `began`, `arrived` and `ended`; the caller `waited`; any thread `close`, `lose` and `misread`.
Relied on: each attribute is assigned whole.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Any

from remote_gym.client.carriers.carrier import CarrierEnded, End
from remote_gym.client.failures import not_opened, refusal, session_lost, unreadable
from remote_gym.client.opened import check_lease, check_opened
from remote_gym.client.session import pace
from remote_gym.client.session.outstanding import Outstanding
from remote_gym.client.session.pace import back_off
from remote_gym.client.tracing import Trace
from remote_gym.errors import ProtocolError, RefusedError, RemoteGymError, SessionLost
from remote_gym.messages import Attach, Attached, Closed, Draining, Lost, Open, Opened, Refused, ServerMessage
from remote_gym.version import __version__
from remote_gym.wire.codec import PROTOCOL_MAX, PROTOCOL_MIN, pack_client


class Phase(Enum):
    """Where a session stands with its server."""

    NEW = "no carrier has begun"
    OPENING = "Open was sent, or is to be sent again"
    DETACHED = "open, and no carrier has it"
    ATTACHING = "Attach was sent"
    ATTACHED = "a carrier has it"


class SessionProtocol:
    """One session.

    Attributes:
        phase: Where it stands.
        outstanding: What was asked, and what has come.
        opened: What the server told when it was opened; None before.
        lost: What every use raises from now on; None while all is well.
        distrusted: Whether nothing in the inbox is to be read any more, either.
        closing: Whether it is to end.
        orphaned: Whether it was given up, with a server that may still have it: if that is seen again, it is closed.
        ending: Whether nothing is left to be said but Close, for either reason.
        draining: Whether the server has said that it is going away.
        on_draining: Called then. Settable.
        close_sent: Whether the carrier has been given Close.
        awaited: Whether somebody waits for answers.
        not_before: On the monotonic clock: when the next carrier may begin.
        patience: Seconds that are left for attaching; see `waited`.
        trace: Records how often a carrier is replaced; None: nobody does.
    """

    def __init__(
        self, message: Open, peer: object, connect_timeout: float, reconnect_timeout: float, prompt: bool = False
    ) -> None:
        """Prepare to open with `message`; `peer` names the server in errors.

        `prompt`: whether `reconnect_timeout` runs also while nobody waits, from when the server was last heard on.
        """
        self._peer = peer
        self._message = replace(
            message,
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            nonce=secrets.token_bytes(16),  # one for all attempts: the server opens nothing twice
            client_version=__version__,
        )
        self._connect_timeout = connect_timeout
        self._reconnect_timeout = reconnect_timeout
        self._prompt = prompt
        self._gone_at = math.inf  # when a server that was not reached again is given up, with `prompt`
        self.phase = Phase.NEW
        self.opened: Opened | None = None
        self.lost: Exception | None = None
        self.distrusted = False
        self.closing = False
        self.orphaned = False
        self.ending = False
        self.draining = False
        self.on_draining: Callable[[], None] | None = None
        self.awaited = False
        self.outstanding = Outstanding(message.num_envs)
        self.not_before = -math.inf
        self.patience = 0.0
        self._be_patient()
        self.close_sent = False
        self.trace: Trace | None = None
        self._closed = False  # the server has said so, or nobody is left to say it
        self._closing_since = math.inf
        self._began_at = self._attached_at = -math.inf
        self._attempts = 0  # since a carrier last had the session
        self._deadline = 0.0  # of opening, once an attempt has failed
        self._fruitless = 0  # carriers in a row that ended at once
        self._unheard = 0  # attempts to open or attach without an answer, of which the server may hear late
        self._answers = 0  # that were here when the carrier began
        self._last_end = "no answer"
        self._told = False  # over this carrier, that the server is going away

    # What the caller does

    def waited(self, seconds: float, now: float = -math.inf) -> None:
        """Take note that somebody has waited: patience runs only meanwhile, and only without a carrier.

        A server that takes us back only to break the carrier again wears patience out, too.
        """
        attached = self.phase is Phase.ATTACHED
        if self.opened is None or (attached and (self._fruitless <= 1 or self._bore_fruit)):
            return
        if self._prompt and not attached:  # by the clock: somebody may have waited while the carrier was there
            self.patience = min(self.patience, self._gone_at - now)
        else:
            self.patience -= min(seconds, pace.STANDS_SECONDS) if attached else seconds
        if self.patience <= 0 and not attached:
            self._give_up(now)

    def _give_up(self, now: float) -> None:
        if self._prompt and self.lost is None:
            self.orphaned = self.ending = True
            self._closing_since = now
        detail = f"{self._peer} could not be reached again for {self._reconnect_timeout:g} s: {self._last_end}"
        self.lose(SessionLost("UNREACHABLE", detail))

    @property
    def wait_limit(self) -> float | None:
        """For how many seconds to wait before `waited` is to be told; None: no limit."""
        return None if self.opened is None or self.phase is Phase.ATTACHED else self.patience

    def close(self, now: float) -> None:
        """Let the session end: Close follows whatever was sent, an Open that is not answered too."""
        self.closing = self.ending = True
        self._closing_since = min(self._closing_since, now)
        self.not_before = min(self.not_before, now)
        if self.phase is Phase.NEW:
            self._closed = True  # the server has never heard of it

    # What any thread does

    def lose(self, error: Exception) -> Exception:
        """Let every use raise `error` from now on, unless it raises something already; return it."""
        if self.lost is None:
            self.lost = error
        return error

    def misread(self, error: Exception) -> Exception:
        """End the session, whose server does not keep to the contract; return the exception to raise.

        The one point through which everything goes that reading an answer provokes: from here on, whatever uses the
        session raises the same, and nothing waits for what will not come.
        """
        failure = unreadable(self._peer, error)
        self.orphaned = False  # whoever it is that we have met there
        if isinstance(failure, RemoteGymError):
            self.lose(failure)
        return failure

    @property
    def over(self) -> bool:
        """Whether no carrier is of any use any more."""
        return self._closed or (self.lost is not None and not self.orphaned)

    @property
    def needs_carrier(self) -> bool:
        """Whether there is something to say or to hear, and nobody who carries it."""
        wanted = self.opened is None or self.ending or self.awaited or self._prompt or bool(self.outstanding.sent)
        return wanted and self.phase in (Phase.NEW, Phase.OPENING, Phase.DETACHED)

    # What the reader does

    def awoke(self, now: float) -> None:
        """Take note that there is a thread again, which a fork has ended: nobody has looked for the server since."""
        if self._prompt and self.phase is Phase.DETACHED:
            self._gone_at = now + self._reconnect_timeout

    def began(self, now: float) -> bytes:
        """Return what a new carrier is to carry first."""
        self._began_at = now
        self.outstanding.unasked = 0
        self._answers = self.outstanding.answers
        self._told = False
        if self.opened is None:
            self.phase = Phase.OPENING
            self.close_sent = False
            return pack_client(self._message)
        self.phase = Phase.ATTACHING
        opened = self.opened
        missing = [] if self.orphaned else self.outstanding.missing()
        known = opened.session_id, opened.token, opened.server_epoch, opened.protocol
        return pack_client(Attach(*known, missing, b"" if self.trace is None else self.trace.attaching(self)))

    @property
    def is_to_say_close(self) -> bool:
        """Whether Close is what the carrier is to carry next."""
        return self.ending and not self.close_sent and self.phase in (Phase.OPENING, Phase.ATTACHED)

    def arrived(self, message: ServerMessage, now: float) -> None:
        """Deal with a message that is no answer to a request, or comes where there can be none.

        Raises:
            ProtocolError: The contract does not allow it here.
            CarrierEnded: The carrier is of no use any more, and another one may be.
        """
        _MEANINGS.get((self.phase, type(message)), _astray)(self, message, now)

    def _was_opened(self, opened: Any, now: float) -> None:
        check_opened(opened, self._message)
        self.opened = opened
        self._carried(now)

    def _was_refused(self, refused: Any, now: float) -> None:
        self._closed = self.closing
        self.lose(refusal(refused))

    def _was_attached(self, attached: Any, now: float) -> None:
        check_lease(attached.lease_seconds)
        if self.trace is not None:
            self.trace.attached(self)
        if attached.highest > self.outstanding.highest:
            raise ProtocolError(
                f"the server has got request {attached.highest}, the last was {self.outstanding.highest}"
            )
        self.outstanding.carried = attached.highest
        self.outstanding.reattached += 1
        if self._fruitless <= 1:
            self._be_patient()
        self._carried(now)

    def _carried(self, now: float) -> None:
        self._attempts = 0
        self._attached_at = now
        self.close_sent = self.close_sent and self.phase is Phase.OPENING
        self.phase = Phase.ATTACHED

    def _was_told(self, _draining: Any, _now: float) -> None:
        if self._told:
            raise ProtocolError("Draining twice over one carrier")
        self.draining = self._told = True
        if self.on_draining is not None:
            self.on_draining()

    def _was_lost(self, lost: Any, now: float) -> None:
        if lost.reason == "FENCED" and self._unheard and self.phase is Phase.ATTACHED:
            # Maybe by an attempt of our own that has arrived late. If it was someone else, they are told now.
            self._unheard -= 1
            raise CarrierEnded("another carrier has the session")
        self._closed = self.ending
        self.lose(session_lost(lost.reason, lost.detail))

    def _was_closed(self, _closed: Any, _now: float) -> None:
        if not self.ending:
            raise ProtocolError("Closed in the middle of a session")
        self._closed = True

    def ended(self, ended: CarrierEnded, now: float) -> None:
        """Take note that the carrier is over, or that none could begin: decide when to try again, if at all."""
        detail = self._last_end = str(ended) or "no answer"
        if self.trace is not None:
            self.trace.attached(self, detail)
        if self.phase is Phase.ATTACHED:
            self._count_fruitless(now)
        elif self.phase in (Phase.OPENING, Phase.ATTACHING):
            self._unheard = min(self._unheard + 1, pace.MAX_UNHEARD)
        lease = self.opened.lease_seconds if self.orphaned and self.opened is not None else None
        in_vain = self.orphaned and ended.end is not End.BROKEN
        if in_vain or (self.ending and now - self._closing_since > pace.seconds_to_close(lease)):
            self._closed = True  # the lease will end it
        if self.opened is None:
            self._not_opened(ended, now)
            return
        was, self.phase = self.phase, Phase.DETACHED
        if ended.end is End.STRANGER:
            self.lose(session_lost("REVOKED", detail))
        elif was is Phase.ATTACHED and ended.end is End.MISUNDERSTOOD:
            self.lose(ProtocolError(f"{self._peer} did not understand us: {detail}"))
        elif was is Phase.ATTACHED and ended.end is End.OVERSIZE:
            self.lose(RefusedError(f"{self._peer} refused a message: {detail}", "max_message_bytes"))
        if self._prompt:
            self._run_out(was, ended, now)
        self.not_before = now + back_off(max(0, self._fruitless - 1) + self._attempts)
        if self.orphaned:
            self.not_before = now + pace.ORPHANED_PAUSE_SECONDS
        self._attempts += 1

    def _run_out(self, was: Phase, ended: CarrierEnded, now: float) -> None:
        """Let the time run, from when the server was last heard on; at least one attempt is made."""
        if was is Phase.ATTACHED:
            self.patience = max(pace.MIN_PATIENCE_SECONDS, self.patience - ended.silent_seconds)
            self._gone_at = now + self.patience
        elif now >= self._gone_at:
            self._give_up(now)

    def _count_fruitless(self, now: float) -> None:
        """Take note that the carrier is over: one that ends again and again must not be replaced without a pause."""
        if now - self._attached_at > pace.STANDS_SECONDS:
            self._fruitless = 0
            self._be_patient()
        else:
            self._fruitless = 1 if self._bore_fruit else self._fruitless + 1

    @property
    def _bore_fruit(self) -> bool:
        return self.outstanding.answers > self._answers

    def _be_patient(self) -> None:
        self.patience = max(self._reconnect_timeout, pace.MIN_PATIENCE_SECONDS)

    def _not_opened(self, ended: CarrierEnded, now: float) -> None:
        """Ask again with the same nonce, which opens nothing twice, for `connect_timeout` from the first failure on."""
        if not self._attempts or now - self._began_at > self._connect_timeout:  # it stood for long: another outage
            self._attempts, self._deadline = 0, now + self._connect_timeout
        self.not_before = now + back_off(self._attempts)
        self._attempts += 1
        if self.not_before > self._deadline or ended.end is not End.BROKEN:
            self.lose(not_opened(self._peer, ended))


def _astray(protocol: SessionProtocol, message: ServerMessage, _now: float) -> None:
    places = {Phase.OPENING: "in answer to Open", Phase.ATTACHING: "in answer to Attach"}
    raise ProtocolError(f"{type(message).__name__} {places.get(protocol.phase, 'in the middle of a session')}")


_MEANINGS: dict[tuple[Phase, type[Any]], Callable[[SessionProtocol, Any, float], None]] = {
    (Phase.OPENING, Opened): SessionProtocol._was_opened,
    (Phase.OPENING, Refused): SessionProtocol._was_refused,
    (Phase.ATTACHING, Attached): SessionProtocol._was_attached,
    (Phase.ATTACHING, Lost): SessionProtocol._was_lost,
    (Phase.ATTACHED, Lost): SessionProtocol._was_lost,
    (Phase.ATTACHED, Draining): SessionProtocol._was_told,
    (Phase.ATTACHED, Closed): SessionProtocol._was_closed,
}
"""What a message means in which phase. Whatever is not here, the contract does not allow."""
