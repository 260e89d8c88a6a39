"""Benchmark's own process: a bad network, by the kernel's emulator in a network namespace, or else by a proxy.

The proxy is a process of its own that hands bytes on later: it delays and limits bandwidth as a link does. It cannot
lose packets, since TCP ends at it; a loss is acted out as what it does to a connection: everything behind it waits for
a retransmission (one round trip and `RETRANSMISSION_SECONDS`).

    python link.py HOST:PORT DELAY_SECONDS BYTES_PER_SECOND LOSS        the proxy; prints its address
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import serving

RETRANSMISSION_SECONDS = 0.2
"""Linux's least retransmission timeout; most losses are repaired faster, so the proxy is the worse link."""
SEGMENT_BYTES = 1_448
CHUNK_BYTES = 64 * 1_024
MAX_QUEUE_BYTES = 4 * 1_024 * 1_024
"""What the link holds; then the sender is made to wait, as by TCP's window."""


_numbers = itertools.count()


@dataclass(frozen=True)
class Link:
    """What a connection suffers: the same in both directions, so a round trip takes twice the delay."""

    delay_ms: float = 0.0
    megabit: float = 0.0  # per second; 0: no limit
    loss: float = 0.0  # of packets

    def __str__(self) -> str:
        """Return the round trip, bandwidth and loss."""
        parts = [f"{2 * self.delay_ms:g} ms round trip"]
        parts += [f"{self.megabit:g} Mbit/s"] if self.megabit else []
        parts += [f"{self.loss:.1%} lost"] if self.loss else []
        return ", ".join(parts)

    @property
    def flags(self) -> list[str]:
        """Of ``tc qdisc add dev DEVICE root netem``."""
        rate = ["rate", f"{self.megabit:g}mbit"] if self.megabit else []
        loss = ["loss", f"{self.loss:.4%}"] if self.loss else []
        return ["delay", f"{self.delay_ms:g}ms", "limit", "100000", *rate, *loss]


@contextlib.contextmanager
def namespace(link: Link) -> Iterator[tuple[str, ...]]:
    """Make a network namespace whose loopback device is the link; give the command prefix that runs within it.

    Raises:
        OSError: It is not allowed, or the kernel has no emulator; says which.
    """
    name = f"remote_gym_{os.getpid()}_{next(_numbers)}"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        raise OSError("there is no `ip` or `tc` (package iproute2)")
    _run("ip", "netns", "add", name)
    try:
        inside = ("ip", "netns", "exec", name)
        _run(*inside, "ip", "link", "set", "lo", "up")
        _run(*inside, "tc", "qdisc", "add", "dev", "lo", "root", "netem", *link.flags)
        yield inside
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def _run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def why_no_namespace() -> str | None:
    """Return why the kernel's emulator cannot be used, None if it can."""
    try:
        with namespace(Link(delay_ms=1.0)):
            return None
    except OSError as error:
        return str(error)


@contextlib.contextmanager
def proxied(address: str, link: Link) -> Iterator[str]:
    """Run the proxy before `address`; give its own."""
    values = [str(link.delay_ms / 1_000), str(link.megabit * 1e6 / 8), str(link.loss)]
    with serving.started([sys.executable, str(Path(__file__).resolve()), address, *values], "ready on ") as (_, ours):
        yield ours


class Direction:
    """One direction of one connection: what is read is written later."""

    def __init__(self, delay_seconds: float, bytes_per_second: float, loss: float) -> None:
        """Begin with an idle line."""
        self._delay, self._rate, self._loss = delay_seconds, bytes_per_second, loss
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._queued_bytes = 0
        self._free_at = 0.0  # when the line has carried all that was read
        self._random = random.Random(1)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry until the reader's end."""
        sender = asyncio.ensure_future(self._send(writer))
        try:
            while data := await reader.read(CHUNK_BYTES):
                self._queued_bytes += len(data)
                self._queue.put_nowait((self._due(len(data)), data))
                while self._queued_bytes > MAX_QUEUE_BYTES:
                    await asyncio.sleep(0.001)
            self._queue.put_nowait((0.0, b""))
            await sender
        finally:
            sender.cancel()
            writer.close()

    def _due(self, size: int) -> float:
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + (size / self._rate if self._rate else 0.0)
        segments = -(-size // SEGMENT_BYTES)
        if self._loss and self._random.random() < 1.0 - (1.0 - self._loss) ** segments:
            self._free_at += 2 * self._delay + RETRANSMISSION_SECONDS
        return self._free_at + self._delay

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await self._queue.get()
            if not data:
                return
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            writer.write(data)
            self._queued_bytes -= len(data)
            await writer.drain()


async def proxy(address: str, delay_seconds: float, bytes_per_second: float, loss: float) -> None:
    """Serve until the process ends."""
    host, _, port = address.rpartition(":")

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(OSError):
            await asyncio.gather(
                Direction(delay_seconds, bytes_per_second, loss).carry(reader, there_writer),
                Direction(delay_seconds, bytes_per_second, loss).carry(there_reader, writer),
            )

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    print(f"ready on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(proxy(sys.argv[1], *map(float, sys.argv[2:])))
