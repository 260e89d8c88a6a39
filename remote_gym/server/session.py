"""Server process: one session. Requests in, frames out; knows the pool and the ledger, and no gRPC.

Everything runs on the server's event loop. A session's work belongs to the session, not to the stream that asked for
it: when the stream breaks the work goes on and its answers are stored.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from remote_gym import values
from remote_gym.batches import (
    Attach,
    Attached,
    Call,
    Close,
    Closed,
    Failure,
    FailureKind,
    Indices,
    Lost,
    Open,
    Opened,
    Refused,
    Render,
    Request,
    Reset,
    Returned,
    Step,
    Transition,
)
from remote_gym.errors import CodecError, MisuseError
from remote_gym.leaves import leaves_of
from remote_gym.server.ledger import BusyError, Ledger, OutOfOrderError, SessionEvent, SessionState
from remote_gym.server.settings import Settings
from remote_gym.spaces import build
from remote_gym.wire.messages import pack_server
from remote_gym.workers.memory import SharedBlock
from remote_gym.workers.pool import Block, Pool
from remote_gym.workers.process import Callback, WorkerLost
from remote_gym.workers.rows import Rows

logger = logging.getLogger("remote_gym.session")


class Outlet(Protocol):
    """Where a session's frames go: one stream."""

    def send(self, frame: bytes) -> None:
        """Send `frame` after those before it; never blocks."""

    def end(self) -> None:
        """End the stream after what was sent."""


class RefusalError(Exception):
    """A request or an opening cannot be done; nothing was executed."""

    def __init__(self, limit: str, message: str, failure: Failure | None = None) -> None:
        """State the limit or rule, what to do, and the failed environment if that is why."""
        self.limit = limit
        self.failure = failure
        super().__init__(message)


@dataclass
class _Operation:
    """A request that runs: what has come back, and from how many workers something is still to come."""

    request: Request
    indices: Indices
    waiting: int
    early: bool
    finish: Callable[[_Operation, Indices], None]
    infos: list[bytes] = field(default_factory=list)
    values: dict[int, bytes] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


