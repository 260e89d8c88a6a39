"""Child side: the worker's main loop. ``python -m remote_gym.workers.worker`` with three inherited descriptors.

One thread, one round at a time. The process ends when the server closes the socket (environments are closed first), and
is killed with its whole process group by the kernel when the server is gone (see `die_with_the_server`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from remote_gym import failpoints
from remote_gym.workers.board import SIZE_BYTES, Board
from remote_gym.workers.guard import die_with_the_server
from remote_gym.workers.link import ChildLink, Command, Result
from remote_gym.workers.memory import SharedBlock
from remote_gym.workers.output import LabelledOutput

ANSWER_SECONDS = 0.001
"""Commands of one round whose results have waited for this long are answered before the next one runs."""

_NEED_A_GROUP = frozenset({"reset", "step", "call", "set", "render"})


class Worker:
    """The groups of environments in this process, and the commands on them."""

    def __init__(self, descriptors: socket.socket, board: Board) -> None:
        """Host nothing yet; shared memory will come as descriptors over the socket `descriptors`."""
        from remote_gym import values
        from remote_gym.workers import (  # gymnasium takes a while: the server is already told that we run
            hosting,
            results,
        )

        self._unpack = values.unpack
        self._hosting = hosting
        self._results = results
        self._descriptors = descriptors
        self._board = board
        self._groups: dict[int, Any] = {}  # EnvironmentGroup or VectorGroup
        self._handlers: dict[str, Callable[..., Result]] = {
            "is vector": self._is_vector,
            "build": self._build,
            "rows": self._rows,
            "reset": self._reset,
            "step": self._step,
            "call": self._call,
            "set": self._set,
            "render": self._render,
            "close": self._close,
        }

    def run(self, commands: list[Command], answer: Callable[[list[Result]], None]) -> None:
        """Run one round and answer it: at once what took long, the rest together."""
        failpoints.hit("worker.received")
        results: list[Result] = []
        answered = time.perf_counter()
        for command in commands:
            if results and time.perf_counter() - answered > ANSWER_SECONDS:
                answer(results)
                results, answered = [], time.perf_counter()
            results.append(self._run_one(command))
        self._board.idle()
        failpoints.hit("worker.answer")
        answer(results)

    def _run_one(self, command: Command) -> Result:
        """Run one command; None answers what concerns a group that could not be built (again)."""
        name, *arguments = command
        if name in _NEED_A_GROUP and arguments[0] not in self._groups:
            return None
        return self._handlers[name](*arguments)

    def close(self) -> None:
        """Close all environments."""
        for group in list(self._groups):
            self._close(group)

    def _build(
        self, group: int, entrypoint: str, kwargs: bytes, render_mode: str | None, env_ids: list[int], first: int,
        options: list[Any], vectorization_mode: str | None, vector: bool, spare: int | None, rebuilt: bool,
    ) -> Result:  # fmt: skip
        from remote_gym.workers.entrypoint import Recipe
        from remote_gym.workers.vector_hosting import VectorGroup

        recipe = Recipe(entrypoint, self._unpack(kwargs) if kwargs else {}, render_mode, vectorization_mode)
        ready = None if spare is None else self._groups.pop(spare).envs[0].env
        wanted = self._results.HostingOptions(*options)
        built: Any
        try:
            if vector:
                built = VectorGroup(recipe, env_ids, wanted, self._board, rebuilt)
            else:
                built = self._hosting.EnvironmentGroup(recipe, env_ids, first, wanted, self._board, ready, rebuilt)
        except self._results.BuildError as error:
            return {"failure": error.failure}
        self._groups[group] = built
        return built.description()

    def _is_vector(self, entrypoint: str, vectorization_mode: str | None) -> Result:
        from remote_gym.workers.entrypoint import Recipe

        try:
            return {"vector": Recipe(entrypoint, {}, None, vectorization_mode).is_vector}
        except (Exception, SystemExit) as error:
            return {"failure": self._results.failure_of(0, error)}

    def _rows(self, group: int, num_envs: int, size: int) -> Result:
        _, (descriptor,), _, _ = socket.recv_fds(self._descriptors, 1, 1)
        try:
            block = SharedBlock(descriptor, size)
        except (OSError, ValueError) as error:  # a limit on this process's address space
            return {"refused": f"a worker could not map {size} bytes: {error}"}
        if group in self._groups:
            self._groups[group].attach(block.buffer, num_envs)
        block.close()  # the arrays keep the mapping alive
        return None

    def _reset(self, group: int, indices: list[int] | None, seeds: bytes, options: bytes) -> Result:
        hosted = self._groups[group]
        return hosted.reset(indices, self._unpack(seeds) if seeds else None, self._unpack(options) if options else None)

    def _step(self, group: int, indices: list[int] | None, variable: bytes) -> Result:
        hosted = self._groups[group]
        began = time.perf_counter_ns()
        result = hosted.step(indices, self._unpack(variable) if variable else ())
        count = len(hosted.env_ids if indices is None else indices)
        self._board.stepped((time.perf_counter_ns() - began) // count)
        return result

    def _call(self, group: int, indices: list[int] | None, name: str, arguments: bytes) -> Result:
        return self._groups[group].call(indices, name, self._unpack(arguments) if arguments else None)

    def _set(self, group: int, indices: list[int] | None, name: str, new: bytes) -> Result:
        return self._groups[group].set_attribute(indices, name, self._unpack(new))

    def _render(self, group: int, indices: list[int] | None) -> Result:
        return self._groups[group].render(indices)

    def _close(self, group: int) -> Result:
        if (hosted := self._groups.pop(group, None)) is not None:
            hosted.close()
        return None


def main() -> None:
    """Host environments until the server closes the socket."""
    commands_fd, descriptors_fd, guard_fd, board_fd = map(int, sys.argv[1:5])
    die_with_the_server(guard_fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the server's terminal is the server's to handle
    board = Board(SharedBlock(board_fd, SIZE_BYTES).buffer)
    sys.stdout, sys.stderr = (LabelledOutput(descriptor, board.current_env_id) for descriptor in (1, 2))
    faulthandler.enable(file=2)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, file=2)  # the server asks for the stack of a hung worker
    link = ChildLink(socket.socket(fileno=commands_fd))
    rounds = link.rounds()
    started: Any = next(rounds, None)
    if started is None:
        return
    (start,) = started
    sys.path[:] = start["path"]
    sys.argv[1:] = []
    _restore_environment(start["environment"])
    worker = Worker(socket.socket(fileno=descriptors_fd), board)
    link.answer([{"pid": os.getpid()}])
    for commands in rounds:
        worker.run(commands, link.answer)
    worker.close()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.close()


def _restore_environment(changed: dict[str, str | None]) -> None:
    """Undo what the server changed in our environment variables to start us."""
    for name, value in changed.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


if __name__ == "__main__":
    main()
