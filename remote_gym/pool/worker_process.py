"""Parent side: one worker process. Starts it, talks to it in rounds, and notices {answer, exit, deadline} together.

Everything here runs on the server's event loop; nothing blocks but the start of the process itself (a few ms).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from remote_gym.ipc.commands import KIND_OF, RESULTS, Command, Result, Start, Timed
from remote_gym.ipc.link import RECEIVE_BYTES, Decoder, RoundEncoder, encode
from remote_gym.ipc.memory import SharedBlock
from remote_gym.ipc.progress import NO_ENV_ID, SIZE_BYTES, Board
from remote_gym.pool.descriptors import DescriptorSender
from remote_gym.pool.exits import WorkerLost, describe_exit
from remote_gym.pool.output import WorkerOutput
from remote_gym.pool.rounds import next_round
from remote_gym.pool.surroundings import Surroundings

logger = logging.getLogger("remote_gym.pool")

EXIT_GRACE_SECONDS = 2.0
"""How long environments may take to close before their worker is killed."""

FLOODED_SECONDS = 0.005
"""How long a worker is not read that prints more than the log takes: other things have their turn, and it waits."""

BOOTSTRAP = """\
import os, sys
with open(int(sys.argv.pop(1)), "rb") as file:
    sys.path[:] = os.fsdecode(file.read().rstrip(bytes(1))).split(chr(0))
