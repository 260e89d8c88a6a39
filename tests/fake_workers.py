"""What stands for the pool where only the server's side is tested: workers that remember, and answer when told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from remote_gym.pool import Block, WorkerLost


class Worker:
    """Takes commands; the test answers them."""

    def __init__(self) -> None:
        self.lost: WorkerLost | None = None
        self.num_envs = 0
        self.step_seconds = 0.0
        self.asked: list[tuple[Any, Callable[[Any], None]]] = []
        self.descriptors: list[int] = []

    def submit(self, command: Any, callback: Callable[[Any], None]) -> None:
        self.asked.append((command, callback))

    def send_descriptor(self, descriptor: int) -> None:
        self.descriptors.append(descriptor)

    @property
    def commands(self) -> list[Any]:
        return [command for command, _ in self.asked]

    def answer(self, result: Any) -> None:
        """Answer the oldest command."""
        _, callback = self.asked.pop(0)
        callback(result)


def block(first: int, num_envs: int, worker: Worker | None = None, group: int = 0) -> Block:
    """Return a block of environments whose env_ids are their env indices and 100."""
    alone: Any = Worker() if worker is None else worker
    env_ids = [100 + index for index in range(first, first + num_envs)]
    return Block(alone, group or first + 1, first, env_ids, lambda *_: None)


def worker_of(one: Block) -> Worker:
    worker: Any = one.worker
    assert isinstance(worker, Worker)
    return worker