class Session:
    """One client's hold on some environments.

    Guarantees: every accepted request is answered once for each of its env indices, whatever happens to workers and
    streams. Relies on: all methods are called on the event loop.
    """

    def __init__(self, message: Open, settings: Settings, pool: Pool, on_gone: Callable[[Session], None]) -> None:
        """Prepare; `open` builds the environments. `on_gone` is called once, when the session has ended."""
        self.id, self.token = secrets.token_bytes(16), secrets.token_bytes(32)
        self.nonce = message.nonce
        self.num_envs = message.num_envs
        self.ledger = Ledger(message.num_envs)
        self.reason: Lost | None = None
        self.opened: Opened | None = None
        self._message = message
        self._settings = settings
        self._pool = pool
        self._on_gone = on_gone
        self._outlet: Outlet | None = None
        self._blocks: list[Block] = []
        self._broken_blocks: dict[int, WorkerLost] = {}  # group -> why it will not be built again
        self._postponed: dict[int, list[tuple[list[Any], Callback]]] = {}  # group -> commands until it is rebuilt
        self._memory: SharedBlock | None = None
        self._lease: asyncio.TimerHandle | None = None
        self.draining = False
        self._operations = 0

    # Life

    async def open(self, kwargs: bytes, server_epoch: bytes, protocol: int) -> Opened:
        """Build the environments and lay out their rows.

        Raises:
            RefusalError: An environment could not be built, or memory was refused; nothing is left behind.
        """
        try:
            return await self._open(kwargs, server_epoch, protocol)
        except BaseException:
            self.ledger.apply(SessionEvent.OPEN_FAILED)
            self._release()
            raise

    async def _open(self, kwargs: bytes, server_epoch: bytes, protocol: int) -> Opened:
        self._kwargs = kwargs
        render_mode = "rgb_array" if self._message.render_mode == "human" else self._message.render_mode
        self._render_mode = render_mode
        try:
            self._blocks = await self._pool.place(self.num_envs, self._block_lost, (kwargs, render_mode))
        except (OSError, MemoryError) as error:
            raise RefusalError("num_workers", f"a worker process could not be started: {error}") from error
        described = await asyncio.gather(*(self._build(block) for block in self._blocks))
        first = self._agreed(described)
        try:
            self._observation_leaves = leaves_of(build(first["observation_space"]))
            self._action_leaves = leaves_of(build(first["action_space"]))
        except MisuseError as error:
            raise RefusalError("space", str(error)) from error
        await self._lay_out_rows()
        self.ledger.apply(SessionEvent.OPENED)
        self.opened = Opened(
            protocol=protocol,
            session_id=self.id,
            token=self.token,
            server_epoch=server_epoch,
            lease_seconds=self._settings.lease_seconds,
            env_ids=[env_id for block in self._blocks for env_id in block.env_ids],
            **first,
        )
        return self.opened

    async def probe(self, block: Block, kwargs: bytes) -> None:
        """Build one environment in `block`, to find out whether it can be.

        Raises:
            RefusalError: It cannot; says why.
        """
        self._kwargs, self._render_mode = kwargs, None
        leaves_of(build((described := await self._build(block))["observation_space"]))
        leaves_of(build(described["action_space"]))

    def _build_command(self, block: Block, rebuilt: bool) -> list[Any]:
        message = self._message
        return [
            "build", block.group, self._settings.entrypoint, self._kwargs, self._render_mode, block.env_ids, block.first,
            message.autoreset_mode, message.exact_types, None if rebuilt else block.spare, rebuilt,
        ]  # fmt: skip

    async def _build(self, block: Block) -> dict[str, Any]:
        result = await self._ask(block, self._build_command(block, rebuilt=False))
        if isinstance(result, WorkerLost):
            failure = Failure(block.first, FailureKind.LOST, result.reason, "", result.stderr_tail)
            raise RefusalError("build", f"the worker died while building environments: {result.reason}", failure)
        if (raw := result.get("failure")) is not None:
            failure = Failure(raw[0], FailureKind(raw[1]), *raw[2:])
            text = failure.message if failure.type.endswith("MisuseError") else f"{failure.type}: {failure.message}"
            raise RefusalError("build", f"environment {failure.index} could not be built: {text}", failure)
        return result  # type: ignore[no-any-return]

    def _agreed(self, described: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the first block's description after comparing the spaces of all."""
        first = described[0]
        for block, other in zip(self._blocks, described, strict=True):
            for name in ("observation_space", "action_space"):
                if other[name] != first[name]:
                    raise RefusalError(
                        "build",
                        f"the {name.replace('_', ' ')} of environment {block.first} differs from that of environment 0: "
                        f"{build(other[name])} is not {build(first[name])}; all environments of a batch must have "
                        f"equal spaces",
                    )
        return first

    async def _lay_out_rows(self) -> None:
        size = Rows.size_bytes(self._action_leaves, self._observation_leaves, self.num_envs)
        try:
            self._memory = SharedBlock.create(size)
        except MemoryError as error:
            raise RefusalError(
                "row_memory", f"shared rows for {self.num_envs} environments could not be allocated: {error}"
            ) from error
        self._rows = Rows(self._memory.buffer, self._action_leaves, self._observation_leaves, self.num_envs)
        for result in await asyncio.gather(*(self._hand_over_rows(block) for block in self._blocks)):
            if isinstance(result, WorkerLost):
                raise RefusalError("build", f"a worker died while the session was opened: {result.reason}")

    async def _hand_over_rows(self, block: Block) -> Any:
        return await self._ask(block, self._rows_command(block))

    def _rows_command(self, block: Block) -> list[Any]:
        assert self._memory is not None
        block.worker.send_descriptor(self._memory.descriptor)
        return ["rows", block.group, self.num_envs, self._memory.size]

    async def _ask(self, block: Block, command: list[Any]) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        block.worker.submit(command, lambda result: future.cancelled() or future.set_result(result))
        return await future

    def bind(self, outlet: Outlet) -> None:
        """Send what follows to `outlet`."""
        self._outlet = outlet

    def attach(self, message: Attach, outlet: Outlet) -> None:
        """Bind a new stream; an older one is fenced. Sends Attached and what the client misses.

        Raises:
            ProtocolError: The client misses what it has proven to have read.
        """
        replay = self.ledger.replay(message.missing)
        self.take_over(outlet)
        outlet.send(pack_server(Attached(self.ledger.highest, self._settings.lease_seconds)))
        for frame in replay.frames:
            outlet.send(frame)

    def take_over(self, outlet: Outlet) -> None:
        """Let `outlet` carry the session from now on; an older stream that still lives is fenced."""
        if self._outlet is not None:
            self._outlet.send(pack_server(Lost("FENCED", "another stream has attached to this session")))
            self._outlet.end()
        self.ledger.apply(SessionEvent.ATTACH)
        self._stop_lease()
        self._outlet = outlet

    def detach(self, outlet: Outlet) -> None:
        """Begin the lease if `outlet` was the stream that carried this session."""
        if self._outlet is not outlet or self.ledger.state is not SessionState.ATTACHED:
            return
        self._outlet = None
        self.ledger.apply(SessionEvent.STREAM_ENDED)
        self._lease = asyncio.get_running_loop().call_later(self._settings.lease_seconds, self._expire)

    def _expire(self) -> None:
        self.ledger.apply(SessionEvent.EXPIRE)
        self._end(Lost("EXPIRED", f"no stream for {self._settings.lease_seconds:g} s"))

    def _stop_lease(self) -> None:
        if self._lease is not None:
            self._lease.cancel()
            self._lease = None

    def close(self) -> None:
        """End the session at its client's wish."""
        self.ledger.apply(SessionEvent.CLOSE)
        self._end(Lost("CLOSED", "the client closed it"), pack_server(Closed()))

    def _break(self, detail: str) -> None:
        self.ledger.apply(SessionEvent.BREAK)
        self._end(Lost("BROKEN", detail))

    def _end(self, reason: Lost, farewell: bytes | None = None) -> None:
        self.reason = reason
        self._stop_lease()
        if self._outlet is not None:
            self._outlet.send(pack_server(reason) if farewell is None else farewell)
            self._outlet.end()
            self._outlet = None
        self._release()

    def _release(self) -> None:
        for block in self._blocks:
            self._pool.release(block)
        self._blocks = []
        if self._memory is not None:
            self._rows = None  # type: ignore[assignment]
            self._memory.close()
            self._memory = None
        self._on_gone(self)

    @property
    def idle(self) -> bool:
        """Whether no operation is in flight."""
        return self._operations == 0

    # Requests

    def receive(self, message: Request | Close) -> None:
        """Take in one message of the stream that carries this session."""
        if isinstance(message, Close):
            self.close()
            return
        try:
            self.ledger.next_number(message.number)
        except OutOfOrderError as error:
            self._break(str(error))
            return
        try:
            if self.draining:
                raise RefusalError("draining", "the server is going away: it takes no new requests")
            indices = self._checked_indices(message.indices)
            start = _STARTERS[type(message)](self, message, indices)
            self.ledger.admit(message.number, indices)
        except BusyError as error:
            self._refuse(message.number, "in_flight", str(error))
        except RefusalError as error:
            self._refuse(message.number, error.limit, str(error))
        else:
            start()

    def _refuse(self, number: int, limit: str, message: str) -> None:
        frame = pack_server(Refused(number, limit, message))
        self.ledger.refuse(number, frame)
        self._send(frame)

    def _send(self, frame: bytes) -> None:
        if self._outlet is not None:
            self._outlet.send(frame)

    def _checked_indices(self, indices: Indices) -> Indices:
        if indices is None:
            return None
        if len(set(indices)) != len(indices) or max(indices) >= self.num_envs or min(indices) < 0:
            raise RefusalError("request", f"env indices must be distinct and below {self.num_envs}")
        return indices

    def _count(self, indices: Indices) -> int:
        return self.num_envs if indices is None else len(indices)

    def _start_step(self, message: Step, indices: Indices) -> Callable[[], None]:
        count = self._count(indices)
        if len(message.actions) != len(self._action_leaves):
            raise RefusalError("request", f"{len(message.actions)} action leaves, expected {len(self._action_leaves)}")
        for leaf, data in zip(self._action_leaves, message.actions, strict=True):
            if len(data) != count * leaf.row_bytes:
                raise RefusalError(
                    "request", f"action{leaf} has {len(data)} bytes for {count} environments, expected "
                    f"{count * leaf.row_bytes}"
                )  # fmt: skip

        def start() -> None:
            where = _where(indices)
            for leaf, array, data in zip(self._action_leaves, self._rows.actions, message.actions, strict=True):
                array[where] = np.ndarray((count, *leaf.shape), leaf.dtype, data)
            self._scatter(message, indices, self._finish_transition, lambda _positions: ("step",))

        return start

    def _start_reset(self, message: Reset, indices: Indices) -> Callable[[], None]:
        count = self._count(indices)
        seeds = self._unpacked(message.seeds, "seeds") if message.seeds else [None] * count
        if not isinstance(seeds, list) or len(seeds) != count or not all(_is_seed(seed) for seed in seeds):
            raise RefusalError("request", f"seeds must be a list of {count} integers or nil")
        if message.options and not isinstance(self._unpacked(message.options, "options"), dict):
            raise RefusalError("request", "options must be a map")

        def arguments(positions: Sequence[int]) -> tuple[Any, ...]:
            own = values.pack([seeds[position] for position in positions]) if message.seeds else b""
            return "reset", own, bytes(message.options)

        return partial(self._scatter, message, indices, self._finish_transition, arguments)

    def _start_call(self, message: Call, indices: Indices) -> Callable[[], None]:
        if message.name.startswith("_") or not message.name:
            raise RefusalError("request", f"the name {message.name!r} is private: it cannot be reached from outside")
        if message.values is None:
            arguments = self._unpacked(message.arguments, "arguments")
            if not (isinstance(arguments, list) and list(map(type, arguments)) == [list, dict]):
                raise RefusalError("request", "arguments must be an array [positional array, keyword map]")
            packed = bytes(message.arguments)
            return partial(
                self._scatter, message, indices, self._finish_returned, lambda _: ("call", message.name, packed)
            )
        new = self._unpacked(message.values, "values")
        if not isinstance(new, list) or len(new) != self._count(indices):
            raise RefusalError("request", f"values must be a list of {self._count(indices)}")

        def set_arguments(positions: Sequence[int]) -> tuple[Any, ...]:
            return "set", message.name, values.pack([new[position] for position in positions])

        return partial(self._scatter, message, indices, self._finish_returned, set_arguments)

    def _start_render(self, message: Render, indices: Indices) -> Callable[[], None]:
        return partial(self._scatter, message, indices, self._finish_returned, lambda _positions: ("render",))

    def _unpacked(self, data: bytes, name: str) -> Any:
        try:
            return values.unpack(data, name)
        except CodecError as error:
            raise RefusalError("request", str(error)) from error

    # Scatter and gather

    def _scatter(
        self,
        request: Request,
        indices: Indices,
        finish: Callable[[_Operation, Indices], None],
        command: Callable[[Sequence[int]], tuple[Any, ...]],
    ) -> None:
        """Send each worker its part of `request`; `command` gets the positions of that part within `indices`."""
        parts = self._parts(indices)
        operation = _Operation(request, indices, len(parts), self._message.reply_early and len(parts) > 1, finish)
        self._operations += 1
        for block, own, positions in parts:
            name, *arguments = command(positions)
            self._submit(block, [name, block.group, own, *arguments], partial(self._gather, operation, block, own))

    def _parts(self, indices: Indices) -> list[tuple[Block, list[int] | None, Sequence[int]]]:
        if indices is None:
            return [(block, None, range(block.first, block.stop)) for block in self._blocks]
        parts = []
        for block in self._blocks:
            positions = [at for at, index in enumerate(indices) if block.first <= index < block.stop]
            if positions:
                parts.append((block, [indices[at] for at in positions], positions))
        return parts

    def _gather(
        self, operation: _Operation, block: Block, own: list[int] | None, result: list[Any] | WorkerLost
    ) -> None:
        """Take in one worker's part."""
        mine = range(block.first, block.stop) if own is None else own
        if isinstance(result, WorkerLost):
            operation.failures += [self._lost(index, block, result) for index in mine]
        else:
            said, failures = result
            operation.failures += [Failure(raw[0], FailureKind(raw[1]), *raw[2:]) for raw in failures]
            if type(said) is list:
                operation.values.update(zip(mine, said, strict=True))
            elif said:
                operation.infos.append(said)
        operation.waiting -= 1
        if operation.waiting == 0:
            self._operations -= 1
        if self.ledger.state is SessionState.GONE:
            return
        if operation.early:
            operation.finish(operation, list(mine))
            operation.infos, operation.values, operation.failures = [], {}, []
        elif operation.waiting == 0:
            operation.finish(operation, operation.indices)

    def _lost(self, index: int, block: Block, lost: WorkerLost) -> Failure:
        env_id = block.env_ids[index - block.first]
        message = f"environment {index} (env_id {env_id}) was lost: its worker was {lost.reason}"
        return Failure(index, FailureKind.LOST, lost.reason, message, lost.stderr_tail)

    def _finish_transition(self, operation: _Operation, indices: Indices) -> None:
        where, rows = _where(indices), self._rows
        stepped = type(operation.request) is Step
        transition = Transition(
            operation.request.number,
            indices,
            [array[where] for array in rows.observations],
            rows.rewards[where] if stepped else b"",
            rows.terminations[where] if stepped else b"",
            rows.truncations[where] if stepped else b"",
            operation.infos,
            operation.failures,
        )
        self._answer(operation, indices, pack_server(transition))

    def _finish_returned(self, operation: _Operation, indices: Indices) -> None:
        everyone = range(self.num_envs) if indices is None else indices
        packed = [operation.values.get(index, b"") for index in everyone]
        self._answer(
            operation, indices, pack_server(Returned(operation.request.number, indices, packed, operation.failures))
        )

    def _answer(self, operation: _Operation, indices: Indices, frame: bytes) -> None:
        self.ledger.answer(operation.request.number, indices, frame)  # stored first, then sent
        self._send(frame)

    # Lost workers

    def _submit(self, block: Block, command: list[Any], callback: Callback) -> None:
        broken = self._broken_blocks.get(block.group)
        if broken is not None:
            asyncio.get_running_loop().call_soon(callback, broken)
        elif block.worker.lost is not None:  # a new worker is on its way
            self._postponed.setdefault(block.group, []).append((command, callback))
        else:
            block.worker.submit(command, callback)

    def _block_lost(self, block: Block, lost: WorkerLost, rebuild: bool) -> None:
        """Build the environments of `block` anew in its new worker, then run what was postponed."""
        if self.ledger.state in (SessionState.OPENING, SessionState.GONE):
            return  # opening fails by itself

        def built(result: Any) -> None:
            if isinstance(result, WorkerLost):
                return  # told again with the next worker, until the budget is used up
            if result is not None and result.get("failure") is not None:
                _, _, kind, message, detail = result["failure"]
                self._broken_blocks[block.group] = WorkerLost(f"not rebuilt: {kind}: {message}", detail, 0)

        if rebuild:
            block.worker.submit(self._build_command(block, rebuilt=True), built)
            block.worker.submit(self._rows_command(block), lambda _result: None)
        else:
            reason = f"{lost.reason}; not rebuilt, the restart budget is used up"
            self._broken_blocks[block.group] = WorkerLost(reason, lost.stderr_tail, lost.env_id)
        for command, callback in self._postponed.pop(block.group, []):
            self._submit(block, command, callback)

    def __repr__(self) -> str:
        """Return what an operator wants to know."""
        return (
            f"<Session {self.id.hex()[:8]} [{self.num_envs} envs, {self.ledger.state.value}, request "
            f"{self.ledger.highest}, {self._operations} running, {self.ledger.stored_bytes} bytes stored]>"
        )


_STARTERS: dict[type[Any], Callable[[Session, Any, Indices], Callable[[], None]]] = {
    Step: Session._start_step,
    Reset: Session._start_reset,
    Call: Session._start_call,
    Render: Session._start_render,
}


def _where(indices: Indices) -> Any:
    """Return `indices` as an array index: a slice, which copies nothing, where they are consecutive."""
    if indices is None:
        return slice(None)
    first, last = indices[0], indices[-1]
    if last - first == len(indices) - 1 and all(b - a == 1 for a, b in zip(indices, indices[1:])):  # noqa: B905
        return slice(first, last + 1)
    return list(indices)


def _is_seed(seed: Any) -> bool:
    return seed is None or type(seed) is int

