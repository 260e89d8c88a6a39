"""Trainer process: connections to a server by hand, plain sockets and ssl, to see what it answers.

A connection is given up as soon as the server has shown what is to be seen; nothing is ever executed on it. All of them
share one deadline.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from remote_gym.addresses import join_address, unix_path
from remote_gym.client.diagnosis.certificate_names import without_zone
from remote_gym.client.diagnosis.handshake import PREFACE, SETTINGS, asks_for_certificate
from remote_gym.credentials import ClientPem, TlsSocket, load_pair

Endpoint = tuple[socket.AddressFamily, Any]
"""Family and socket address."""

_SHORTEST_WAIT_SECONDS = 0.01  # of a socket when the time is up: 0 would mean "do not block", None "for ever"
_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # a flag of OpenSSL that the module `ssl` has no name for


class Probe:
    """Dials one server, as often as it takes, within one bound on time.

    Attributes:
        host: A name or an IP, without brackets.
        port: The TCP port.
        address: Both, for people.
        server_name: Whom the server is asked to be in TLS.
        timeout_seconds: The bound, from the construction of the probe.
        endpoint: Where `dial` connects to; set by the caller, one of those that `look_up` returned.
    """

    def __init__(self, host: str, port: int, timeout_seconds: float, server_name: str | None = None) -> None:
        self.host = host
        self.server_name = server_name or without_zone(host)
        self.port = port
        self.address = join_address(host, port)
        self.timeout_seconds = timeout_seconds
        self.endpoint: Endpoint = (socket.AF_INET, ())
        self._deadline = time.monotonic() + timeout_seconds

    def _left_seconds(self, share: float = 1.0) -> float:
        return max((self._deadline - time.monotonic()) * share, _SHORTEST_WAIT_SECONDS)

    def look_up(self) -> list[Endpoint]:
        """Return the endpoints of the host, each once.

        Raises:
            OSError, UnicodeError, OverflowError: It has none; TimeoutError: No answer came in time.
        """
        path = unix_path(self.host)
        if path is not None:
            return [(socket.AF_UNIX, path)]
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
            raise TimeoutError(f"no answer within {self.timeout_seconds:g} s") from None
        if isinstance(answer, Exception):
            raise answer
        return list(dict.fromkeys((family, endpoint) for family, _, _, _, endpoint in answer))

    def dial(self, share: float = 1.0) -> socket.socket:
        """Open one more TCP connection, whose every wait may take `share` of the time left."""
        family, endpoint = self.endpoint
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._left_seconds(share))
            connection.connect(endpoint)
            connection.settimeout(self._left_seconds(share))
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def handshake(self, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
        """Open one more connection with TLS, closed on exit."""
        with self.dial() as connection, context.wrap_socket(connection, server_hostname=self.server_name) as tls:
            tls.settimeout(self._left_seconds())
            yield tls

    def greeting(self, connection: socket.socket) -> bytes:
        """Read as much as the header of an HTTP/2 frame, or less if the connection or the time ends before."""
        received = connection.recv(len(SETTINGS))
        while received and len(received) < len(SETTINGS) and time.monotonic() < self._deadline:
            more = connection.recv(len(SETTINGS) - len(received))
            if not more:
                break
            received += more
        return received

    def plaintext_answer(self, share: float = 1.0) -> bytes | None:
        """Greet in plaintext; return how the answer begins, b"" if the server closed, None if it kept silent."""
        try:
            with self.dial(share) as connection:
                connection.sendall(PREFACE)
                return self.greeting(connection)
        except TimeoutError:
            return None
        except OSError:
            return b""

    def answers_tls(self) -> bool:
        """Tell whether the server answers a TLS greeting with TLS, were it only with an alert."""
        try:
            with self.handshake(tls_context()):
                return True
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")
        except OSError:
            return False

    def unverified_certificate(self) -> Mapping[str, Any]:
        """Return a certificate that does not verify, in the form of `SSLSocket.getpeercert`; {} if it cannot be had."""
        # ssl parses only what verifies. So the first connection fetches the bytes, and for the second one the
        # certificate itself is the trust anchor. The result is for messages alone: nothing is trusted because of it.
        try:
            with self.handshake(tls_context()) as tls:
                der = tls.getpeercert(binary_form=True) or b""
            context = tls_context(der)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
            with self.handshake(context) as tls:
                return tls.getpeercert() or {}
        except OSError:
            return {}

    def asks_for_client_certificate(self) -> bool:
        """Tell whether the server asks for a client certificate; False also if it cannot be seen.

        Up to TLS 1.2 the server's part of a handshake is readable on the wire (RFC 5246, 7.4.4), so one is begun and
        its first flight read. `ssl` itself never says whether it was asked.
        """
        context = tls_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            context.wrap_bio(incoming, outgoing, server_hostname=self.server_name).do_handshake()
        try:
            with self.dial() as connection:
                connection.sendall(outgoing.read())
                flight = b""
                while asks_for_certificate(flight) is None:
                    received = connection.recv(65536)
                    if not received or time.monotonic() > self._deadline:
                        return False
                    flight += received
        except OSError:
            return False
        return asks_for_certificate(flight) is True


def tls_context(trusted: str | bytes | None = None) -> ssl.SSLContext:
    """Return a context that trusts the given certificates (PEM text or DER bytes), or, with None, verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = TlsSocket
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    if trusted is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=trusted)
    return context


def load_client_certificate(context: ssl.SSLContext, pem: ClientPem) -> None:
    """Give the client's pair to `context`, if it has one."""
    if pem.certificate is None or pem.private_key is None:
        return
    load_pair(context, pem.certificate, pem.private_key)
