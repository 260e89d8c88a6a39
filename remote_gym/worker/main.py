"""Child side: the worker's main loop. ``python -m remote_gym.worker.main`` with three inherited descriptors.

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
from remote_gym.ipc import progress
from remote_gym.ipc.link import ChildLink, Command, Result, encode
from remote_gym.ipc.memory import SharedBlock
from remote_gym.ipc.progress import REPORT_OFFSET, SIZE_BYTES, Board
from remote_gym.worker.guard import die_with_the_server
from remote_gym.worker.output import LabelledOutput

ANSWER_SECONDS = 0.001
"""Commands of one round whose results have waited for this long are answered before the next one runs."""

_RETURN_VALUES = frozenset({"call", "set", "render"})
_NEED_A_GROUP = _RETURN_VALUES | {"reset", "step"}


class Worker:
    """The groups of environments in this process, and the commands on them."""

    def __init__(self, descriptors: socket.socket, board: Board) -> None:
        """Host nothing yet; shared memory will come as descriptors over the socket `descriptors`."""
        from remote_gym import values

        # gymnasium takes a while: the server is already told that we run
        from remote_gym.worker import environments, results

        self._unpack = values.unpack
        self._hosting = environments
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
        for done, command in enumerate(commands):
            if results and time.perf_counter() - answered > ANSWER_SECONDS:
                self._answer(commands[done - len(results) : done], results, answer)
                results, answered = [], time.perf_counter()
            results.append(self._run_one(command))
        self._board.idle()
        failpoints.hit("worker.answer")
        self._answer(commands[len(commands) - len(results) :], results, answer)

    def _answer(self, commands: list[Command], results: list[Result], answer: Callable[[list[Result]], None]) -> None:
        """Answer; a result that cannot be encoded fails alone. The link sends nothing before all is encoded."""
        try:
            answer(results)
        except (ValueError, TypeError, OverflowError):
            for number, (command, result) in enumerate(zip(commands, results, strict=True)):
                try:
                    encode([result])
                except (ValueError, TypeError, OverflowError) as error:
                    results[number] = self._failed(command, error)
            answer(results)

    def _run_one(self, command: Command) -> Result:
        """Run one command; None answers what concerns a group that could not be built (again).

        Whatever it raises is an answer, and concerns the command's own environments: others live in this process.
        """
        name, *arguments = command
        if name in _NEED_A_GROUP and arguments[0] not in self._groups:
            return None
        if name != "is vector":
            self._board.turn_of(arguments[0])
        try:
            return self._handlers[name](*arguments)
        except BaseException as error:
            return self._failed(command, error)

    def _failed(self, command: Command, error: BaseException) -> Result:
        """Return the answer to a command that raised: as many failures as it has environments."""
        name, group, *arguments = command
        if name == "rows":
            return {"refused": f"a worker could not lay out rows: {error}"}
        if name in ("build", "is vector"):
            return {"failure": self._failure(arguments[5] if name == "build" else 0, error)}
        if name == "close":
            return None
        hosted, (indices, *_) = self._groups[group], arguments
        everyone = range(hosted.first, hosted.first + len(hosted.env_ids)) if indices is None else indices
        failures = [self._failure(index, error) for index in everyone]
        return [[b""] * len(failures) if name in _RETURN_VALUES else b"", failures]

    def _failure(self, index: int, error: BaseException) -> Any:
        from remote_gym.errors import CodecError

        # A CodecError is the client's: it packed what is no value, and nothing was called.
        if isinstance(error, CodecError):
            return self._results.invalid(index, error)
        return self._results.failure_of(index, error)

    def close(self) -> None:
        """Close all environments."""
        for group in list(self._groups):
            self._close(group)

    def _build(
        self, group: int, entrypoint: str, kwargs: bytes, of_client: bytes, render_mode: str | None,
        env_ids: list[int], first: int,
        options: list[Any], vectorization_mode: str | None, vector: bool, spare: int | None, rebuilt: bool,
    ) -> Result:  # fmt: skip
        from remote_gym.worker.entrypoint import Recipe
        from remote_gym.worker.vector_environment import VectorGroup

        self._board.begin(progress.BUILD, env_ids[0])
        merged = self._kwargs(kwargs, "default_args['entrypoint_kwargs']")
        merged.update(self._kwargs(of_client, "remote_args['entrypoint_kwargs']"))
        recipe = Recipe(entrypoint, merged, render_mode, vectorization_mode)
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

    def _kwargs(self, packed: bytes, where: str) -> dict[str, Any]:
        return self._unpack(packed, where) if packed else {}

    def _is_vector(self, entrypoint: str, vectorization_mode: str | None) -> Result:
        from remote_gym.worker.entrypoint import Recipe

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
        return hosted.reset(
            indices,
            self._unpack(seeds, "seeds") if seeds else None,
            self._unpack(options, "options") if options else None,
        )

    def _step(self, group: int, indices: list[int] | None, variable: bytes) -> Result:
        hosted = self._groups[group]
        began = time.perf_counter_ns()
        result = hosted.step(indices, self._unpack(variable, "actions") if variable else ())
        count = len(hosted.env_ids if indices is None else indices)
        self._board.stepped((time.perf_counter_ns() - began) // count)
        return result

    def _call(self, group: int, indices: list[int] | None, name: str, arguments: bytes) -> Result:
        return self._groups[group].call(indices, name, self._unpack(arguments, "arguments") if arguments else None)

    def _set(self, group: int, indices: list[int] | None, name: str, new: bytes) -> Result:
        return self._groups[group].set_attribute(indices, name, self._unpack(new, "values"))

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
    sys.stdout, sys.stderr = (LabelledOutput(descriptor, board.current) for descriptor in (1, 2))
    os.lseek(board_fd, REPORT_OFFSET, os.SEEK_SET)
    faulthandler.enable(file=board_fd)
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
