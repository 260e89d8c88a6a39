"""Server process: TLS handshakes of the direct carrier: on the loop, their arithmetic on a thread beside it.

A handshake costs a millisecond of arithmetic and any number of waits for its peer. Only the first is the thread's: who
connects and says nothing more holds a descriptor until its deadline, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

from remote_gym.credentials import ServerPem, server_context
from remote_gym.wire.direct import ALPN

HANDSHAKE_SECONDS = 10.0
"""How long a handshake may take, as gRPC's own."""


class Handshakes:
    """The handshakes of one server.

    Closing contract: `close` returns when the thread has ended, which never waits for a peer; may be called twice.
    """

    def __init__(self, pem: ServerPem) -> None:
        """Prove what `pem` holds.

        Raises:
            ssl.SSLError: OpenSSL does not take the certificate: its policy is not that of gRPC's library.
        """
        self.renew(pem)
        # One: however many handshakes are begun, the other cores are those of sessions that are open.
        self._thread = ThreadPoolExecutor(1, "remote_gym handshakes")

    def renew(self, pem: ServerPem) -> None:
        """Prove what `pem` holds from the next handshake on; what was shaken before goes on.

        Raises:
            ssl.SSLError: As for the first one; all stays as it was.
        """
        self._context = server_context(pem, ALPN)

    async def shake(self, sock: socket.socket) -> ssl.SSLSocket:
        """Return `sock`, non-blocking and taken over, with TLS.

        Raises:
            OSError: The peer is gone, or has done anything else than what it should; ssl.SSLError is one.
            TimeoutError, asyncio.TimeoutError: It did not in time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HANDSHAKE_SECONDS
        with sock:  # which `wrap_socket` empties, if it succeeds
            tls = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        try:
            while (waits := await self._go_on(tls)) is not None:
                await asyncio.wait_for(_ready(tls, waits), deadline - loop.time())
            if tls.selected_alpn_protocol() != ALPN:
                raise OSError("the client did not agree to speak the direct carrier's protocol")
        except BaseException:
            tls.close()
            raise
        return tls

    async def _go_on(self, tls: ssl.SSLSocket) -> str | None:
        step = asyncio.get_running_loop().run_in_executor(self._thread, _go_on, tls)
        try:
            return await asyncio.shield(step)
        except asyncio.CancelledError:
            await asyncio.wait([step])  # it has the socket, and never waits for the peer
            raise

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()


def _go_on(tls: ssl.SSLSocket) -> str | None:
    """Go on with a handshake; return what it waits for, None when it is done."""
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return "read"
    except ssl.SSLWantWriteError:
        return "write"
    return None


async def _ready(sock: socket.socket, to: str) -> None:
    """Return when the socket is ready to be read or written."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    add, remove = (loop.add_reader, loop.remove_reader) if to == "read" else (loop.add_writer, loop.remove_writer)
    add(sock, tell)
    try:
        await ready
    finally:
        with contextlib.suppress(OSError, ValueError):
            remove(sock)
