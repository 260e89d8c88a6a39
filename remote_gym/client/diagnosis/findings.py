"""No I/O: what can stop a connection, in words: which step failed, what was seen, what mends it.

Every function here makes one `Finding` out of what `steps` has seen; `address` is ``host:port``, for people.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any

from remote_gym.addresses import is_loopback, unix_path
from remote_gym.client.diagnosis.certificate_names import common_name, ip_of
from remote_gym.texts import printable

_NOT_YET_VALID, _EXPIRED, _INVALID_PURPOSE = 9, 10, 26  # X509_verify_cert_error codes of OpenSSL, unnamed in `ssl`

_ADD_NAME = (
    "add {host} to `hosts` in server-csr.json and sign the server certificate again, or make new ones with "
    "`remote-gym certs DIR --host {host}`; then put it in the old one's place on the server"
)
_ANOTHER_SERVICE = "another service listens on this port; check host and port"

_HTTP_STATUS = re.compile(r"\bheader with status: (\d{3})\b")  # as gRPC words its details
_HTTP_MENDS = {
    400: "it requires a client certificate, or does not accept the given one; see its error log",
    401: "it wants to know who we are in another way than by a client certificate",
    403: "its rules keep this client out",
    404: "it passes no gRPC on at this name and port (with nginx: `grpc_pass`)",
    405: "it passes no gRPC on at this name and port (with nginx: `grpc_pass`)",
}
_HTTP_DOWN = (502, 503, 504)


class Finding(Exception):
    """The step that failed, and why: ends the examination.

    Attributes:
        step: One of `diagnosis.STEP_NAMES`, or ``"server version"``, which is asked for by gRPC.
        causes: Likely causes and their mends, most likely first.
        permanent: Waiting will not help.
    """

    def __init__(self, step: str, summary: str, causes: Sequence[str], permanent: bool) -> None:
        self.step = step
        self.causes = tuple(causes)
        self.permanent = permanent
        super().__init__(summary)


# --- address, tcp


def unresolved(address: str, host: str, error: Exception) -> Finding:
    """The name has no IP."""
    return Finding(
        "address",
        f"{address}: the name {host!r} does not resolve to an IP ({_text(error)})",
        ["the name is misspelt", "this machine's DNS does not know the name; dial the server's IP instead"],
        permanent=False,  # a container or VPN that is coming up gets its name late
    )


def unreached(address: str, host: str, errors: Sequence[OSError], timeout_seconds: float) -> Finding:
    """No endpoint takes a connection; `errors` holds one per endpoint."""
    if unix_path(host) is not None:
        return _unreached_socket(address, errors[-1])
    if any(isinstance(error, ConnectionRefusedError) for error in errors):
        causes = ["no server is running there, or it is not ready yet", "the server listens on another port"]
        if not is_loopback(host):
            causes.append("the server listens on its loopback only: start it with url='0.0.0.0' and credentials")
        return Finding("tcp", f"{address} refused the connection: nothing listens there", causes, False)
    if any(isinstance(error, TimeoutError) for error in errors):
        causes = [
            "a firewall or security group drops the connection; open the TCP port on the server's side",
            "the address belongs to another network, or the machine is down",
        ]
        return Finding("tcp", f"{address} did not answer within {timeout_seconds:g} s", causes, permanent=False)
    causes = ["this machine has no route to that network (VPN, container network, IPv6)"]
    return Finding("tcp", f"{address} cannot be reached: {_text(errors[-1])}", causes, permanent=False)


def _unreached_socket(address: str, error: OSError) -> Finding:
    """Nobody takes a connection at a unix socket."""
    not_running = "no server is running there, or it is not ready yet"
    if isinstance(error, FileNotFoundError):
        return Finding("tcp", f"{address}: there is no such socket", [not_running, "the path is misspelt"], False)
    if isinstance(error, ConnectionRefusedError):
        return Finding(
            "tcp", f"{address} refused the connection: what is there is no live server's", [not_running], False
        )
    if isinstance(error, PermissionError):
        causes = ["the server belongs to another user: only its owner may connect", "run the client as that user"]
        return Finding("tcp", f"{address} may not be used by this user", causes, permanent=True)
    return Finding("tcp", f"{address} cannot be reached: {_text(error)}", [not_running], permanent=False)


def gone(step: str, address: str, error: OSError) -> Finding:
    """The server went away between two of our connections."""
    return Finding(step, f"{address}: {_text(error)}", ["the server is just starting or stopping"], permanent=False)


# --- tls: what speaks there


def silent(address: str, what: str, timeout_seconds: float, closed: bool) -> Finding:
    """The server took the connection and then closed it, or said nothing."""
    late = f"did not send within {timeout_seconds:g} s"
    how = "closed the connection instead of sending" if closed else late
    causes = [
        "the server is just starting or stopping, overloaded, or at its limit of connections",
        "a proxy, a port forward or another service listens on this port",
    ]
    return Finding("tls", f"{address} accepted the connection but {how} {what}", causes, permanent=False)


def not_grpc(address: str, answer: bytes) -> Finding:
    """The answer is neither TLS nor HTTP/2."""
    return Finding("tls", f"{address} is not a gRPC server: it answers {answer!r}", [_ANOTHER_SERVICE], permanent=True)


def not_http2(address: str) -> Finding:
    """TLS without the protocol of gRPC in it."""
    summary = f"{address} speaks TLS but not HTTP/2, so it is not a gRPC server"
    return Finding("tls", summary, [_ANOTHER_SERVICE], permanent=True)


def wants_tls(address: str) -> Finding:
    """Plaintext against TLS."""
    summary = f"{address} wants TLS, but this client has no credentials and speaks plaintext"
    causes = ["give client_credentials_paths=(ca.pem,), with the ca.pem that signed the server's certificate"]
    return Finding("tls", summary, causes, permanent=True)


def speaks_plaintext(address: str) -> Finding:
    """TLS against plaintext."""
    causes = [
        "start the server with server_credentials_paths=(server.pem, server-key.pem)",
        "or leave client_credentials_paths away, on loopback or in a network you trust (allow_insecure=True)",
    ]
    summary = f"{address} speaks plaintext, but this client has credentials and wants TLS"
    return Finding("tls", summary, causes, permanent=True)


def nothing_in_common(address: str, error: OSError) -> Finding:
    """An alert that is not about a certificate."""
    summary = f"{address} refused the TLS handshake ({_text(error)})"
    return Finding("tls", summary, ["client and server have no TLS version or cipher in common"], permanent=True)


# --- tls: the server's certificate


def damaged_authority(address: str, error: ssl.SSLError) -> Finding:
    """The CA that was given cannot be read."""
    summary = f"the CA certificate to check {address} with is damaged ({_text(error)})"
    return Finding("tls", summary, ["give another ca.pem"], permanent=True)


def untrusted(address: str, error: ssl.SSLCertVerificationError, certificate: Mapping[str, Any]) -> Finding:
    """The server's certificate, {} if it cannot be had, does not verify."""
    if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
        return outside_validity(address, error.verify_code, certificate)
    if error.verify_code == _INVALID_PURPOSE:
        summary = f"the certificate of {address} is not made for a server"
        return Finding("tls", summary, ["the server was started with client.pem in place of server.pem"], True)
    issuer = printable(common_name(certificate.get("issuer", ())))
    return Finding(
        "tls",
        f"the certificate of {address} is not signed by the given CA ({error.verify_message})",
        [
            (f"it is signed by {issuer!r}: " if issuer else "") + "give the ca.pem that was made together with the "
            "server's certificate; a CA made anew needs its ca.pem copied to every client",
            "another server than expected answers at this address",
        ],
        permanent=True,
    )


