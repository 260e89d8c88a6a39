"""What is told of sessions: one line each, the same in fields and in the audit log; no client forges one."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from remote_gym.messages import Lost
from remote_gym.server import events as module
from remote_gym.server.events import MOST, Events
from remote_gym.server.json_lines import FIELDS
from remote_gym.server.principals import Principal

ALICE = Principal("alice")


@dataclass
class Session:
    """As much of one as is told of."""

    id: bytes = bytes.fromhex("1a2b3c4d" * 4)
    principal: Principal = ALICE
    peer: str = "ipv4:127.0.0.1:50001"
    num_envs: int = 4
    began: float = field(default_factory=lambda: time.monotonic() - 12.5)
    requests: int = 7


class Audit:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def tell(self, fields: dict[str, Any]) -> None:
        self.told.append({name: value for name, value in fields.items() if value is not None})


@pytest.fixture
def audit() -> Audit:
    return Audit()


@pytest.fixture
def events(audit: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Events:
    caplog.set_level(logging.INFO, "remote_gym.server")
    # A server that other tests have left to the garbage collector may still write the log in JSON.
    monkeypatch.setattr(logging.getLogger("remote_gym.server"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("remote_gym"), "propagate", True)
    return Events(audit)


BEGINNING = "principal alice, peer ipv4:127.0.0.1:50001, 4 envs, 12.5"


@pytest.mark.parametrize(
    ("tell", "event", "more", "fields"),
    [
        (lambda told, one: told.opened(one, "1.2.3"), "opened", r", for remote_gym 1\.2\.3", {"version": "1.2.3"}),
        (
            lambda told, one: told.gone(one, 300.0), "gone",
            r", kept until \d\d:\d\d:\d\d for its client to come back", {},
        ),
        (lambda told, one: told.back(one), "back", "", {}),
        (
            lambda told, one: told.ended(one, Lost("EXPIRED", "no stream for 300 s")), "ended",
            ", EXPIRED: no stream for 300 s", {"reason": "EXPIRED", "detail": "no stream for 300 s", "requests": 7},
        ),
    ],
)  # fmt: skip
def test_one_line_for_all(
    events: Events, audit: Audit, caplog: pytest.LogCaptureFixture, tell: Any, event: str, more: str, fields: Any
) -> None:
    tell(events, Session())
    (record,) = caplog.records
    assert re.fullmatch(rf"session 1a2b3c4d {event}: {re.escape(BEGINNING)}\d s{more}", record.getMessage())
    (told,) = audit.told
    assert getattr(record, FIELDS) == told
    assert told.pop("seconds") == pytest.approx(12.5, abs=1.0)
    if event == "gone":
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", told.pop("kept_until"))
    common = {
        "event": event,
        "session": "1a2b3c4d" * 4,
        "principal": "alice",
        "peer": "ipv4:127.0.0.1:50001",
        "envs": 4,
    }
    assert told == {**common, **fields}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("alice", "alice"),
        ("CN=a@b.example/x", "CN=a@b.example/x"),
        ("alice, peer ipv4:10.0.0.1", "'alice, peer ipv4:10.0.0.1'"),
        ("a\nsession 1 ended", r"'a\\nsession 1 ended'"),
        ("", "''"),
        ("x" * 1_000, "x" * 120 + "..."),
    ],
)
def test_names_are_names(events: Events, caplog: pytest.LogCaptureFixture, name: str, shown: str) -> None:
    events.back(Session(principal=Principal(name)))
    assert f"back: principal {shown}, peer ipv4" in caplog.records[0].getMessage()


def test_what_a_client_chooses_forges_nothing(events: Events, audit: Audit, caplog: pytest.LogCaptureFixture) -> None:
    evil = "x\r\n2026-01-01 00:00:00 INFO remote_gym.server: session ended\x1b[2J\x00\u202e"
    session = Session(peer=evil)
    events.opened(session, evil)
    events.refused("open", ALICE, evil, "request", evil)
    events.refused("request", ALICE, evil, "request", evil, session)
    events.admin(1000, "end", session=evil)
    events.ended(session, Lost("BROKEN", evil))
    for record in caplog.records:
        assert record.getMessage().isprintable()
    for told in audit.told:
        for name in {"peer", "text", "version", "detail"} & set(told):
            assert told[name].isprintable(), name


def test_refused_requests_are_in_the_audit_log_alone(
    events: Events, audit: Audit, caplog: pytest.LogCaptureFixture
) -> None:
    events.refused("request", ALICE, "p", "in_flight", "busy", Session())
    assert not caplog.records
    events.refused("open", ALICE, "p", "max_envs", "too many")
    assert caplog.records[0].getMessage() == "refused to open: principal alice, peer p, max_envs: too many"
    assert audit.told == [
        {
            "event": "refused", "action": "request", "principal": "alice", "peer": "p", "limit": "in_flight",
            "text": "busy", "session": "1a2b3c4d" * 4,
        },
        {
            "event": "refused", "action": "open", "principal": "alice", "peer": "p", "limit": "max_envs",
            "text": "too many",
        },
    ]  # fmt: skip


def test_a_flood_of_refusals_is_counted(events: Events, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    for _ in range(1_000):
        events.refused("request", ALICE, "p", "in_flight", "busy")
    events.refused("request", Principal("bob"), "p", "in_flight", "busy")
    events.refused("request", ALICE, "p", "request", "wrong")
    assert len(audit.told) == MOST + 2, "one's flood hides nobody else's, and nothing else"
    now[0] += module.WITHIN_SECONDS + 1.0
    events.refused("request", ALICE, "p", "in_flight", "busy")
    assert audit.told[-1]["left_out"] == 1_000 - MOST


def test_a_session_that_comes_and_goes_without_end_is_counted(
    events: Events, audit: Audit, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    session = Session()
    for _ in range(500):
        events.gone(session, 1.0)
        events.back(session)
    assert len(audit.told) == 2 * MOST
    events.back(Session(id=b"b" * 16))
    now[0] += module.WITHIN_SECONDS + 1.0
    events.gone(session, 1.0)
    assert audit.told[-1]["left_out"] == 500 - MOST
    assert caplog.records[-1].getMessage().endswith(f"({500 - MOST} more like this were left out)")


def test_kinds_of_refusals_take_no_memory(events: Events) -> None:
    for number in range(3 * module.MAX_KINDS):
        events.refused("open", Principal(str(number)), "p", "max_envs", "")
    assert len(events._kinds) == module.MAX_KINDS


def test_a_servers_end_is_that_of_its_sessions(events: Events, audit: Audit, caplog: pytest.LogCaptureFixture) -> None:
    session = Session()
    events.stopping([session])
    events.gone(session, 300.0)  # its connection ends after the server
    events.ended(session, Lost("CLOSED", "too late"))
    events.stopping([])
    assert [(one["event"], one.get("reason")) for one in audit.told] == [("ended", "STOPPED"), ("stopped", None)]
    assert len(caplog.records) == 1


def test_without_an_audit_log_there_is_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "remote_gym.server")
    Events().back(Session())
    assert len(caplog.records) == 1
