"""Trainer process: ask a server what it is, without a session."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import grpc

from remote_gym.client.carriers import channel
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.renewal import renewed
from remote_gym.client.failures import MAX_LINE, not_taken, unreadable
from remote_gym.errors import ConnectError, RemoteGymError
from remote_gym.messages import Description
from remote_gym.texts import MAX_NAME_BYTES, printable
from remote_gym.wire.codec import DESCRIBE_METHOD, read_description


def describe(address: Address, timeout_seconds: float) -> Description:
    """Dial `address` and return what the server says about itself.

    Args:
        address: Where it is, and how to prove who we are.
        timeout_seconds: For the connection, and again for the answer.

    Raises:
        ConnectError: The server was not reached, or does not answer the question; lists the likely causes.
        RefusedError: It takes nobody by what was shown of who we are.
        ProtocolError: It answered something else.
    """
    shared = channel.acquire(renewed(address))
    try:
        shared.wait_until_ready(timeout_seconds)
        ask: Any = shared.channel.unary_unary(DESCRIBE_METHOD)
        return _read(str(address), ask(b"", timeout=timeout_seconds, metadata=address.metadata))
    except grpc.RpcError as error:
        raise _unanswered(str(address), error) from error
    finally:
        channel.release(shared)


def _read(address: str, data: bytes) -> Description:
    try:
        said = read_description(data)
        return replace(said, version=printable(said.version, MAX_NAME_BYTES))  # it ends in logs and on terminals
    except Exception as error:
        raise unreadable(address, error) from error


def _unanswered(address: str, error: grpc.RpcError) -> RemoteGymError:
    code = error.code()
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return not_taken(address, error.details() or "")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        causes = ["the server runs remote-gym 0.x: upgrade it", "another gRPC service listens on this port"]
        return ConnectError(address, "a gRPC server is there, but it is not remote-gym", causes)
    cause = printable(error.details() or "", MAX_LINE)
    return ConnectError(address, f"the server was reached but did not answer: {code.name}", [cause])
