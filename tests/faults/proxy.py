"""A TCP proxy that does harm, in a thread of the test's process: between a client and a server on loopback.

"up" is from the client to the server, "down" the other way. Everything may be changed while bytes flow.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

READ_BYTES = 65_536
IN_FLIGHT_CHUNKS = 256

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class Toxics:
    """What happens to the bytes of one direction."""

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float | None = None
    slice_bytes: int | None = None  # pass so many at a time, each in a packet of its own
    passed: int = 0  # bytes so far, over all connections
    cuts: list[tuple[int, str]] = field(default_factory=list)  # (value of `passed` to cut at, how), lowest first


class Connection:
    """One client's connection and the one made for it to the server."""

    def __init__(self, near: tuple[Any, Any], far: tuple[Any, Any]) -> None:
        self.readers = {"up": near[0], "down": far[0]}
        self.writers = {"up": far[1], "down": near[1]}
        self.flowing = asyncio.Event()
        self.flowing.set()
        for writer in self.writers.values():
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def cut(self, how: str) -> None:
        """End it: ``"rst"`` both sides at once, ``"fin"`` after what is in flight, ``"up"``, ``"down"`` one half."""
        for direction, writer in self.writers.items():
            if how == "rst":
                _reset(writer)
            elif how == "fin":
                writer.close()
            elif how == direction:
                with contextlib.suppress(OSError):
                    writer.write_eof()


def _reset(writer: Any) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


class Proxy:
    """Use as a context manager; clients dial `address`.

    Attributes:
        up, down: Settings of the two directions.
        accepted: Connections so far.
    """

    def __init__(self, target: str) -> None:
        """Forward to `target`, ``host:port``; may be changed while running."""
        self.target = target
        self.up, self.down = Toxics(), Toxics()
        self.accepted = 0
        self._connections: set[Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._run(self._listen())

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10.0)

    def _soon(self, function: Callable[..., Any], *args: Any) -> None:
        self._loop.call_soon_threadsafe(function, *args)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    # What a test does to it, from other threads

    def cut(self, how: str = "rst") -> None:
        """End all connections there are; see `Connection.cut`. Done when this returns."""

        async def run() -> None:
            for connection in list(self._connections):
                connection.cut(how)
            await asyncio.sleep(0)  # `abort` closes in the next round of the loop

        self._run(run())

    def cut_after(self, count: int, direction: str, how: str = "rst") -> None:
        """End the connection that passes the `count`-th byte from now on in `direction`, exactly after that byte."""
        toxics = getattr(self, direction)
        toxics.cuts.append((toxics.passed + count, how))
        toxics.cuts.sort()

    def heal(self) -> None:
        """Do no more harm."""
        for toxics in (self.up, self.down):
            toxics.delay_seconds = toxics.jitter_seconds = 0.0
            toxics.bytes_per_second = toxics.slice_bytes = None
            toxics.cuts = []
        self.flow()
        self.accept()

    def blackhole(self) -> None:
        """Pass nothing, without a word to either side, on old connections and new ones."""
        self._soon(self._flowing.clear)

    def flow(self) -> None:
        """End a blackhole; what was sent meanwhile arrives."""
        self._soon(self._flowing.set)

    def freeze(self) -> None:
        """Hold back the bytes of the connections there are, until `thaw`; new ones flow."""
        self._soon(lambda: [connection.flowing.clear() for connection in self._connections])

    def thaw(self) -> None:
        """Let go what `freeze` holds back, however late."""
        self._soon(lambda: [connection.flowing.set() for connection in self._connections])

    def refuse(self) -> None:
        """Reset new connections as soon as they have come."""
        self._refusing = True

    def accept(self) -> None:
        """Accept connections again."""
        self._refusing = False

    # Bytes

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            _reset(writer)
            return
        self.accepted += 1
        host, _, port = self.target.rpartition(":")
        try:
            await self._flowing.wait()
            far = await asyncio.open_connection(host, int(port))
        except OSError:
            _reset(writer)
            return
        except asyncio.CancelledError:
            _reset(writer)
            raise
        connection = Connection((reader, writer), far)
        self._connections.add(connection)
        pumps = [self._pump(connection, direction) for direction in ("up", "down")]
        await asyncio.gather(*pumps, return_exceptions=True)
        connection.cut("fin")
        self._connections.discard(connection)

    async def _pump(self, connection: Connection, direction: str) -> None:
        """Read, and hand over with the time at which it may go on: a long way does not make a narrow one."""
        toxics: Toxics = getattr(self, direction)
        reader = connection.readers[direction]
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_FLIGHT_CHUNKS)
        writing = asyncio.ensure_future(self._write(connection, direction, under_way))
        try:
            data = b"-"
            while data and not writing.done():
                data = await reader.read(READ_BYTES)
                seconds = toxics.delay_seconds + random.uniform(0.0, toxics.jitter_seconds)
                await under_way.put((self._loop.time() + seconds, data))
        except OSError:
            connection.cut("rst")  # what one side gets, so does the other
        else:
            await writing
        finally:
            writing.cancel()

    async def _write(
        self, connection: Connection, direction: str, under_way: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        try:
            while True:
                due, data = await under_way.get()
                if due > self._loop.time():
                    await asyncio.sleep(due - self._loop.time())
                if not data:
                    break
                await self._pass(data, connection, direction)
            await self._may_flow(connection)
            connection.writers[direction].write_eof()
        except (OSError, RuntimeError):
            connection.cut("rst")

    async def _pass(self, data: bytes, connection: Connection, direction: str) -> None:
        toxics: Toxics = getattr(self, direction)
        writer = connection.writers[direction]
        while data:
            await self._may_flow(connection)
            piece = data[: toxics.slice_bytes or len(data)]
            if toxics.cuts:
                piece = piece[: max(1, toxics.cuts[0][0] - toxics.passed)]
            data = data[len(piece) :]
            if toxics.bytes_per_second is not None:
                await asyncio.sleep(len(piece) / toxics.bytes_per_second)
            await self._may_flow(connection)
            writer.write(piece)
            await writer.drain()
            toxics.passed += len(piece)
            if toxics.cuts and toxics.passed >= toxics.cuts[0][0]:
                connection.cut(toxics.cuts.pop(0)[1])

    async def _may_flow(self, connection: Connection) -> None:
        await self._flowing.wait()
        await connection.flowing.wait()

    def __enter__(self) -> Proxy:
        """Return self."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """End all connections and the thread."""

        async def end() -> None:
            self._server.close()
            for connection in list(self._connections):
                connection.cut("rst")
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            for _ in range(3):
                await asyncio.sleep(0)  # transports close in the rounds after they were told to

        with contextlib.suppress(Exception):
            self._run(end())
        self._soon(self._loop.stop)
        self._thread.join(5.0)
        self._loop.close()
