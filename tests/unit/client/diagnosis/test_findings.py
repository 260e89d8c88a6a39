"""What can stop a connection, in words: the step, whom it concerns, what mends it, and whether waiting does."""

from __future__ import annotations

import ssl
import time
from typing import Any

import pytest

from remote_gym.client.diagnosis import findings
from remote_gym.client.diagnosis.findings import Finding, names_in_words
from remote_gym.client.diagnosis.steps import STEP_NAMES

AT = "gpu-box:1"
ERROR = ssl.SSLError(1, "[SSL: SOME_REASON] text (_ssl.c:1)")
ERROR.reason = "SOME_REASON"


def unverified(code: int, message: str = "self-signed certificate") -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "text")
    error.verify_code, error.verify_message = code, message
    return error


def unreached(*errors: OSError, host: str = "gpu-box", address: str = AT) -> Finding:
    return findings.unreached(address, host, errors, 2.5)


UNIX = {"host": "unix:/run/x.sock", "address": "unix:/run/x.sock"}
REFUSED, LATE, NO_ROUTE = ConnectionRefusedError(111, "refused"), TimeoutError("late"), OSError(113, "No route to host")

CASES: dict[str, tuple[Finding, str, str, bool]] = {
    "no such name": (
        findings.unresolved(AT, "gpu-box", OSError(-2, "unknown")),
        "address",
        "'gpu-box' does not resolve to an IP (unknown)",
        False,
    ),
    "refused": (unreached(REFUSED), "tcp", "refused the connection: nothing listens there", False),
    "one refused": (unreached(NO_ROUTE, REFUSED, LATE), "tcp", "refused the connection", False),
    "one late": (unreached(LATE, NO_ROUTE), "tcp", "did not answer within 2.5 s", False),
    "no route": (unreached(NO_ROUTE), "tcp", "cannot be reached: No route to host", False),
    "no socket": (unreached(FileNotFoundError(2, "no"), **UNIX), "tcp", "there is no such socket", False),
    "a dead socket": (unreached(REFUSED, **UNIX), "tcp", "what is there is no live server's", False),
    "another's socket": (unreached(PermissionError(13, "no"), **UNIX), "tcp", "may not be used by this user", True),
    "a socket that is none": (
        unreached(OSError(91, "Protocol wrong type"), **UNIX),
        "tcp",
        "cannot be reached: Protocol wrong",
        False,
    ),
    "gone": (findings.gone("tls", AT, ConnectionResetError(104, "reset")), "tls", "reset", False),
    "silent": (findings.silent(AT, "a greeting", 2.5, False), "tls", "did not send within 2.5 s a greeting", False),
    "closed": (
        findings.silent(AT, "a greeting", 2.5, True),
        "tls",
        "closed the connection instead of sending a greeting",
        False,
    ),
    "another service": (findings.not_grpc(AT, b"SSH\x1b"), "tls", r"it answers b'SSH\x1b'", True),
    "no HTTP/2": (findings.not_http2(AT), "tls", "not HTTP/2", True),
    "wants TLS": (findings.wants_tls(AT), "tls", "wants TLS, but this client has no credentials", True),
    "plaintext": (findings.speaks_plaintext(AT), "tls", "speaks plaintext, but this client has credentials", True),
    "nothing in common": (findings.nothing_in_common(AT, ERROR), "tls", "(some reason)", True),
    "a damaged CA": (findings.damaged_authority(AT, ERROR), "tls", "is damaged (some reason)", True),
    "untrusted": (
        findings.untrusted(AT, unverified(18), {}),
        "tls",
        "not signed by the given CA (self-signed certificate)",
        True,
    ),
    "not a server's": (findings.untrusted(AT, unverified(26), {}), "tls", "is not made for a server", True),
    "expired": (findings.untrusted(AT, unverified(10), {}), "tls", "has expired", True),
    "not yet valid": (findings.untrusted(AT, unverified(9), {}), "tls", "is not yet valid", True),
    "another name": (
        findings.wrong_name(AT, "gpu-box", [("DNS", "a"), ("IP Address", "::1")]),
        "certificate name",
        "lacks the name gpu-box; it is for a, ::1",
        True,
    ),
    "another IP": (
        findings.wrong_name(AT, "10.0.0.7", []),
        "certificate name",
        "lacks the IP 10.0.0.7; it is for no name at all",
        True,
    ),
    "a damaged pair": (findings.damaged_pair(AT, ERROR), "client certificate", "is damaged (some reason)", True),
    "none given": (
        findings.client_refused(AT, False, ""),
        "client certificate",
        "requires a client certificate, and none was given",
        True,
    ),
    "another wanted": (
        findings.client_refused(AT, True, "TLSV1_ALERT_UNKNOWN_CA"),
        "client certificate",
        "refused our client certificate (tlsv1 alert unknown ca)",
        True,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_found(name: str) -> None:
    finding, step, words, permanent = CASES[name]
    assert finding.step == step and step in STEP_NAMES
    assert words in str(finding) and finding.permanent is permanent
    assert ("unix:/run/x.sock" if "socket" in name else AT) in str(finding)
    assert finding.causes and all(isinstance(cause, str) and cause for cause in finding.causes)


@pytest.mark.parametrize("host, told", [("gpu-box", True), ("localhost", False), ("127.0.0.1", False)])
def test_only_other_machines_may_listen_on_their_loopback(host: str, told: bool) -> None:
    assert ("loopback" in " ".join(unreached(REFUSED, host=host).causes)) is told


def test_the_issuer_of_an_untrusted_certificate_is_told() -> None:
    issuer = ((("commonName", "evil\x1b[2J CA"),),)
    causes = findings.untrusted(AT, unverified(18), {"issuer": issuer}).causes
    assert r"it is signed by 'evil\\x1b[2J CA'" in causes[0]
    assert "signed by" not in findings.untrusted(AT, unverified(18), {}).causes[0]


PAST, FUTURE = "Jan  5 09:34:43 2018 GMT", "Jan  5 09:34:43 2126 GMT"


@pytest.mark.parametrize(
    "code, certificate, words",
    [
        (10, {"notAfter": PAST}, f"the certificate of {AT} has expired (notAfter {PAST})"),
        (10, {"notAfter": FUTURE}, f"the CA certificate to check {AT} with has expired"),
        (9, {"notBefore": FUTURE}, f"the certificate of {AT} is not yet valid (notBefore {FUTURE})"),
        (9, {"notBefore": PAST}, f"the CA certificate to check {AT} with is not yet valid"),
        (10, {}, f"the certificate of {AT} has expired"),
    ],
)
def test_whose_certificate_is_outside_its_validity(code: int, certificate: dict[str, Any], words: str) -> None:
    finding = findings.outside_validity(AT, code, certificate)
    assert str(finding) == words
    assert time.strftime("%Y GMT", time.gmtime()) in finding.causes[1], "this machine's clock"


def test_the_mend_of_a_wrong_name_names_it() -> None:
    causes = findings.wrong_name(AT, "gpu-box", [("DNS", "a")]).causes
    assert "--host gpu-box" in causes[0] and "{host}" not in " ".join(causes)


def test_a_peers_names_are_printable_and_few() -> None:
    assert names_in_words([("DNS", "a\x1b"), ("IP Address", "::1")]) == r"a\x1b, ::1"
    many = names_in_words([("DNS", "x" * 1_000)] * 100)
    assert many.endswith(", ...") and len(many) < 3_000


@pytest.mark.parametrize("error, text", [(OSError("alone"), "alone"), (OSError(), "OSError"), (ERROR, "some reason")])
def test_an_error_always_has_a_text(error: Exception, text: str) -> None:
    assert findings._text(error) == text
