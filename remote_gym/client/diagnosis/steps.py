"""Trainer process: why could we not connect? Plain sockets and ssl, no gRPC.

gRPC reports a wrong CA, a missing client certificate, plaintext against TLS and a server that is merely down all as
UNAVAILABLE. This module dials the server once more by hand, step by step, and names the first step that fails::

    address -> tcp -> tls -> certificate name -> client certificate
                       └─ without credentials: plaintext HTTP/2, and the last two steps do not apply

The order of the steps is here, the connections are in `probe`, the words in `findings`. A gRPC server speaks first
(RFC 9113, 3.4: a SETTINGS frame), so whoever receives bytes has been accepted.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remote_gym.addresses import join_address, unix_path
from remote_gym.client.diagnosis import findings, socket_owner
from remote_gym.client.diagnosis.certificate_names import certificate_names, covers
from remote_gym.client.diagnosis.findings import Finding
from remote_gym.client.diagnosis.handshake import is_settings
from remote_gym.client.diagnosis.probe import Endpoint, Probe, load_client_certificate, tls_context
from remote_gym.credentials import ClientPem
from remote_gym.errors import ConnectError

STEP_NAMES = ("address", "tcp", "tls", "certificate name", "client certificate")

# What OpenSSL says, depending on its version, if the first bytes it receives are no TLS record.
_NOT_TLS_REASONS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})


@dataclass(frozen=True)
class Step:
    """One step of a connection.

    Attributes:
        name: One of `STEP_NAMES`.
        ok: Whether it succeeded; None if it was not reached or does not apply.
        detail: What was seen, for people.
    """

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True)
class Diagnosis:
    """What a connection by hand has shown.

    Attributes:
        steps: One per name in `STEP_NAMES`, in this order; at most one has failed.
        summary: What happened, with ``host:port``.
        causes: Likely causes and their mends, most likely first.
        permanent: Waiting will not help: somebody has to change the address, a certificate or a setting.
    """

    steps: tuple[Step, ...]
    summary: str
    causes: tuple[str, ...]
    permanent: bool

    @property
    def ok(self) -> bool:
        """Whether no step failed: the server is there and accepts us."""
        return all(step.ok is not False for step in self.steps)


def diagnose(host: str, port: int, pem: ClientPem | None, timeout_seconds: float) -> Diagnosis:
    """Dial a server by hand and tell what stops a connection.

    Args:
        host: A name or an IP, without brackets, or ``unix:/path``.
        port: The TCP port.
        pem: What the client proves and trusts; None for plaintext.
        timeout_seconds: A bound on the time of all steps together.

    Returns:
        The diagnosis; what goes wrong with the network or the peer is told in it and never raised.
    """
    examination = _Examination(Probe(host, port, timeout_seconds, None if pem is None else pem.server_name), pem)
    try:
        examination.run()
    except Finding as finding:
        examination.failed(finding)
        return Diagnosis(examination.steps(), str(finding), finding.causes, finding.permanent)
    summary = f"{examination.address} is reachable and answers as gRPC does"
    return Diagnosis(examination.steps(), summary, _proxy_causes(), permanent=False)


class _Examination:
    """One run over the steps; every method either records its step as good or raises a `Finding`."""

    def __init__(self, probe: Probe, pem: ClientPem | None) -> None:
        self.probe = probe
        self.pem = pem
        self.address = probe.address
        self._seen: dict[str, Step] = {}

    def run(self) -> None:
        step = "address"
        try:
            endpoints = self._look_up()
            step = "tcp"
            self._reach(endpoints)
            step = "tls"
            if self.pem is None:
                self._plaintext()
            else:
                self._tls(self.pem)
        except OSError as error:
            raise findings.gone(step, self.address, error) from error

    def steps(self) -> tuple[Step, ...]:
        return tuple(self._seen.get(name, Step(name, None, "not reached")) for name in STEP_NAMES)

    def failed(self, finding: Finding) -> None:
        for name in STEP_NAMES[STEP_NAMES.index(finding.step) :]:
            self._seen.pop(name, None)  # what looked good beyond the failure is not to distract from it
        self._seen[finding.step] = Step(finding.step, False, str(finding))

    def _good(self, step: str, detail: str) -> None:
        self._seen[step] = Step(step, True, detail)

    def _does_not_apply(self, step: str, detail: str) -> None:
        self._seen[step] = Step(step, None, detail)

    # ---- address, tcp

    def _look_up(self) -> list[Endpoint]:
        try:
            endpoints = self.probe.look_up()
        except (OSError, UnicodeError, OverflowError) as error:
            raise findings.unresolved(self.address, self.probe.host, error) from None
        self._good("address", ", ".join(self._words(endpoint) for endpoint in endpoints))
        return endpoints

    def _words(self, endpoint: Endpoint) -> str:
        return str(endpoint[1] if unix_path(self.probe.host) else endpoint[1][0])

    def _reach(self, endpoints: Sequence[Endpoint]) -> None:
        errors: list[OSError] = []
        for index, endpoint in enumerate(endpoints):
            self.probe.endpoint = endpoint  # the first that answers stays
            try:
                self.probe.dial(share=1 / (len(endpoints) - index)).close()
            except OSError as error:
                errors.append(error)
            else:
                self._check_owner()
                self._good("tcp", f"connected to {self._reached(endpoint)}")
                return
        raise findings.unreached(self.address, self.probe.host, errors, self.probe.timeout_seconds)

    def _check_owner(self) -> None:
        if (path := unix_path(self.probe.host)) is not None:
            try:
                socket_owner.check(path)
            except ConnectError as error:
                raise Finding("tcp", error.summary, error.causes, permanent=True) from error

    def _reached(self, endpoint: Endpoint) -> str:
        return self.address if unix_path(self.probe.host) else join_address(endpoint[1][0], self.probe.port)

    # ---- plaintext

    def _plaintext(self) -> None:
        answer = self.probe.plaintext_answer(share=0.5)  # the other half is for the question whether it is TLS
        if is_settings(answer):
            self._good("tls", "no TLS on either side; the server speaks plaintext HTTP/2")
            for step in ("certificate name", "client certificate"):
                self._does_not_apply(step, "no TLS")
            return
        if self.probe.answers_tls():
            raise findings.wants_tls(self.address)
        if answer:
            raise findings.not_grpc(self.address, answer)
        raise self._silent("an HTTP/2 greeting", closed=answer is not None)

    def _silent(self, what: str, closed: bool) -> Finding:
        return findings.silent(self.address, what, self.probe.timeout_seconds, closed)

    # ---- TLS

    def _tls(self, pem: ClientPem) -> None:
        context = self._verifying_context(pem)
        try:
            with self.probe.handshake(context) as tls:
                self._good("tls", f"{tls.version()}, certificate signed by the given CA")
                if tls.selected_alpn_protocol() != "h2":  # gRPC's own clients insist on it, too
                    raise findings.not_http2(self.address)
                self._check_name(tls.getpeercert() or {}, pem)
                self._check_accepted(tls, pem)
        except ssl.SSLCertVerificationError as error:
            raise findings.untrusted(self.address, error, self.probe.unverified_certificate()) from error
        except TimeoutError as error:
            raise self._silent("the answer of a TLS handshake", closed=False) from error
        except (ssl.SSLError, ConnectionError) as error:
            raise self._broken_handshake(error, pem) from error

    def _verifying_context(self, pem: ClientPem) -> ssl.SSLContext:
        """Return a context that checks the CA; the name is checked later, so that the two can be told apart."""
        try:
            context = tls_context(pem.root.decode("ascii", "ignore"))
        except ssl.SSLError as error:
            raise findings.damaged_authority(self.address, error) from error
        try:
            load_client_certificate(context, pem)
        except ssl.SSLError as error:
            raise findings.damaged_pair(self.address, error) from error
        return context

    def _check_name(self, certificate: Mapping[str, Any], pem: ClientPem) -> None:
        names = certificate_names(certificate)
        wanted = pem.server_name or self.probe.host
        if not any(covers(wanted, kind, name) for kind, name in names):
            raise findings.wrong_name(self.address, wanted, names, given=pem.server_name is not None)
        self._good("certificate name", f"the certificate is for {findings.names_in_words(names)}")

    def _check_accepted(self, tls: ssl.SSLSocket, pem: ClientPem) -> None:
        # With TLS 1.3 the client's side of the handshake ends before the server has looked at our certificate; its
        # refusal shows on the first read: as an alert or, from a gRPC server, as a mere end of the connection.
        greeting = self.probe.greeting(tls)
        if not greeting:
            raise ConnectionResetError("closed after the handshake")
        if not is_settings(greeting):
            raise findings.not_grpc(self.address, greeting)
        self._good("client certificate", "accepted" if pem.certificate else "none given, and none is needed")

    def _broken_handshake(self, error: OSError, pem: ClientPem) -> Finding:
        """Say why a handshake ended in anything but a bad server certificate."""
        reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
        if "ALERT" in reason:
            if "CERT" in reason or "UNKNOWN_CA" in reason or self.probe.asks_for_client_certificate():
                return self._client_refused(pem, reason)
            return findings.nothing_in_common(self.address, error)
        answer = self.probe.plaintext_answer(share=0.5)
        if is_settings(answer):
            return findings.speaks_plaintext(self.address)
        if reason in _NOT_TLS_REASONS:
            return findings.not_grpc(self.address, answer or b"no TLS")
        if self.probe.asks_for_client_certificate():
            return self._client_refused(pem, "")
        return self._silent("the answer of a TLS handshake", closed=True)

    def _client_refused(self, pem: ClientPem, reason: str) -> Finding:
        self._seen.setdefault("tls", Step("tls", True, "the server answers TLS"))
        return findings.client_refused(self.address, pem.certificate is not None, reason)


def _proxy_causes() -> tuple[str, ...]:
    """Name the proxy, which gRPC uses and a plain socket does not, if the environment has one."""
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        if os.environ.get(name):
            return (f"gRPC may have used the proxy of the environment variable {name}; add the host to no_proxy",)
    return ()
