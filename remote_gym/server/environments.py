"""Server process: one session's environments in the pool. Builds them, spreads requests over their workers, gathers.

Knows nothing of numbers, streams or leases: what a request's answer is, and when, is told through `on_answer`.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from remote_gym.compression import compressed_leaves
from remote_gym.errors import MisuseError
from remote_gym.leaves import leaves_of, rows_at
from remote_gym.messages import Failure, FailureKind, Indices, Open, Request, Reset, Returned, Step, Transition, every
from remote_gym.pool import (
    NO_GROUP,
    AskKind,
    AttachRows,
    Block,
    BuildGroup,
    Built,
    Callback,
    Command,
    HostingOptions,
    NoGroup,
    NoRoomError,
    NotBuilt,
    Outcomes,
    Pool,
    Rows,
    RowsRefused,
    SharedBlock,
    WorkerLost,
    WorkerProcess,
)
from remote_gym.server.checks import Dispatch
from remote_gym.server.refusals import RefusalError
from remote_gym.server.settings import Settings
from remote_gym.spaces import build
from remote_gym.wire.codec import pack_server

CHUNK_SECONDS = 0.002
"""Work of one worker that is answered together, where the client wants early answers. Shorter costs more messages than
it saves waiting; longer keeps environments that are ready from being stepped again."""

OnAnswer = Callable[[Request, Indices, bytes], None]
"""Called with a request, the env indices answered and the answer as a serialised message."""


_Part = tuple[Block, "list[int] | None", Sequence[int]]
"""A block, its env indices in a request (None: all of its), and their positions in the request."""


@dataclass
class _Operation:
    """A request that runs: what has come back, and from how many workers something is still to come."""

    request: Request
    waiting: int
    early: bool
    infos: list[bytes] = field(default_factory=list)
    values: dict[int, bytes] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)  # env indices to be answered for soon
    pieces: dict[int, list[bytes]] = field(default_factory=dict)  # leaf number -> compressed rows
    plain: set[int] = field(default_factory=set)  # leaves that some worker found not worth compressing

    def take_pieces(self, pieces: Mapping[int, list[bytes]]) -> None:
        """Take in one worker's compressed rows; a leaf without any is to be sent as it is."""
        for number, packed in pieces.items():
            self.pieces.setdefault(number, []).extend(packed)
            if not packed:
                self.plain.add(number)


