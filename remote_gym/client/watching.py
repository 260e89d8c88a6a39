"""Trainer process: look on at a server: its figures as they change, and pictures of environments. Changes nothing.

with watch("10.0.0.7:56765", client_credentials_paths=("ca.pem",)) as looking:
    for snapshot in looking:
        print(snapshot.server.totals.env_steps)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Union

from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.watched import WatchCall
from remote_gym.client.servers import CredentialsPaths, addresses_of, urls_of
from remote_gym.errors import MisuseError, ProtocolError
from remote_gym.figures import (
    DEFAULT_FRAME_PERIOD_SECONDS,
    DEFAULT_PERIOD_SECONDS,
    Frame,
    FrameRequest,
    Frames,
    SessionFigures,
    Snapshot,
    WatchReply,
    WatchRequest,
)

MAX_PARTS = 1_024
"""Of a snapshot: more than any server's sessions need."""

Seen = Union[Snapshot, Frames]
"""What comes, one after the other."""


class Watching:
    """Yields snapshots, the first one at once, and frames where they were asked for, as they come; one thread reads.

    Closing contract: `close` may be called twice, and from another thread: who waits for the next snapshot is told that
    there is none. A context manager closes on leaving.
    """

    def __init__(self, address: Address, request: WatchRequest, timeout_seconds: float) -> None:
        """Dial; arguments and errors are those of `watch`."""
        self._address = str(address)
        self._call = WatchCall(address, request, timeout_seconds)
        self._parts: list[WatchReply] = []

    def __iter__(self) -> Iterator[Seen]:
        """Return self."""
        return self

    def __next__(self) -> Seen:
        """Return what comes next.

        Raises:
            StopIteration: It was closed.
            RefusedError: There are too many watchers, or the server takes nobody by what was shown of who we are.
            ConnectError: The connection, or the server, has ended.
            ProtocolError: The server sent what the contract does not allow.
        """
        while (reply := self._call.next()) is not None:
            if reply.frames:
                return Frames(reply.frames)
            if reply.server is not None:
                self._parts = []
            self._parts.append(reply)
            if self._parts[0].server is None or len(self._parts) > MAX_PARTS:
                self._parts = []
                raise ProtocolError(f"{self._address} sent what is no part of a snapshot")
            if not reply.more:
                return self._joined()
        raise StopIteration

    def _joined(self) -> Snapshot:
        parts, self._parts = self._parts, []
        first = parts[0]
        assert first.server is not None
        sessions: list[SessionFigures] = [one for part in parts for one in part.sessions]
        return Snapshot(first.time, first.server, sessions, first.workers, first.losses)

    def close(self) -> None:
        """Look no more."""
        self._call.release()

    def __enter__(self) -> Watching:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def watch(
    url: str | None = None,
    port: int | None = None,
    client_credentials_paths: CredentialsPaths | None = None,
    *,
    period_seconds: float = DEFAULT_PERIOD_SECONDS,
    frames: Iterable[FrameRequest] = (),
    frame_period_seconds: float = DEFAULT_FRAME_PERIOD_SECONDS,
    sessions: Iterable[bytes] = (),
    frames_only: bool = False,
    connect_timeout_seconds: float = 10.0,
    allow_insecure: bool = False,
    token: str | None = None,
    tls_name: str | None = None,
) -> Watching:
    """Look on at one server.

    Args:
        url: ``"host"``, ``"host:port"`` or ``"unix:/path"``, as for `RemoteVectorEnv`; None: what ``REMOTE_GYM_URL``
            says.
        port: Its port, if not in `url`; 56765 if nowhere.
        client_credentials_paths: As for `RemoteVectorEnv`.
        period_seconds: Between two snapshots, 0.1 to 60.
        frames: Environments of which pictures are wanted, at most 64.
        frame_period_seconds: Between two pictures of an environment, at least: 0.1 to 60.
        sessions: Ids; only these are seen. None: all that the server shows to whom we are.
        frames_only: No snapshots.
        connect_timeout_seconds: For the connection.
        allow_insecure: Permit plaintext to other machines.
        token: As for `RemoteVectorEnv`.
        tls_name: As for `RemoteVectorEnv`.

    Returns:
        An iterator, which must be closed; a context manager.

    Raises:
        ConnectError: The server was not reached in time; lists the likely causes.
        MisuseError: An argument is wrong, or more than one server was named. What only the server finds out is raised
            by the iterator.
    """
    urls = urls_of(url)
    if len(urls) > 1:
        raise MisuseError(f"one server is watched by one call, got {len(urls)} addresses")
    _, (address,) = addresses_of(urls, port, client_credentials_paths, tls_name, token, allow_insecure)
    request = WatchRequest(period_seconds, list(frames), frame_period_seconds, list(sessions), frames_only)
    return Watching(address, request, connect_timeout_seconds)


__all__ = ["Frame", "FrameRequest", "Frames", "Seen", "Snapshot", "Watching", "watch"]