def outside_validity(address: str, code: int, certificate: Mapping[str, Any]) -> Finding:
    """A certificate is not valid now: the server's, or else the CA's."""
    wrong, key = ("has expired", "notAfter") if code == _EXPIRED else ("is not yet valid", "notBefore")
    now, limit = time.time(), certificate.get(key)
    clock = f"this machine's clock says {time.strftime('%b %d %H:%M:%S %Y GMT', time.gmtime(now))}; check it"
    whose, when = f"the certificate of {address}", f" ({key} {limit})" if limit else ""
    if limit and (now <= ssl.cert_time_to_seconds(limit)) is (code == _EXPIRED):
        whose, when = f"the CA certificate to check {address} with", ""  # it is not the server's own
    return Finding("tls", f"{whose} {wrong}{when}", ["make new certificates", clock], permanent=True)


def wrong_name(address: str, host: str, names: Sequence[tuple[str, str]], given: bool = False) -> Finding:
    """The server's certificate is for other hosts than the one that is dialled, or that was `given` as `tls_name`."""
    listed = names_in_words(names) or "no name at all"
    kind = "IP" if ip_of(host) else "name"
    return Finding(
        "certificate name",
        f"the certificate of {address} lacks the {kind} {host}; it is for {listed}",
        [
            _ADD_NAME.format(host=host),
            "or give one of the names that its certificate has as tls_name"
            if given
            else "or dial the server under a name or an IP that its certificate has, or give that as tls_name",
        ],
        permanent=True,
    )


# --- client certificate


def damaged_pair(address: str, error: ssl.SSLError) -> Finding:
    """The client's certificate or key cannot be read."""
    summary = f"the client certificate for {address} or its key is damaged ({_text(error)})"
    causes = ["give certificate and key as they were written together"]
    return Finding("client certificate", summary, causes, permanent=True)


def client_refused(address: str, given: bool, reason: str) -> Finding:
    """The server wants a client certificate, or another one than was `given`; `reason` is OpenSSL's, "" for none."""
    alert = f" ({reason.replace('_', ' ').lower()})" if reason else ""
    if given:
        summary = f"{address} refused our client certificate{alert}"
        causes = [
            "it is signed by another CA than the one in the server's server_credentials_paths[2]",
            "it has expired, or is not made for a client",
        ]
    else:
        summary = f"{address} requires a client certificate, and none was given{alert}"
        causes = ["give client_credentials_paths=(ca.pem, client.pem, client-key.pem), signed by the server's CA"]
    return Finding("client certificate", summary, causes, permanent=True)


# --- server version


def of_proxy(address: str, details: str | None) -> Finding | None:
    """A proxy answers instead of the server, which gives no HTTP statuses; None if gRPC's `details` hold none."""
    found = _HTTP_STATUS.search(details or "")
    if found is None:
        return None
    status = int(found[1])
    summary = f"a proxy, or another web server, answers at {address}: HTTP status {status}"
    if status in _HTTP_DOWN:
        causes = ["the server behind it is down, or it cannot reach or verify it; see its error log"]
    else:
        causes = [_HTTP_MENDS.get(status, "see its error log"), _ANOTHER_SERVICE]
    return Finding("server version", summary, causes, permanent=status in _HTTP_MENDS)


def names_in_words(names: Sequence[tuple[str, str]]) -> str:
    """Return the names of a peer's certificate, which may hold anything, for people; the first of many."""
    return ", ".join(printable(name) for _, name in names[:16]) + (", ..." if len(names) > 16 else "")


def _text(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