class SessionEnvironments:
    """The environments of one session.

    Guarantees: every request that `run` takes is answered once for each of its env indices, whatever happens to
    workers. Relies on: the event loop's thread; no environment is given two requests at once.
    """

    def __init__(
        self,
        message: Open,
        kwargs: bytes,
        settings: Settings,
        pool: Pool,
        on_answer: OnAnswer,
        on_error: Callable[[Exception], None],
    ) -> None:
        """Prepare; `open` builds them, with the client's packed keyword arguments `kwargs` over the owner's.

        Args:
            message: What the client asked for.
            kwargs: Its packed keyword arguments; empty: none.
            settings: The server's.
            pool: Where they will live.
            on_answer: Called with each answer.
            on_error: Called with a bug of ours that keeps a request from being answered.
        """
        self.num_envs = message.num_envs
        self.running = 0
        self._message = message
        self._kwargs = kwargs
        self._render_mode = "rgb_array" if message.render_mode == "human" else message.render_mode
        self._settings = settings
        self._pool = pool
        self._on_answer = on_answer
        self._on_error = on_error
        self._blocks: list[Block] = []
        self._broken: dict[int, WorkerLost] = {}  # group -> why it will not be built again
        # Env indices whose worker died while they had no step or reset in flight: the next one tells.
        self._untold: dict[int, WorkerLost] = {}
        self._told: set[int] = set()  # told by what was in flight when the worker died
        self._postponed: dict[int, list[tuple[Command, Callback]]] = {}  # group -> commands until it is rebuilt
        self._memory: SharedBlock | None = None
        self._released = False

    # Opening

    async def open(self) -> Built:
        """Build all environments and lay out their rows; return what the first worker tells about them.

        Raises:
            RefusalError: An environment could not be built, or memory was refused. Call `release` then.
        """
        recipe = (self._kwargs, self._render_mode)
        await self._find_out_kind()
        try:
            self._blocks = await self._pool.place(
                self.num_envs, self._block_lost, recipe, self.is_vector, self._block_died
            )
        except (OSError, MemoryError) as error:
            raise RefusalError("num_workers", f"a worker process could not be started: {error}") from error
        except NoRoomError as error:
            raise RefusalError("max_workers", str(error)) from error
        self._firsts = [block.first for block in self._blocks]
        described = await _in_order(map(self._build, self._blocks))
        self._compare(described)
        self._read_spaces(described[0])
        await self._lay_out_rows()
        first: Built = described[0]
        return first

    async def probe(self, block: Block) -> bool:
        """Build the one environment of `block`, to find out whether it can be.

        Returns:
            Whether it can be used as the first of a session; a vector environment of another size cannot.

        Raises:
            RefusalError: It cannot be built; says why.
        """
        await self._find_out_kind()
        if self.is_vector:
            self._message = replace(self._message, autoreset_mode="")  # any will do
        self._read_spaces(await self._build(block))
        return not self.is_vector

    async def _find_out_kind(self) -> None:
        """Ask a worker, once per server, whether the entrypoint makes vector environments: it may have to import it."""
        if self._pool.hosts_vector is None:
            worker = min(self._pool.workers, key=lambda worker: worker.num_envs)
            result = await _ask(worker, AskKind(self._settings.entrypoint, self._settings.vectorization_mode))
            self._pool.hosts_vector = self._unless_refused(result, 0, NO_GROUP).is_vector
        self.is_vector = self._pool.hosts_vector

    @property
    def env_ids(self) -> list[int]:
        """Ids in the pool, by env index."""
        return [env_id for block in self._blocks for env_id in block.env_ids]

    def _build_command(self, block: Block, rebuilt: bool) -> BuildGroup:
        message = self._message
        return BuildGroup(
            group=block.group,
            entrypoint=self._settings.entrypoint,
            kwargs=self._settings.packed_kwargs,
            client_kwargs=self._kwargs,
            render_mode=self._render_mode,
            env_ids=block.env_ids,
            first=block.first,
            options=HostingOptions(
                message.autoreset_mode,
                message.exact_types,
                message.render_with_step,
                message.drop_unportable_infos,
                message.compression,
            ),
            vectorization_mode=self._settings.vectorization_mode,
            is_vector=self.is_vector,
            spare=None if rebuilt else block.spare,
            rebuilt=rebuilt,
        )

    async def _build(self, block: Block) -> Built:
        result = await _ask(block.worker, self._build_command(block, False))
        built: Built = self._unless_refused(result, block.first, block.group)
        return built

    @staticmethod
    def _unless_refused(result: Any, first: int, group: int) -> Any:
        """Return what a worker tells of what it has built.

        Raises:
            RefusalError: It could not, or has died of it.
        """
        if isinstance(result, WorkerLost):
            failure = Failure(first, FailureKind.LOST, result.reason, "", result.tail(group))
            raise RefusalError("build", f"the worker died while building environments: {result.reason}", failure)
        if isinstance(result, NotBuilt):
            failure = result.failure
            if failure.kind is FailureKind.INVALID:  # it was not even tried
                raise RefusalError("request", failure.message)
            text = failure.message if failure.type.endswith("MisuseError") else f"{failure.type}: {failure.message}"
            raise RefusalError("build", f"environment {failure.index} could not be built: {text}", failure)
        return result

    def _compare(self, described: Sequence[Built]) -> None:
        """Refuse spaces that differ between blocks; within a block the worker has looked."""
        first = described[0]
        for block, other in zip(self._blocks, described, strict=True):
            for name in ("observation_space", "action_space"):
                # Equal spaces may be described differently: a Text of Gymnasium 1.1 orders its characters by hash.
                ours, theirs = getattr(other, name), getattr(first, name)
                if ours != theirs and build(ours) != build(theirs):
                    raise RefusalError(
                        "build",
                        f"the {name.replace('_', ' ')} of environment {block.first} differs from that of environment "
                        f"0: {build(ours)} is not {build(theirs)}; all environments of a batch must have equal spaces",
                    )

    def _read_spaces(self, description: Built) -> None:
        try:
            self.observation_leaves = leaves_of(build(description.observation_space))
            self.action_space = build(description.action_space)
            self.action_leaves = leaves_of(self.action_space)
            self._compressed = compressed_leaves(self.observation_leaves, self._message.compression)
        except MisuseError as error:
            raise RefusalError("space", str(error)) from error

    async def _lay_out_rows(self) -> None:
        size = Rows.size_bytes(self.action_leaves, self.observation_leaves, self.num_envs)
        try:
            self._memory = SharedBlock.create(size)
        except MemoryError as error:
            raise RefusalError(
                "row_memory", f"shared rows for {self.num_envs} environments could not be allocated: {error}"
            ) from error
        self._rows = Rows(self._memory.buffer, self.action_leaves, self.observation_leaves, self.num_envs)
        asked = [_ask(block.worker, self._rows_command(block)) for block in self._blocks]
        for result in await _in_order(asked):
            if isinstance(result, WorkerLost):
                raise RefusalError("build", f"a worker died while the session was opened: {result.reason}")
            if isinstance(result, RowsRefused):
                raise RefusalError("row_memory", result.reason)

    def _rows_command(self, block: Block) -> AttachRows:
        assert self._memory is not None
        block.worker.send_descriptor(self._memory.descriptor)
        return AttachRows(block.group, self.num_envs, self._memory.size)

    def release(self) -> None:
        """Close all environments and give their memory back; what still runs is answered to nobody."""
        self._released = True
        for block in self._blocks:
            self._pool.release(block)
        self._blocks = []
        if self._memory is not None:
            self._memory.close()
            self._memory = None
            del self._rows  # it holds the mapping; who still refers to us must not

    # Scatter and gather

    def run(self, request: Request, dispatch: Dispatch) -> None:
        """Send each worker its part of `request`; the answers come through `on_answer`."""
        if isinstance(request, Step):
            self._write_actions(request)
        parts = self._parts(request.indices)
        if self._message.reply_early and isinstance(request, Step):
            parts = [chunk for part in parts for chunk in _chunks(*part)]
        operation = _Operation(request, len(parts), self._message.reply_early and len(parts) > 1)
        if self._untold:
            parts = self._tell(operation, parts)
            if not parts:
                return
        self.running += 1
        for block, own, positions in parts:
            command = dispatch(block.group, own, positions)
            self._submit(block, command, partial(self._gather, operation, block, own))

    def _write_actions(self, request: Step) -> None:
        if request.indices is None:
            for whole, data in zip(self._rows.whole_actions, request.actions, strict=True):
                whole[:] = data
            return
        where, count = rows_at(request.indices), len(request.indices)
        for leaf, array, data in zip(self.action_leaves, self._rows.actions, request.actions, strict=True):
            array[where] = np.ndarray((count, *leaf.shape), leaf.dtype, data)

    def _parts(self, indices: Indices) -> list[_Part]:
        """Return for each worker concerned: its block, its own env indices, and their positions in the request."""
        if indices is None:
            return [(block, None, range(block.first, block.stop)) for block in self._blocks]
        mine: dict[int, tuple[list[int], list[int]]] = {}  # position of a block -> its env indices, and their positions
        for position, index in enumerate(indices):
            own, positions = mine.setdefault(bisect_right(self._firsts, index) - 1, ([], []))
            own.append(index)
            positions.append(position)
        return [(self._blocks[at], *mine[at]) for at in sorted(mine)]

    def _tell(self, operation: _Operation, parts: list[_Part]) -> list[_Part]:
        """Answer for environments whose loss is not known yet; return the parts for the others.

        A reset needs no telling. A call is answered with the loss, but only a step or reset settles it.
        """
        left: list[_Part] = []
        told: dict[int, Block] = {}
        for block, own, positions in parts:
            mine = range(block.first, block.stop) if own is None else own
            if isinstance(operation.request, Reset):
                for index in mine:
                    self._untold.pop(index, None)
            lost = {index: block for index in mine if index in self._untold}
            if lost:
                told.update(lost)
                kept = [(i, at) for i, at in zip(mine, positions, strict=True) if i not in lost]
                own, positions = [index for index, _ in kept], [at for _, at in kept]
            if positions:
                left.append((block, own, positions))
        if told:
            operation.failures += [_lost(index, block, self._untold[index]) for index, block in told.items()]
            operation.waiting = len(left)
            if isinstance(operation.request, Step):
                for index in told:
                    del self._untold[index]
            if operation.early and left:
                self._answer_soon(operation, list(told))
            elif not left:
                self._answer(operation, operation.request.indices)
        return left

    def _gather(self, operation: _Operation, block: Block, own: list[int] | None, result: Any) -> None:
        """Take in one worker's part; answer when it is the last, or at once where the client wants that."""
        try:
            self._take_in(operation, block, own, result)
        except Exception as error:
            self._on_error(error)  # nobody shall wait for an answer that will never come

    def _take_in(self, operation: _Operation, block: Block, own: list[int] | None, result: Any) -> None:
        mine = range(block.first, block.stop) if own is None else own
        if isinstance(result, NoGroup):
            result = self._broken.get(block.group) or WorkerLost("not rebuilt", block.env_ids[0])
        if isinstance(result, WorkerLost):
            final = result is self._broken.get(block.group)
            operation.failures += [_lost(index, block, result, final) for index in mine]
            if isinstance(operation.request, (Step, Reset)):
                self._told.update(mine)
        elif isinstance(result, Outcomes):
            if result.said:
                operation.infos.append(result.said)
            operation.failures += result.failures
            operation.take_pieces(result.pieces)
        else:
            operation.values.update(zip(mine, result.values, strict=True))
            operation.failures += result.failures
        operation.waiting -= 1
        if operation.waiting == 0:
            self.running -= 1
        if self._released:
            return
        if operation.early:
            self._answer_soon(operation, mine)
        elif operation.waiting == 0:
            self._answer(operation, operation.request.indices)

    def _answer_soon(self, operation: _Operation, indices: Sequence[int]) -> None:
        """Answer for `indices`, together with whoever else is ready by the time the loop has read all that has come."""
        if not operation.ready:
            asyncio.get_running_loop().call_soon(self._answer_ready, operation)
        operation.ready += indices

    def _answer_ready(self, operation: _Operation) -> None:
        if self._released:
            return
        try:
            self._answer(operation, operation.ready)
        except Exception as error:
            self._on_error(error)
        operation.ready, operation.infos, operation.values, operation.failures = [], [], {}, []
        operation.pieces, operation.plain = {}, set()

    def _answer(self, operation: _Operation, indices: Indices) -> None:
        request = operation.request
        if isinstance(request, (Step, Reset)):
            frame = pack_server(self._transition(operation, indices))
        else:
            packed = [operation.values.get(index, b"") for index in every(indices, self.num_envs)]
            frame = pack_server(Returned(request.number, indices, packed, operation.failures))
        self._on_answer(request, indices, frame)

    def _transition(self, operation: _Operation, indices: Indices) -> Transition:
        rows, infos = self._rows, operation.infos
        skipped = [number for number in self._compressed if number not in operation.plain]
        if skipped:
            infos = infos + [piece for number in skipped for piece in operation.pieces.get(number, ())]
        observations: Sequence[Any]
        scalars: Sequence[Any]
        if indices is None:
            observations, scalars = rows.whole_observations, rows.whole_scalars
            if skipped:
                observations = [b"" if at in skipped else leaf for at, leaf in enumerate(observations)]
        else:
            where = rows_at(indices)
            observations = [b"" if at in skipped else array[where] for at, array in enumerate(rows.observations)]
            scalars = [array[where] for array in (rows.rewards, rows.terminations, rows.truncations)]
        rewards, terminations, truncations = scalars if isinstance(operation.request, Step) else (b"", b"", b"")
        return Transition(
            operation.request.number,
            indices,
            observations,
            rewards,
            terminations,
            truncations,
            infos,
            operation.failures,
        )

    # Lost workers

    def _submit(self, block: Block, command: Command, callback: Callback) -> None:
        broken = self._broken.get(block.group)
        if broken is not None:
            asyncio.get_running_loop().call_soon(callback, broken)
        elif block.worker.lost is not None:  # a new worker is on its way
            self._postponed.setdefault(block.group, []).append((command, callback))
        else:
            block.worker.submit(command, callback)

    def _block_died(self, block: Block, lost: WorkerLost) -> None:
        """Take note of whom nobody was told that its worker died; called after what was in flight was answered."""
        mine = set(range(block.first, block.stop))
        self._untold.update(dict.fromkeys(mine - self._told, lost))
        self._told -= mine

    def _block_lost(self, block: Block, lost: WorkerLost, rebuild: bool) -> None:
        """Build the environments of `block` anew in its new worker, then run what was postponed."""
        if self._released or self._memory is None:
            return  # not open yet: opening fails by itself

        def built(result: Any) -> None:
            # A WorkerLost is told again with the next worker, until the budget is used up.
            if isinstance(result, NotBuilt):
                failure = result.failure
                self._broken[block.group] = WorkerLost(
                    f"not rebuilt: {failure.type}: {failure.message}", lost.env_id, tails={block.group: failure.detail}
                )

        if rebuild:
            block.worker.submit(self._build_command(block, rebuilt=True), built)
            block.worker.submit(self._rows_command(block), lambda _result: None)
        else:
            self._broken[block.group] = lost
        for command, callback in self._postponed.pop(block.group, []):
            self._submit(block, command, callback)


