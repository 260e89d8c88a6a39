"""Server process: what happens to sessions, told once each: a line of the log, its fields, and the audit log.

A session is *opened*; when its carrier ends it is *gone*, and kept until its lease ends; it comes *back*; it *ended*.
Whoever is *refused* is told of as well: at opening and attaching in the log, requests in the audit log alone. What a
client has chosen, its peer's name, its version, the text of a refusal, is escaped: it forges no line.
"""

from __future__ import annotations

import logging
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

from remote_gym.messages import Lost
from remote_gym.server.audit import AuditLog
from remote_gym.server.json_lines import FIELDS, utc
from remote_gym.server.principals import Principal
from remote_gym.texts import printable

logger = logging.getLogger("remote_gym.server")

MAX_TEXT_CHARACTERS = 400
"""Of what a refusal says, which may repeat what a client has sent."""

MOST, WITHIN_SECONDS = 20, 10.0
"""How often a principal's refusals of one kind, or a session's comings and goings, are told of within how long: a flood
of them fills no disk."""

MAX_KINDS = 4_096
"""Of what is counted for that."""


_WORD = re.compile(r"[^\s,'\"]+")


class Told(Protocol):
    """A session, as far as it is told of."""

    id: bytes
    principal: Principal
    peer: str
    num_envs: int
    began: float

    @property
    def requests(self) -> int:
        """How many it was sent."""


@dataclass
class _Kind:
    """What is told of again and again."""

    since: float
    told: int = 0
    left_out: int = 0


class Events:
    """Tells of one server's sessions. All methods are called on its event loop."""

    def __init__(self, audit: AuditLog | None = None) -> None:
        """Tell the log, and `audit` if there is one."""
        self._audit = audit
        self._kinds: OrderedDict[tuple[str, str, str], _Kind] = OrderedDict()
        self._has_stopped = False

    def opened(self, session: Told, version: str) -> None:
        """A session has been opened, by a client of `version`."""
        version = printable(version) or "of no version that it tells"
        self._tell("opened", session, f"for remote_gym {version}", version=version)

    def gone(self, session: Told, kept_seconds: float) -> None:
        """Its client has gone; the session is kept for so long."""
        if (left_out := self._left_out((session.id.hex(), "gone", ""))) is None:
            return
        until = time.time() + kept_seconds
        clock = time.strftime("%H:%M:%S", time.localtime(until))
        said = f"kept until {clock} for its client to come back{_more(left_out)}"
        self._tell("gone", session, said, kept_until=utc(until), left_out=left_out or None)

    def back(self, session: Told) -> None:
        """Its client has come back."""
        if (left_out := self._left_out((session.id.hex(), "back", ""))) is not None:
            self._tell("back", session, _more(left_out).strip(), left_out=left_out or None)

    def ended(self, session: Told, reason: Lost) -> None:
        """It has ended."""
        detail = printable(reason.detail, MAX_TEXT_CHARACTERS)
        said = f"{reason.reason}: {detail}"
        self._tell("ended", session, said, reason=reason.reason, detail=detail, requests=session.requests)

    def _tell(self, event: str, session: Told, said: str, **more: Any) -> None:
        if self._has_stopped:
            return
        name, peer = _who(session.principal, session.peer)
        seconds = time.monotonic() - session.began
        fields = {
            "event": event, "session": session.id.hex(), "principal": name, "peer": peer, "envs": session.num_envs,
            "seconds": round(seconds, 3), **{name: value for name, value in more.items() if value is not None},
        }  # fmt: skip
        logger.info(
            "session %s %s: principal %s, peer %s, %d envs, %.2f s%s",
            session.id.hex()[:8], event, _word(name), _word(peer), session.num_envs, seconds, said and f", {said}",
            extra={FIELDS: fields},
        )  # fmt: skip
        self._record(fields)

    def refused(
        self, action: str, principal: Principal, peer: str, limit: str, text: str, session: Told | None = None
    ) -> None:
        """Somebody was refused what they wanted: to ``"open"``, to ``"attach"``, or a ``"request"`` of a session."""
        name, peer = _who(principal, peer)
        if (left_out := self._left_out((name, action, limit))) is None:
            return
        text = printable(text, MAX_TEXT_CHARACTERS)
        fields = {
            "event": "refused", "action": action, "session": None if session is None else session.id.hex(),
            "principal": name, "peer": peer, "limit": limit, "text": text, "left_out": left_out or None,
        }  # fmt: skip
        if action != "request":
            logger.info(
                "refused to %s: principal %s, peer %s, %s: %s%s", action, _word(name), _word(peer), limit, text,
                _more(left_out), extra={FIELDS: fields},
            )  # fmt: skip
        self._record(fields)

    def _left_out(self, key: tuple[str, str, str]) -> int | None:
        """Return how many of its kind were left out before this one; None if it is left out itself."""
        now = time.monotonic()
        kind = self._kinds.setdefault(key, _Kind(now))
        self._kinds.move_to_end(key)
        while len(self._kinds) > MAX_KINDS:
            self._kinds.popitem(last=False)
        if now - kind.since > WITHIN_SECONDS:
            kind.since, kind.told = now, 0
        if kind.told >= MOST:
            kind.left_out += 1
            return None
        kind.told += 1
        left_out, kind.left_out = kind.left_out, 0
        return left_out

    def admin(self, uid: int | None, action: str, **fields: Any) -> None:
        """The owner has asked for something, or somebody else was refused it."""
        who = "a user" if uid is None else f"uid {uid}"
        said = "".join(f", {name} {printable(str(value))}" for name, value in fields.items())
        told = {"event": "admin", "action": action, "uid": uid, **fields}
        logger.info("admin socket: %s by %s%s", action, who, said, extra={FIELDS: told})
        self._record(told)

    def serving(self, addresses: list[str]) -> None:
        """The server is up."""
        self._record({"event": "serving", "addresses": addresses})

    def stopping(self, sessions: list[Told]) -> None:
        """The server ends, and `sessions` with it; nothing more is told of any."""
        for session in sessions:
            self.ended(session, Lost("STOPPED", "the server has stopped"))
        if not self._has_stopped:
            self._record({"event": "stopped"})
        self._has_stopped = True

    def _record(self, fields: dict[str, Any]) -> None:
        if self._audit is not None:
            self._audit.tell(fields)


def _more(left_out: int) -> str:
    return f" ({left_out} more like this were left out)" if left_out else ""


def _word(text: str) -> str:
    """Return a name as it stands in a line of the log: one that could be taken for more than a name is in quotes."""
    return text if text and _WORD.fullmatch(text) else repr(text)


def _who(principal: Principal, peer: str) -> tuple[str, str]:
    return printable(principal.name), printable(peer) or "unknown"
