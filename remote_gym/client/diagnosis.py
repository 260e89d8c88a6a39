"""Trainer process: why could we not connect? Plain sockets and ssl, no gRPC.

gRPC reports a wrong CA, a missing client certificate, plaintext against TLS and a server that is merely down all as
UNAVAILABLE. This module dials the server once more by hand, step by step, and names the first step that fails::

    address -> tcp -> tls -> certificate name -> client certificate
                       └─ without credentials: plaintext HTTP/2, and the last two steps do not apply

A connection is given up as soon as the server has shown what is to be seen; nothing is ever executed on it. A gRPC
server speaks first (RFC 9113, 3.4: a SETTINGS frame), so whoever receives bytes has been accepted.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import queue
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote_gym.credentials import ClientPem, is_loopback, join_address

STEP_NAMES = ("address", "tcp", "tls", "certificate name", "client certificate")

_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"  # an empty HTTP/2 SETTINGS frame (RFC 9113, 6.5)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS
_SHORTEST_WAIT_SECONDS = 0.01  # of a socket when the time is up: 0 would mean "do not block", None "for ever"

# X509_verify_cert_error codes and flags of OpenSSL that the module `ssl` has no names for.
_NOT_YET_VALID, _EXPIRED, _INVALID_PURPOSE = 9, 10, 26
_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)

# What OpenSSL says, depending on its version, if the first bytes it receives are no TLS record.
_NOT_TLS_REASONS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})

_ADD_NAME = (
    "add {host} to `hosts` in server-csr.json and sign the server certificate again, or make new ones with "
    "`remote-gym certs DIR --host {host}`; then restart the server with it"
)


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
        host: A name or an IP, without brackets.
        port: The TCP port.
        pem: What the client proves and trusts; None for plaintext.
        timeout_seconds: A bound on the time of all steps together.

    Returns:
        The diagnosis; what goes wrong with the network or the peer is told in it and never raised.
    """
    examination = _Examination(host, port, pem, timeout_seconds)
    try:
        examination.run()
    except _Finding as finding:
        examination.failed(finding)
        return Diagnosis(examination.steps(), str(finding), finding.causes, finding.permanent)
    summary = f"{examination.address} is reachable and answers as gRPC does"
    return Diagnosis(examination.steps(), summary, _proxy_causes(), permanent=False)


class _Finding(Exception):
    """The step that failed, and why: ends the examination."""

    def __init__(self, step: str, summary: str, causes: Sequence[str], permanent: bool) -> None:
        self.step = step
        self.causes = tuple(causes)
        self.permanent = permanent
        super().__init__(summary)