def _chunks(block: Block, own: list[int] | None, positions: Sequence[int]) -> Iterator[_Part]:
    """Yield a part as several equal ones, each about `CHUNK_SECONDS` of work: answers need not wait for the rest."""
    count = min(len(positions), round(len(positions) * block.worker.step_seconds / CHUNK_SECONDS))
    if count < 2:
        yield block, own, positions
        return
    mine = list(range(block.first, block.stop)) if own is None else own
    size = -(-len(mine) // count)
    for start in range(0, len(mine), size):
        yield block, mine[start : start + size], positions[start : start + size]


async def _in_order(coroutines: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Wait for all, then raise the first error in their order: which worker is quicker must not matter."""
    results = await asyncio.gather(*coroutines, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


async def _ask(worker: WorkerProcess, command: Command) -> Any:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def answered(result: Any) -> None:
        if not future.done():
            future.set_result(result)

    worker.submit(command, answered)
    return await future


def _lost(index: int, block: Block, lost: WorkerLost, final: bool = False) -> Failure:
    env_id = block.env_ids[index - block.first]
    message = f"environment {index} (env_id {env_id}) was lost: its worker was {lost.reason}"
    return Failure(index, FailureKind.GONE if final else FailureKind.LOST, lost.reason, message, lost.tail(block.group))