import runpy
runpy.run_module("remote_gym.worker.main", run_name="__main__", alter_sys=True)
"""
"""What a worker runs: `python -m remote_gym.worker.main`, but with the server's `sys.path` from the first import on.
That path lies in a file of which the first argument is the descriptor."""


_running: weakref.WeakSet[WorkerProcess] = weakref.WeakSet()


def _let_go_after_fork() -> None:
    """In a forked child: let go of the guards, or workers would outlive the server as long as the child lives."""
    for worker in _running:
        with contextlib.suppress(OSError):
            os.close(worker._guard)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_after_fork)

Callback = Callable[[Any], None]
"""Called with a result, of one of the types that the command has, or a `WorkerLost`."""


class WorkerProcess:
    """A running worker.

    Guarantees: every submitted command's callback is called once, with its result or a `WorkerLost`, in order.
    """

    def __init__(
        self,
        name: str,
        on_exit: Callable[[WorkerProcess, WorkerLost], None],
        surroundings: Surroundings | None = None,
    ) -> None:
        """Prepare; `start` starts the process. `on_exit` is called once, after all callbacks."""
        self.name = name
        self._surroundings = Surroundings.here() if surroundings is None else surroundings
        self.tenant: str | None = None  # who lives here, or did, and shares it with nobody; see `workforce`
        self.num_envs = 0
        self.pid = 0
        self.restarts = 0  # workers of this name before it
        self.started = time.time()
        self.lost: WorkerLost | None = None
        self.stopping = False
        self.has_answered = False  # a round, besides the first message
        self.sent_at = 0  # when its last round was, monotonic, ns; once somebody has asked for times
        self._takes_times = False
        self._on_exit = on_exit
        self._waiting: deque[tuple[Command, Callback]] = deque()
        self._at_leisure: deque[tuple[Command, Callback]] = deque()
        self._in_flight: list[Callback] = [lambda _started: None]  # the answer to the start message comes first
        self._decoder = Decoder(RESULTS)
        self._encoder = RoundEncoder()
        self._output = WorkerOutput(name, self._turn)
        self._hung: str | None = None
        self._has_started = False
        self._is_wrapped = False  # whether another command starts the worker
        self._watched = ((0, 0), 0.0)  # progress when last seen to move, seconds it has stood still

    async def start(self) -> None:
        """Start the process; commands may be submitted as soon as this returns.

        Raises:
            OSError: The process or its descriptors could not be made.
            MemoryError: The board could not be allocated.
        """
        with contextlib.ExitStack() as on_failure, contextlib.ExitStack() as on_return:
            block = on_failure.enter_context(SharedBlock.create(SIZE_BYTES))
            commands, child_commands = socket.socketpair()
            on_failure.callback(commands.close)
            on_return.callback(child_commands.close)
            descriptors, child_descriptors = socket.socketpair()
            on_failure.callback(descriptors.close)
            on_return.callback(child_descriptors.close)
            child_guard, self._guard = os.pipe()
            on_failure.callback(os.close, self._guard)
            on_return.callback(os.close, child_guard)
            packed = self._surroundings.packed_path()
            path = on_return.enter_context(SharedBlock.create(len(packed)))
            path.write(packed)
            inherited = (
                path.descriptor, child_commands.fileno(), child_descriptors.fileno(), child_guard, block.descriptor,
            )  # fmt: skip
            self._board = Board(block.buffer)
            self._board.clear()
            environment, changed = self._surroundings.variables()
            folder = self._surroundings.usable_folder()
            command = self._surroundings.command(folder)
            self._is_wrapped = len(command) > 1
            loop = asyncio.get_running_loop()
            self._exited, self._output_ended = loop.create_future(), loop.create_future()
            self._process, _ = await loop.subprocess_exec(
                lambda: _Watcher(self._exited, self._output_ended, self._output.feed),
                *command, "-c", BOOTSTRAP, *map(str, inherited),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                cwd=folder, env=environment, pass_fds=inherited, start_new_session=True,
            )  # fmt: skip
            on_failure.pop_all()
        _running.add(self)
        self.pid = self._leader = self._process.get_pid()
        self._block = block
        commands.setblocking(False)
        self._descriptors = DescriptorSender(self.name, descriptors, self.kill)
        self._transport, _ = await asyncio.get_running_loop().create_connection(lambda: _Receiver(self), sock=commands)
        self._transport.write(encode([Start(changed, *self._surroundings.confinement(folder))]))
        self._exit_task = asyncio.create_task(self._wait_for_exit())
        logger.debug("%s started as process %d", self.name, self.pid)

    def submit(self, command: Command, callback: Callback) -> None:
        """Run `command` in the next round. Commands that wait for a busy worker travel together, see `rounds`."""
        if self.lost is not None:
            asyncio.get_running_loop().call_soon(callback, self.lost)
            return
        self._waiting.append((command, callback))
        if not self._in_flight and not self.stopping:
            self._send_round()

    def submit_timed(self, command: Command, callback: Callback) -> None:
        """Do what `submit` does; the result is a `TimedResult`, and `sent_at` when its round was sent."""
        self._takes_times = True
        self.submit(Timed(KIND_OF[type(command)], command), callback)

    def submit_at_leisure(self, command: Command, callback: Callback) -> Callable[[], bool]:
        """Run `command` alone, once there is nothing else to do; what is submitted meanwhile waits for its end.

        Returns:
            What withdraws it, unless it has begun, and returns whether it has done so: nothing is called then.
        """
        waits = command, callback
        if self.lost is not None:
            asyncio.get_running_loop().call_soon(callback, self.lost)
        else:
            self._at_leisure.append(waits)
            self._use_leisure()

        def withdraw() -> bool:
            with contextlib.suppress(ValueError):
                self._at_leisure.remove(waits)
                return True
            return False

        return withdraw

    def _use_leisure(self) -> None:
        if self._at_leisure and self.idle and not self.stopping:
            self._waiting.append(self._at_leisure.popleft())
            self._send_round()

    @property
    def idle(self) -> bool:
        """Whether it has answered everything."""
        return not (self._in_flight or self._waiting)

    @property
    def groups(self) -> set[int]:
        """Who lives here."""
        return self._output.groups

    def enter(self, group: int, num_envs: int) -> None:
        """Take note that `num_envs` environments of `group` live here from now on."""
        self._output.enter(group)
        self.num_envs += num_envs

    def leave(self, group: int, num_envs: int) -> None:
        """Take note that they do no longer; what they printed is forgotten."""
        self._output.leave(group)
        self.num_envs -= num_envs

    @property
    def step_seconds(self) -> float:
        """How long one environment's step takes here, lately; 0 if that is not known."""
        return 0.0 if self.lost is not None else self._board.step_seconds

    @property
    def steps(self) -> tuple[int, float]:
        """How many environments' steps were made here, and how many seconds they took together."""
        return (0, 0.0) if self.lost is not None else self._board.steps

    @property
    def busy_seconds(self) -> float:
        """How long it has been at work since it started."""
        return 0.0 if self.lost is not None else self._board.busy_seconds(time.perf_counter_ns())

    @property
    def step_counts(self) -> Sequence[int]:
        """How many environments' steps took how long, by `ipc.progress.STEP_BOUNDS_SECONDS`."""
        return () if self.lost is not None else self._board.step_counts

    @property
    def number(self) -> int:
        """Which of the pool's it is; who takes its place has its name and number."""
        digits = self.name.rpartition(" ")[2]
        return int(digits) if digits.isdecimal() else 0

    def send_descriptor(self, descriptor: int) -> None:
        """Hand over a file descriptor for a command that is submitted next; never blocks.

        The caller may close its own at once.
        """
        if self.lost is None:
            self._descriptors.send(descriptor)

    def _send_round(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        if len(waiting) > 1:
            waiting, self._waiting = next_round(waiting)
        commands, callbacks = zip(*waiting, strict=True)
        self._in_flight = list(callbacks)
        self._watched = ((-1, -1), 0.0)
        if self._takes_times:
            self.sent_at = time.monotonic_ns()
        self._transport.write(self._encoder.encode(commands))

    def received(self, data: bytes) -> None:
        """Take in bytes from the worker."""
        for results in self._decoder.feed(data):
            self.has_answered = self.has_answered or self._has_started
            if not self._has_started:
                self._has_started = True
                self._meet()
            # The results of a round may come in several messages.
            callbacks, self._in_flight = self._in_flight[: len(results)], self._in_flight[len(results) :]
            for callback, result in zip(callbacks, results, strict=True):
                self._call(callback, result)
            if self._waiting and not self._in_flight and not self.stopping:
                self._send_round()
            elif self._at_leisure:
                self._use_leisure()

    def _meet(self) -> None:
        """Learn which process the worker is, if another one has started it."""
        if self._is_wrapped and (peer := self._descriptors.peer()) is not None:
            self.pid = peer

    def _call(self, callback: Callback, result: Result | WorkerLost) -> None:
        try:
            callback(result)
        except Exception:  # of one session: the others' callbacks must be called
            logger.exception("%s: an answer could not be dealt with", self.name)

    def check_deadline(self, limits: dict[str, float | None], elapsed_seconds: float) -> None:
        """Kill the worker if its current environment has made no progress for longer than its operation may take.

        Args:
            limits: Seconds per kind of operation; None: no limit.
            elapsed_seconds: Since the last check, capped by the caller so that a suspended server does not count.
        """
        if not self._in_flight or self.lost is not None:
            return
        count, env_id, operation = self._board.read()
        seen, still = self._watched
        if (count, env_id) != seen:
            self._watched = ((count, env_id), 0.0)
            return
        self._watched = (seen, still + elapsed_seconds)
        limit = limits.get(operation)
        if limit is not None and self._watched[1] > limit and self._hung is None:
            self._hung = f"hung in {operation} for more than {limit:g} s"
            self._dump_and_kill()

    def _dump_and_kill(self) -> None:
        """Ask the hung worker for its stack (it goes to the log), then kill its process group."""
        if not self._is_wrapped or self.pid != self._leader:  # a command that is not the worker would be ended by it
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)
        asyncio.get_running_loop().call_later(0.1, self.kill)

    def kill(self) -> None:
        """Kill the worker and what its environments started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._leader, signal.SIGKILL)
        if self.pid != self._leader and not self._exited.done():  # in a group of its own, perhaps
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Let environments close, at most `EXIT_GRACE_SECONDS`, then kill. Returns when the process is gone.

        An environment that is still at work has had its time: its worker is killed at once.
        """
        self.stopping = True
        if self._in_flight and self._board.read()[2] not in ("idle", "close"):
            self.kill()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            with contextlib.suppress(OSError):
                self._transport.write_eof()
        try:
            await asyncio.wait_for(asyncio.shield(self._exit_task), EXIT_GRACE_SECONDS)
        except asyncio.TimeoutError:
            self.kill()
            await self._exit_task

    async def _wait_for_exit(self) -> None:
        await self._exited
        died = time.monotonic()
        self.kill()  # grandchildren that are still in its group
        # What it last wrote is in the pipe already; a grandchild outside of the group may hold it open for ever.
        await asyncio.wait([self._output_ended], timeout=0.02)
        code = self._process.get_returncode()
        assert code is not None
        self._gone(code)
        await asyncio.wait([self._output_ended], timeout=1.0)
        self._process.close()
        self._output.end()
        logger.debug("%s: exit handled in %.1f ms", self.name, 1e3 * (time.monotonic() - died))

    def _gone(self, code: int) -> None:
        _, env_id, _ = self._board.read()
        group = self._board.group
        for line in self._board.report().splitlines():
            self._output.note("worker", group, line)
        self._board.close()
        self.lost = lost = WorkerLost(
            self._hung or describe_exit(code, self._is_wrapped), env_id, group, self._output.tails()
        )
        self._transport.abort()
        self._descriptors.close()
        _running.discard(self)
        os.close(self._guard)
        self._block.close()
        callbacks = [*self._in_flight, *(callback for _, callback in (*self._waiting, *self._at_leisure))]
        self._in_flight, self._waiting, self._at_leisure = [], deque(), deque()
        for callback in callbacks:
            self._call(callback, lost)
        self._on_exit(self, lost)

    def _turn(self) -> tuple[int, int | None]:
        """Return whose turn it is, an env_id or `NO_ENV_ID`, and the group whose command hangs, or None."""
        if self.lost is not None:
            return NO_ENV_ID, None
        return self._board.read()[1], None if self._hung is None else self._board.group

    def __repr__(self) -> str:
        """Return name, process, load and state for an operator."""
        state = "gone" if self.lost else "busy" if self._in_flight else "idle"
        return f"<WorkerProcess {self.name} [pid {self.pid}, {self.num_envs} envs, {state}]>"


