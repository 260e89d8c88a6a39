"""Who takes part: a CA of its own, a server, and clients that their certificates name."""

from __future__ import annotations

from pathlib import Path

import grpc
import trustme

VICTIM, NEIGHBOUR = "alice", "bob"


def certify(folder: Path) -> None:
    """Write the certificates of all into `folder`."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    leaves = {name: ca.issue_cert(common_name=name) for name in (VICTIM, NEIGHBOUR)}
    leaves["server"] = ca.issue_cert("127.0.0.1", "localhost")
    for name, leaf in leaves.items():
        leaf.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
        leaf.private_key_pem.write_to_path(str(folder / f"{name}-key.pem"))


def server_paths(folder: Path) -> list[str]:
    """Return the server's certificate, key and CA: every client needs a certificate."""
    return [str(folder / f"{name}.pem") for name in ("server", "server-key", "ca")]


def client_paths(folder: Path, name: str) -> list[str]:
    """Return what the client of that name is given as its credentials."""
    return [str(folder / f"{file}.pem") for file in ("ca", name, f"{name}-key")]


def channel_credentials(folder: Path, name: str) -> grpc.ChannelCredentials:
    """Return the same for a gRPC channel."""
    ca, certificate, key = (Path(path).read_bytes() for path in client_paths(folder, name))
    return grpc.ssl_channel_credentials(ca, key, certificate)