class _Examination:
    """One run over the steps; every method either records its step as good or raises a `_Finding`."""

    def __init__(self, host: str, port: int, pem: ClientPem | None, timeout_seconds: float) -> None:
        self.host = host
        self.port = port
        self.pem = pem
        self.address = join_address(host, port)
        self._timeout_seconds = timeout_seconds
        self._deadline = time.monotonic() + timeout_seconds
        self._seen: dict[str, Step] = {}
        self._endpoint: tuple[socket.AddressFamily, Any] = (socket.AF_INET, ())  # the one that answered in _reach

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
        except OSError as error:  # the server went away between two of our connections
            causes = ["the server is just starting or stopping"]
            raise _Finding(step, f"{self.address}: {_text(error)}", causes, permanent=False) from error

    def steps(self) -> tuple[Step, ...]:
        return tuple(self._seen.get(name, Step(name, None, "not reached")) for name in STEP_NAMES)

    def failed(self, finding: _Finding) -> None:
        for name in STEP_NAMES[STEP_NAMES.index(finding.step) :]:
            self._seen.pop(name, None)  # what looked good beyond the failure is not to distract from it
        self._seen[finding.step] = Step(finding.step, False, str(finding))

    def _good(self, step: str, detail: str) -> None:
        self._seen[step] = Step(step, True, detail)

    def _does_not_apply(self, step: str, detail: str) -> None:
        self._seen[step] = Step(step, None, detail)

    def _left_seconds(self, share: float = 1.0) -> float:
        return max((self._deadline - time.monotonic()) * share, _SHORTEST_WAIT_SECONDS)

    # ---- address, tcp

    def _look_up(self) -> list[tuple[socket.AddressFamily, Any]]:
        # getaddrinfo knows no timeout, so a daemon thread does it; if it hangs, it is left to itself.
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                answers.put(socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError, OverflowError) as error:
                answers.put(error)

        threading.Thread(target=look_up, name="remote-gym-look-up", daemon=True).start()
        try:
            answer = answers.get(timeout=self._left_seconds())
        except queue.Empty:
            answer = TimeoutError(f"no answer within {self._timeout_seconds:g} s")
        if isinstance(answer, Exception):
            raise _Finding(
                "address",
                f"{self.address}: the name {self.host!r} does not resolve to an IP ({_text(answer)})",
                ["the name is misspelt", "this machine's DNS does not know the name; dial the server's IP instead"],
                permanent=False,  # a container or VPN that is coming up gets its name late
            ) from None
        endpoints = list(dict.fromkeys((family, endpoint) for family, _, _, _, endpoint in answer))
        self._good("address", ", ".join(endpoint[0] for _, endpoint in endpoints))
        return endpoints

    def _reach(self, endpoints: Sequence[tuple[socket.AddressFamily, Any]]) -> None:
        errors: list[OSError] = []
        for index, endpoint in enumerate(endpoints):
            self._endpoint = endpoint
            try:
                self._dial(share=1 / (len(endpoints) - index)).close()
            except OSError as error:
                errors.append(error)
            else:
                self._good("tcp", f"connected to {join_address(endpoint[1][0], self.port)}")
                return
        raise self._unreached(errors)

    def _unreached(self, errors: Sequence[OSError]) -> _Finding:
        if any(isinstance(error, ConnectionRefusedError) for error in errors):
            causes = ["no server is running there, or it is not ready yet", "the server listens on another port"]
            if not is_loopback(self.host):
                causes.append("the server listens on its loopback only: start it with url='0.0.0.0' and credentials")
            return _Finding("tcp", f"{self.address} refused the connection: nothing listens there", causes, False)
        if any(isinstance(error, TimeoutError) for error in errors):
            causes = [
                "a firewall or security group drops the connection; open the TCP port on the server's side",
                "the address belongs to another network, or the machine is down",
            ]
            summary = f"{self.address} did not answer within {self._timeout_seconds:g} s"
            return _Finding("tcp", summary, causes, permanent=False)
        causes = ["this machine has no route to that network (VPN, container network, IPv6)"]
        return _Finding("tcp", f"{self.address} cannot be reached: {_text(errors[-1])}", causes, permanent=False)

    def _dial(self, share: float = 1.0) -> socket.socket:
        """Open one more TCP connection, whose every wait may take `share` of the time left."""
        family, endpoint = self._endpoint
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._left_seconds(share))
            connection.connect(endpoint)
            connection.settimeout(self._left_seconds(share))
        except BaseException:
            connection.close()
            raise
        return connection

    def _receive(self, connection: socket.socket, num_bytes: int) -> bytes:
        """Read `num_bytes`, or fewer if the connection or the time ends before."""
        received = connection.recv(num_bytes)
        while received and len(received) < num_bytes and time.monotonic() < self._deadline:
            more = connection.recv(num_bytes - len(received))
            if not more:
                break
            received += more
        return received

    # ---- plaintext

    def _plaintext(self) -> None:
        answer = self._plaintext_answer(share=0.5)  # the other half is for the question whether it is TLS
        if _is_settings(answer):
            self._good("tls", "no TLS on either side; the server speaks plaintext HTTP/2")
            for step in ("certificate name", "client certificate"):
                self._does_not_apply(step, "no TLS")
            return
        if self._answers_tls():
            raise _Finding(
                "tls",
                f"{self.address} wants TLS, but this client has no credentials and speaks plaintext",
                ["give client_credentials_paths=(ca.pem,), with the ca.pem that signed the server's certificate"],
                permanent=True,
            )
        if answer:
            raise self._not_grpc(answer)
        raise self._silent("an HTTP/2 greeting", closed=answer is not None)

    def _plaintext_answer(self, share: float = 1.0) -> bytes | None:
        """Greet in plaintext; return how the answer begins, b"" if the server closed, None if it kept silent."""
        try:
            with self._dial(share) as connection:
                connection.sendall(_PREFACE)
                return self._receive(connection, len(_SETTINGS))
        except TimeoutError:
            return None
        except OSError:
            return b""

    def _answers_tls(self) -> bool:
        """Tell whether the server answers a TLS greeting with TLS, were it only with an alert."""
        try:
            with self._handshake(_context()):
                return True
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")
        except OSError:
            return False

    def _not_grpc(self, answer: bytes) -> _Finding:
        summary = f"{self.address} is not a gRPC server: it answers {answer!r}"
        return _Finding("tls", summary, ["another service listens on this port; check host and port"], permanent=True)

    def _silent(self, what: str, closed: bool) -> _Finding:
        late = f"did not send within {self._timeout_seconds:g} s"
        how = "closed the connection instead of sending" if closed else late
        causes = [
            "the server is just starting or stopping, overloaded, or at its limit of connections",
            "a proxy, a port forward or another service listens on this port",
        ]
        return _Finding("tls", f"{self.address} accepted the connection but {how} {what}", causes, permanent=False)

    # ---- TLS

    def _tls(self, pem: ClientPem) -> None:
        context = self._verifying_context(pem)
        try:
            with self._handshake(context) as tls:
                self._good("tls", f"{tls.version()}, certificate signed by the given CA")
                self._check_protocol(tls)
                self._check_name(tls.getpeercert() or {})
                self._check_accepted(tls, pem)
        except ssl.SSLCertVerificationError as error:
            raise self._untrusted(error) from error
        except TimeoutError as error:
            raise self._silent("the answer of a TLS handshake", closed=False) from error
        except (ssl.SSLError, ConnectionError) as error:
            raise self._broken_handshake(error, pem) from error

    def _verifying_context(self, pem: ClientPem) -> ssl.SSLContext:
        """Return a context that checks the CA; the name is checked later, so that the two can be told apart."""
        try:
            context = _context(pem.root.decode("ascii", "ignore"))
        except ssl.SSLError as error:
            summary = f"the CA certificate to check {self.address} with is damaged ({_text(error)})"
            raise _Finding("tls", summary, ["give another ca.pem"], permanent=True) from error
        try:
            _load_client_certificate(context, pem)
        except ssl.SSLError as error:
            summary = f"the client certificate for {self.address} or its key is damaged ({_text(error)})"
            causes = ["give certificate and key as they were written together"]
            raise _Finding("client certificate", summary, causes, permanent=True) from error
        return context

    @contextlib.contextmanager
    def _handshake(self, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
        with self._dial() as connection, context.wrap_socket(connection, server_hostname=_bare(self.host)) as tls:
            tls.settimeout(self._left_seconds())
            yield tls

    def _check_protocol(self, tls: ssl.SSLSocket) -> None:
        if tls.selected_alpn_protocol() != "h2":  # gRPC's own clients insist on it, too
            summary = f"{self.address} speaks TLS but not HTTP/2, so it is not a gRPC server"
            causes = ["another service listens on this port; check host and port"]
            raise _Finding("tls", summary, causes, permanent=True)

    def _check_name(self, certificate: Mapping[str, Any]) -> None:
        names = _certificate_names(certificate)
        if not any(_matches(self.host, kind, name) for kind, name in names):
            listed = ", ".join(name for _, name in names) or "no name at all"
            kind = "IP" if _ip(self.host) else "name"
            raise _Finding(
                "certificate name",
                f"the certificate of {self.address} lacks the {kind} {self.host}; it is for {listed}",
                [_ADD_NAME.format(host=self.host), "or dial the server under a name or an IP that its certificate has"],
                permanent=True,
            )
        self._good("certificate name", f"the certificate is for {', '.join(name for _, name in names)}")

    def _check_accepted(self, tls: ssl.SSLSocket, pem: ClientPem) -> None:
        # With TLS 1.3 the client's side of the handshake ends before the server has looked at our certificate; its
        # refusal shows on the first read: as an alert or, from a gRPC server, as a mere end of the connection.
        greeting = self._receive(tls, len(_SETTINGS))
        if not greeting:
            raise ConnectionResetError("closed after the handshake")
        if not _is_settings(greeting):
            raise self._not_grpc(greeting)
        self._good("client certificate", "accepted" if pem.certificate else "none given, and none is needed")

    def _untrusted(self, error: ssl.SSLCertVerificationError) -> _Finding:
        """Say why the server's certificate does not verify."""
        certificate = self._unverified_certificate()
        issuer = _common_name(certificate.get("issuer", ()))
        if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
            return self._outside_validity(error.verify_code, certificate)
        if error.verify_code == _INVALID_PURPOSE:
            summary = f"the certificate of {self.address} is not made for a server"
            causes = ["the server was started with client.pem in place of server.pem"]
            return _Finding("tls", summary, causes, permanent=True)
        return _Finding(
            "tls",
            f"the certificate of {self.address} is not signed by the given CA ({error.verify_message})",
            [
                (f"it is signed by {issuer!r}: " if issuer else "") + "give the ca.pem that was made together with the "
                "server's certificate; a CA made anew needs its ca.pem copied to every client",
                "another server than expected answers at this address",
            ],
            permanent=True,
        )

    def _outside_validity(self, code: int, certificate: Mapping[str, Any]) -> _Finding:
        wrong, key = ("has expired", "notAfter") if code == _EXPIRED else ("is not yet valid", "notBefore")
        now, limit = time.time(), certificate.get(key)
        clock = f"this machine's clock says {time.strftime('%b %d %H:%M:%S %Y GMT', time.gmtime(now))}; check it"
        whose, when = f"the certificate of {self.address}", f" ({key} {limit})" if limit else ""
        if limit and (now <= ssl.cert_time_to_seconds(limit)) is (code == _EXPIRED):
            whose, when = f"the CA certificate to check {self.address} with", ""  # it is not the server's own
        return _Finding("tls", f"{whose} {wrong}{when}", ["make new certificates", clock], permanent=True)

    def _unverified_certificate(self) -> Mapping[str, Any]:
        """Return a certificate that does not verify, in the form of `SSLSocket.getpeercert`; {} if it cannot be had."""
        # ssl parses only what verifies. So the first connection fetches the bytes, and for the second one the
        # certificate itself is the trust anchor. The result is for messages alone: nothing is trusted because of it.
        try:
            with self._handshake(_context()) as tls:
                der = tls.getpeercert(binary_form=True) or b""
            context = _context(der)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
            with self._handshake(context) as tls:
                return tls.getpeercert() or {}
        except OSError:
            return {}

    def _broken_handshake(self, error: OSError, pem: ClientPem) -> _Finding:
        """Say why a handshake ended in anything but a bad server certificate."""
        reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
        if "ALERT" in reason:
            if "CERT" in reason or "UNKNOWN_CA" in reason or self._asks_for_client_certificate():
                return self._client_refused(pem, reason)
            summary = f"{self.address} refused the TLS handshake ({_text(error)})"
            causes = ["client and server have no TLS version or cipher in common"]
            return _Finding("tls", summary, causes, permanent=True)
        answer = self._plaintext_answer(share=0.5)
        if _is_settings(answer):
            causes = [
                "start the server with server_credentials_paths=(server.pem, server-key.pem)",
                "or leave client_credentials_paths away, on loopback or in a network you trust (allow_insecure=True)",
            ]
            summary = f"{self.address} speaks plaintext, but this client has credentials and wants TLS"
            return _Finding("tls", summary, causes, permanent=True)
        if reason in _NOT_TLS_REASONS:
            return self._not_grpc(answer or b"no TLS")
        if self._asks_for_client_certificate():
            return self._client_refused(pem, "")
        return self._silent("the answer of a TLS handshake", closed=True)

    def _client_refused(self, pem: ClientPem, reason: str) -> _Finding:
        alert = f" ({reason.replace('_', ' ').lower()})" if reason else ""
        if pem.certificate is None:
            summary = f"{self.address} requires a client certificate, and none was given{alert}"
            causes = ["give client_credentials_paths=(ca.pem, client.pem, client-key.pem), signed by the server's CA"]
        else:
            summary = f"{self.address} refused our client certificate{alert}"
            causes = [
                "it is signed by another CA than the one in the server's server_credentials_paths[2]",
                "it has expired, or is not made for a client",
            ]
        self._seen.setdefault("tls", Step("tls", True, "the server answers TLS"))
        return _Finding("client certificate", summary, causes, permanent=True)

    def _asks_for_client_certificate(self) -> bool:
        """Tell whether the server asks for a client certificate; False also if it cannot be seen.

        Up to TLS 1.2 the server's part of a handshake is readable on the wire (RFC 5246, 7.4.4), so one is begun and
        its first flight read. `ssl` itself never says whether it was asked.
        """
        context = _context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            context.wrap_bio(incoming, outgoing, server_hostname=_bare(self.host)).do_handshake()
        try:
            with self._dial() as connection:
                connection.sendall(outgoing.read())
                flight = b""
                while _asked(flight) is None:
                    received = connection.recv(65536)
                    if not received or time.monotonic() > self._deadline:
                        return False
                    flight += received
        except OSError:
            return False
        return _asked(flight) is True


def _context(trusted: str | bytes | None = None) -> ssl.SSLContext:
    """Return a context that trusts the given certificates (PEM text or DER bytes), or, with None, verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    if trusted is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=trusted)
    return context


def _load_client_certificate(context: ssl.SSLContext, pem: ClientPem) -> None:
    """Load the client's pair through files that only this user can read: ssl takes no bytes."""
    if pem.certificate is None or pem.private_key is None:
        return
    with tempfile.TemporaryDirectory(prefix="remote-gym-") as folder:
        certificate, key = Path(folder, "client.pem"), Path(folder, "client-key.pem")
        certificate.write_bytes(pem.certificate)
        key.write_bytes(pem.private_key)
        context.load_cert_chain(certificate, key, password="")  # "": never asks on the terminal


def _is_settings(answer: bytes | None) -> bool:
    """Tell whether `answer` is the header of an HTTP/2 SETTINGS frame: length a multiple of 6, type 4, stream 0."""
    if answer is None or len(answer) < len(_SETTINGS):
        return False
    return int.from_bytes(answer[:3], "big") % 6 == 0 and answer[3] == 4 and answer[5:9] == bytes(4)


def _asked(flight: bytes) -> bool | None:
    """Tell whether a TLS 1.2 server's first flight holds a CertificateRequest; None if it is not complete yet."""
    messages = b""
    while len(flight) >= 5 and len(flight) >= 5 + int.from_bytes(flight[3:5], "big"):
        size = int.from_bytes(flight[3:5], "big")
        if flight[0] != 22:  # not a handshake record but an alert
            return False
        messages += flight[5 : 5 + size]
        flight = flight[5 + size :]
    while len(messages) >= 4:
        if messages[0] in (13, 14):  # certificate_request, server_hello_done
            return messages[0] == 13
        messages = messages[4 + int.from_bytes(messages[1:4], "big") :]
    return None


def _certificate_names(certificate: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return ("DNS" or "IP Address", name) pairs; the common name counts only if there is no other, as for gRPC."""
    alternatives = certificate.get("subjectAltName", ())
    common_name = _common_name(certificate.get("subject", ()))
    if not alternatives and common_name:
        return [("DNS", common_name)]
    names = [(kind, value.strip()) for kind, value in alternatives if kind in ("DNS", "IP Address")]
    return [(kind, str(_ip(name) or name)) for kind, name in names]


def _common_name(name: Sequence[Sequence[tuple[str, str]]]) -> str:
    return next((value for part in name for key, value in part if key == "commonName"), "")


def _matches(host: str, kind: str, name: str) -> bool:
    """Tell whether a name of a certificate covers `host`: equal, or a wildcard for its first label (RFC 9525, 6.3)."""
    if _ip(host) is not None or kind != "DNS":
        return kind == "IP Address" and _ip(host) == _ip(name)
    host, name = host.rstrip(".").lower(), name.rstrip(".").lower()
    if name.startswith("*."):
        return name.count(".") > 1 and host.partition(".")[2] == name[2:]
    return host == name


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(_bare(text))
    except ValueError:
        return None


def _bare(host: str) -> str:
    """Return `host` without the zone of a link-local IPv6 address."""
    return host.partition("%")[0]


def _text(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _proxy_causes() -> tuple[str, ...]:
    """Name the proxy, which gRPC uses and a plain socket does not, if the environment has one."""
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        if os.environ.get(name):
            return (f"gRPC may have used the proxy of the environment variable {name}; add the host to no_proxy",)
    return ()