class _Watcher(asyncio.SubprocessProtocol):
    """Tells of a worker's exit and output apart.

    `asyncio.subprocess.Process.wait` would not do: until Python 3.13 it also waits for the end of the output, which
    whatever an environment has started keeps open.
    """

    def __init__(
        self, exited: asyncio.Future[None], output_ended: asyncio.Future[None], on_output: Callable[[bytes], bool]
    ) -> None:
        self._exited, self._output_ended, self._on_output = exited, output_ended, on_output

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._process: Any = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if self._on_output(data) and not self._exited.done():
            pipe = self._process.get_pipe_transport(fd)
            pipe.pause_reading()
            asyncio.get_running_loop().call_later(FLOODED_SECONDS, pipe.resume_reading)

    def pipe_connection_lost(self, _fd: int, _error: Exception | None) -> None:
        if not self._output_ended.done():
            self._output_ended.set_result(None)

    def process_exited(self) -> None:
        if not self._exited.done():
            self._exited.set_result(None)


class _Receiver(asyncio.BufferedProtocol):
    """Passes a worker's bytes on. The end of the process is noticed by its exit, not by the end of the stream.

    Reads into a buffer of its own: asyncio's plain protocol allocates 256 KiB for every read of a few bytes.
    """

    def __init__(self, worker: WorkerProcess) -> None:
        self._worker = worker
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        self._worker.received(bytes(self._buffer[:count]))

    def eof_received(self) -> bool:
        return True  # keep our half open until the exit has been handled
