"""Somebody who holds a session's token and speaks for it over a carrier of their own."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.grpc import GrpcDialer
from remote_gym.client.session.assembly import Assembly
from remote_gym.client.session.session import Session
from remote_gym.messages import Attach
from remote_gym.wire.codec import pack_client, read_server


def attach_to(session: Session) -> Attach:
    """The message that attaches to `session`."""
    opened = session.opened
    return Attach(opened.session_id, opened.token, opened.server_epoch, opened.protocol, [])


class Holder:
    """A carrier to `address`. A context manager."""

    def __init__(self, address: Address) -> None:
        self._dialer = GrpcDialer(address)
        self._dialer.wait_until_ready(5.0)
        self._carrier = self._dialer.begin()
        self._assembly = Assembly()

    def ask(self, message: Attach) -> Any:
        """Send `message` and return the first answer."""
        self._carrier.send(pack_client(message))
        while True:
            frame = self._carrier.receive(lambda size: memoryview(bytearray(size)))
            for answer in self._assembly.feed(read_server(bytes(frame))):
                return answer

    def close(self) -> None:
        """End the carrier."""
        self._carrier.close()
        self._dialer.close()

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def say(address: Address, message: Attach) -> Any:
    """Attach over a carrier of our own, and end that again; return the answer."""
    with Holder(address) as holder:
        return holder.ask(message)
