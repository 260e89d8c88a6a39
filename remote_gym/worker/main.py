"""Child side: the worker's main loop. ``python -m remote_gym.worker.main`` with four inherited descriptors.

One thread, one round at a time. The process ends when the server closes the socket (environments are closed first), and
is killed with its whole process group by the kernel when the server is gone (see `die_with_the_server`).
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from remote_gym import failpoints
from remote_gym.failures import Failure
from remote_gym.ipc import progress
from remote_gym.ipc.commands import (
    AskKind,
    AttachRows,
    BuildGroup,
    Building,
    BuildMore,
    CallGroup,
    CloseGroup,
    Command,
    Done,
    EntrypointKind,
    NoGroup,
    NotBuilt,
    Outcomes,
    PackedValues,
    Picture,
    PictureGroup,
    RenderGroup,
    ResetGroup,
    Result,
    RowsRefused,
    SetGroup,
    Started,
    StepGroup,
)
from remote_gym.ipc.link import ChildLink, encode, receive_descriptor
from remote_gym.ipc.memory import SharedBlock
from remote_gym.ipc.progress import (
    BUSY_NANOSECONDS,
    BUSY_SINCE,
    NO_GROUP,
    REPORT_OFFSET,
    SIZE_BYTES,
    STEP_NANOSECONDS,
    STEPS,
    STEPS_NANOSECONDS,
    Board,
    bucket_of,
)
from remote_gym.worker.confinement import confine
from remote_gym.worker.forks import Forks
from remote_gym.worker.guard import die_with_the_server, reset_signals
from remote_gym.worker.output import LabelledOutput, flush_replaced, mend_descriptors, replace_streams

ANSWER_SECONDS = 0.001
"""Commands of one round whose results have waited for this long are answered before the next one runs."""

SLICE_SECONDS = 0.01
"""How long a worker builds environments before it lets others have their turn; one that takes longer is a slice for
itself. What lies between two slices takes a fiftieth of that."""

_BUILDING = frozenset({BuildGroup, BuildMore})
"""Commands that may take so long that the results before them are answered first."""

_ON_A_GROUP = frozenset({ResetGroup, StepGroup, CallGroup, SetGroup, RenderGroup, PictureGroup})
"""Commands that need their group to be there."""


MAX_INTS, MAX_PACKED_BYTES = 1_024, 16
"""How many actions, each a plain int, and packed in how many bytes, are remembered as they come: unpacking takes ten
times as long. An int may have 64 KiB, but none of these does."""


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
        self._unfinished: dict[int, Any] = {}  # EnvironmentGroup of which more is to be built
        self._ints: dict[bytes, list[int]] = {}  # actions, each a plain int, by how they come
        self._handlers: dict[type, Callable[[Any], Result]] = {
            AskKind: self._ask_kind,
            BuildGroup: self._build,
            BuildMore: self._build_more,
            AttachRows: self._attach_rows,
            ResetGroup: self._reset,
            StepGroup: self._step,
            CallGroup: self._call,
            SetGroup: self._set,
            RenderGroup: self._render,
            PictureGroup: self._picture,
            CloseGroup: self._close,
        }

    def run(self, commands: list[Command], answer: Callable[[list[Result]], None]) -> None:
        """Run one round and answer it: at once what took long, the rest together."""
        failpoints.hit("worker.received")
        results: list[Result] = []
        answered = time.perf_counter()
        words = self._board.words
        words[BUSY_SINCE] = began = time.perf_counter_ns()
        for done, command in enumerate(commands):
            if results and (type(command) in _BUILDING or time.perf_counter() - answered > ANSWER_SECONDS):
                self._answer(commands[done - len(results) : done], results, answer)
                results, answered = [], time.perf_counter()
            self._board.turn_of(getattr(command, "group", NO_GROUP))
            results.append(self._run_one(command))
        self._board.turn_of(NO_GROUP)
        failpoints.hit("worker.answer")
        self._answer(commands[len(commands) - len(results) :], results, answer)
        words[BUSY_NANOSECONDS] += time.perf_counter_ns() - began
        words[BUSY_SINCE] = 0

    def _answer(self, commands: list[Command], results: list[Result], answer: Callable[[list[Result]], None]) -> None:
        """Answer; a result that cannot be encoded fails alone. The link sends nothing before all is encoded."""
        try:
            answer(results)
        except OSError:
            raise  # the server has gone
        except Exception:
            for number, (command, result) in enumerate(zip(commands, results)):
                try:
                    encode([result])
                except Exception as error:
                    results[number] = self._failed(command, error)
            answer(results)

    def _run_one(self, command: Any) -> Result:
        """Run one command.

        Whatever it raises is an answer, and concerns the command's own environments: others live in this process.
        """
        kind = type(command)
        if kind in _ON_A_GROUP and command.group not in self._groups:
            return NoGroup()
        try:
            return self._handlers[kind](command)
        except BaseException as error:
            return self._failed(command, error)
        finally:
            streams = getattr(sys, "stdout", None), getattr(sys, "stderr", None)  # an environment may do anything
            if type(streams[0]) is not LabelledOutput or type(streams[1]) is not LabelledOutput:
                flush_replaced()

    def _failed(self, command: Any, error: BaseException) -> Result:
        """Return the answer to a command that raised: as many failures as it has environments."""
        kind = type(command)
        if kind is AttachRows:
            return RowsRefused(f"a worker could not lay out rows: {error}")
        if kind is AskKind:
            return NotBuilt(self._failure(0, error))
        if kind in _BUILDING:
            return NotBuilt(self._failure(getattr(command, "first", 0), error))
        if kind is CloseGroup:
            return Done()
        if kind is PictureGroup:
            return Picture(b"", 0, 0, self._failure(command.env, error).message, 0)
        hosted = self._groups[command.group]
        everyone = command.indices
        if everyone is None:
            everyone = range(hosted.first, hosted.first + len(hosted.env_ids))
        failures = [self._failure(index, error) for index in everyone]
        if kind in (ResetGroup, StepGroup):
            return Outcomes(b"", failures, {})
        return PackedValues([b""] * len(failures), failures)

    def _failure(self, index: int, error: BaseException) -> Failure:
        from remote_gym.errors import CodecError

        # A CodecError is the client's: it packed what is no value, and nothing was called.
        if isinstance(error, CodecError):
            return self._results.invalid(index, error)
        return self._results.failure_of(index, error)

    def close(self) -> None:
        """Close all environments."""
        for group in [*self._groups, *self._unfinished]:
            self._close(CloseGroup(group))

    def _build(self, command: BuildGroup) -> Result:
        from remote_gym.worker.entrypoint import Recipe
        from remote_gym.worker.vector_environment import VectorGroup

        env_ids, options, rebuilt = command.env_ids, command.options, command.rebuilt
        self._board.begin(progress.BUILD, env_ids[0])
        kwargs = self._kwargs(command.kwargs, "default_args['entrypoint_kwargs']")
        theirs = self._kwargs(command.client_kwargs, "remote_args['entrypoint_kwargs']")
        kwargs.update((name, value) for name, value in theirs.items() if name not in command.kept_kwargs)
        recipe = Recipe(command.entrypoint, kwargs, command.render_mode, command.vectorization_mode)
        ready = None if command.spare is None else self._groups.pop(command.spare).envs[0].env
        hosted: Any
        try:
            if command.is_vector:
                hosted = VectorGroup(recipe, env_ids, options, self._board, rebuilt)
            else:
                slice_seconds = None if rebuilt else SLICE_SECONDS
                hosted = self._hosting.EnvironmentGroup(
                    recipe, env_ids, command.first, options, self._board, ready, rebuilt, slice_seconds
                )
        except self._results.BuildError as error:
            return NotBuilt(error.failure)
        return self._built(command.group, hosted)

    def _build_more(self, command: BuildMore) -> Result:
        hosted = self._unfinished.pop(command.group, None)
        if hosted is None:
            return NoGroup()
        try:
            hosted.build(SLICE_SECONDS)
        except self._results.BuildError as error:
            return NotBuilt(error.failure)
        return self._built(command.group, hosted)

    def _built(self, group: int, hosted: Any) -> Result:
        """Keep a group of which some is built, or all."""
        if len(hosted.env_ids) > (count := hosted.built):
            self._unfinished[group] = hosted
            return Building(count)
        self._groups[group] = hosted
        return hosted.description()  # type: ignore[no-any-return]

    def _kwargs(self, packed: bytes, where: str) -> dict[str, Any]:
        return self._unpack(packed, where) if packed else {}

    def _ask_kind(self, command: AskKind) -> Result:
        from remote_gym.worker.entrypoint import Recipe

        try:
            return EntrypointKind(Recipe(command.entrypoint, {}, None, command.vectorization_mode).is_vector)
        except (Exception, SystemExit) as error:
            return NotBuilt(self._results.failure_of(0, error))

    def _attach_rows(self, command: AttachRows) -> Result:
        mend_descriptors()
        descriptor = receive_descriptor(self._descriptors)
        try:
            block = SharedBlock(descriptor, command.size_bytes)
        except (OSError, ValueError) as error:  # a limit on this process's address space
            return RowsRefused(f"a worker could not map {command.size_bytes} bytes: {error}")
        if command.group in self._groups:
            self._groups[command.group].attach(block.buffer, command.num_envs)
        block.close()  # the arrays keep the mapping alive
        return Done()

    def _reset(self, command: ResetGroup) -> Result:
        return self._groups[command.group].reset(  # type: ignore[no-any-return]
            command.indices,
            self._unpack(command.seeds, "seeds") if command.seeds else None,
            self._unpack(command.options, "options") if command.options else None,
        )

    def _step(self, command: StepGroup) -> Result:
        group, indices, actions, dtypes = command
        hosted = self._groups[group]
        began = time.perf_counter_ns()
        if dtypes == b"":  # in the rows: the usual case
            result = hosted.step(indices, self._unpack(actions, "actions") if actions else ())
        else:
            given = self._given(actions) if dtypes is None else hosted.typed(indices, actions, dtypes)
            result = hosted.step(indices, (), given)
        count = len(hosted.env_ids if indices is None else indices)
        elapsed, words = time.perf_counter_ns() - began, self._board.words
        took = elapsed // count
        words[STEP_NANOSECONDS] = (7 * (words[STEP_NANOSECONDS] or took) + took) // 8  # a moving average
        words[STEPS] += count
        words[bucket_of(took)] += count
        words[STEPS_NANOSECONDS] += elapsed
        return result  # type: ignore[no-any-return]

    def _given(self, packed: bytes) -> list[Any]:
        if (known := self._ints.get(packed)) is not None:
            return known
        actions: list[Any] = self._unpack(packed, "actions")
        is_int = len(actions) == 1 and type(actions[0]) is int
        if is_int and len(packed) <= MAX_PACKED_BYTES and len(self._ints) < MAX_INTS:
            self._ints[packed] = actions
        return actions

    def _call(self, command: CallGroup) -> Result:
        arguments = self._unpack(command.arguments, "arguments") if command.arguments else None
        hosted = self._groups[command.group]
        return hosted.call(command.indices, command.name, arguments, command.guarded)  # type: ignore[no-any-return]

    def _set(self, command: SetGroup) -> Result:
        new = self._unpack(command.values, "values")
        return self._groups[command.group].set_attribute(command.indices, command.name, new)  # type: ignore[no-any-return]

    def _render(self, command: RenderGroup) -> Result:
        return self._groups[command.group].render(command.indices)  # type: ignore[no-any-return]

    def _picture(self, command: PictureGroup) -> Result:
        from remote_gym.worker.pictures import picture

        began = time.perf_counter_ns()
        made = picture(self._groups[command.group].shown(command.env), command.max_width)
        return made._replace(nanoseconds=time.perf_counter_ns() - began)

    def _close(self, command: CloseGroup) -> Result:
        hosted = self._groups.pop(command.group, None) or self._unfinished.pop(command.group, None)
        if hosted is not None:
            hosted.close()
        return Done()


def main() -> None:
    """Host environments until the server closes the socket."""
    commands_fd, descriptors_fd, guard_fd, board_fd = map(int, sys.argv[1:5])
    die_with_the_server(guard_fd)
    reset_signals()
    board = Board(SharedBlock(board_fd, SIZE_BYTES).buffer)
    streams = replace_streams(board.current)
    os.lseek(board_fd, REPORT_OFFSET, os.SEEK_SET)
    faulthandler.enable(file=board_fd)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, file=2)  # the server asks for the stack of a hung worker
    commands_socket, descriptors_socket = socket.socket(fileno=commands_fd), socket.socket(fileno=descriptors_fd)
    for inherited in (commands_socket, descriptors_socket):
        inherited.setblocking(True)  # `socket.setdefaulttimeout` in the server's process has made it otherwise
    link = ChildLink(commands_socket)
    rounds = link.rounds()
    started: Any = next(rounds, None)
    if started is None:
        return
    (start,) = started
    sys.argv[1:] = []
    confine(start.limits, start.in_a_sandbox, start.hidden)
    _restore_environment(start.environment)
    worker = Worker(descriptors_socket, board)
    forks = Forks(board, (commands_socket, descriptors_socket), streams)
    descriptors_socket.send(b"\0")  # so that the server knows us by the kernel's word, see `DescriptorSender.peer`
    link.answer([Started(os.getpid())])
    try:
        for commands in rounds:
            worker.run(commands, link.answer)
    except Exception:
        forks.end()
        raise
    worker.close()
    flush_replaced()
    for stream in streams:
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
