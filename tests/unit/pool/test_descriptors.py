"""Descriptors on their way to a worker: all, in order, never blocking; and none is left open."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from remote_gym.pool.descriptors import DescriptorSender


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def play(test: Callable[[DescriptorSender, socket.socket, list[str]], Coroutine[Any, Any, None]]) -> None:
    before = open_descriptors()

    async def main() -> None:
        ours, theirs = socket.socketpair()
        killed: list[str] = []
        with theirs:
            await test(DescriptorSender("worker 0", ours, lambda: killed.append("killed")), theirs, killed)

    asyncio.run(main())
    assert open_descriptors() == before


def receive(sock: socket.socket) -> int:
    """Return the inode of the descriptor that comes next."""
    _, (descriptor,), _, _ = socket.recv_fds(sock, 1, 1)
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


async def many(sender: DescriptorSender, sock: socket.socket, killed: list[str]) -> None:
    sent = []
    for _ in range(600):  # more than the socket holds
        read, write = os.pipe()
        sent.append(os.fstat(read).st_ino)
        sender.send(read)
        os.close(read)
        os.close(write)
    received = []
    while len(received) < len(sent):
        await asyncio.sleep(0)
        received += [receive(sock)]
    assert (received, killed) == (sent, [])
    sender.close()


async def leftovers(sender: DescriptorSender, _sock: socket.socket, killed: list[str]) -> None:
    for _ in range(600):
        sender.send(0)
    sender.close()
    assert killed == []


async def after_its_end(sender: DescriptorSender, sock: socket.socket, killed: list[str]) -> None:
    sock.close()
    sender.send(0)
    assert killed == ["killed"]
    sender.close()


def test_more_than_the_socket_holds_follow_in_order() -> None:
    play(many)


def test_what_was_not_sent_is_closed() -> None:
    play(leftovers)


def test_who_cannot_get_a_descriptor_is_killed_instead_of_waiting_for_ever() -> None:
    play(after_its_end)


async def who_writes(sender: DescriptorSender, sock: socket.socket, _killed: list[str]) -> None:
    assert sender.peer() is None  # nothing was sent yet
    sock.send(b"\0")
    assert sender.peer() == (os.getpid() if hasattr(socket, "SCM_CREDENTIALS") else None)
    sender.close()


def test_the_kernel_tells_who_has_written() -> None:
    play(who_writes)
