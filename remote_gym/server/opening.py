"""Server process: how the environments of a session come to be: placed, built, compared, given their shared rows."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gymnasium import Space

from remote_gym import observation_modes
from remote_gym.compression import compressed_leaves
from remote_gym.errors import MisuseError, known_names
from remote_gym.leaves import Leaf, leaves_of
from remote_gym.messages import Failure, FailureKind, Open
from remote_gym.pool import (
    NO_GROUP,
    AskKind,
    AttachRows,
    Block,
    BuildGroup,
    Building,
    BuildMore,
    Built,
    Callback,
    Command,
    HostingOptions,
    NoRoomError,
    NotBuilt,
    OnDied,
    OnLost,
    Pool,
    Rows,
    RowsRefused,
    SharedBlock,
    WorkerLost,
    WorkerProcess,
)
from remote_gym.server.refusals import RefusalError
from remote_gym.server.settings import Settings
from remote_gym.spaces import SpaceData, build


@dataclass(frozen=True)
class Layout:
    """What the spaces of a session say about its rows.

    Attributes:
        action_space: Of one environment.
        action_leaves: Its fixed-size leaves.
        observation_leaves: Those of the observation space.
        compressed: Numbers of the observation leaves that workers may compress.
    """

    action_space: Space[Any]
    action_leaves: Sequence[Leaf]
    observation_leaves: Sequence[Leaf]
    compressed: tuple[int, ...]

    @classmethod
    def of(cls, built: Built, compression: str | None) -> Layout:
        """Read the spaces that a worker describes.

        Raises:
            RefusalError: They cannot be built here, or hold a custom one.
        """
        try:
            action_space = build(built.action_space)
            observation_leaves = leaves_of(build(built.observation_space))
            compressed = compressed_leaves(observation_leaves, compression)
            return cls(action_space, leaves_of(action_space), observation_leaves, compressed)
        except MisuseError as error:
            raise RefusalError("space", str(error)) from error


class Opening:
    """Builds the environments of one session, at first and after a loss, and owns their blocks and rows.

    Attributes:
        blocks: Where they live; empty before `open` and after `release`.
        is_vector: Whether they are one hosted vector environment. Set by `open` and `probe`.
        layout: What their spaces say. Set by `open`.
        rows: Their shared rows. Set by `open`, gone with `release`.
    """

    layout: Layout
    rows: Rows

    def __init__(
        self,
        message: Open,
        kwargs: bytes,
        settings: Settings,
        pool: Pool,
        tenant: str = "",
        max_workers: int | None = None,
        kept_kwargs: Sequence[str] = (),
    ) -> None:
        """Prepare; `open` builds.

        Args:
            message: What the client asked for.
            kwargs: Its packed keyword arguments, which go over the owner's; empty: none.
            settings: The server's.
            pool: Where they will live.
            tenant: Who they share workers with, see `isolation`.
            max_workers: Of that tenant; None: no limit but that of all.
            kept_kwargs: Names of the client's that are set aside.
        """
        self._kept_kwargs = kept_kwargs
        self.blocks: list[Block] = []
        self.is_vector = False
        self._message = message
        self._kwargs = kwargs
        self._render_mode = "rgb_array" if message.render_mode == "human" else message.render_mode
        self._settings = settings
        self._pool = pool
        self._tenant = tenant
        self._max_workers = max_workers
        self._memory: SharedBlock | None = None

    async def open(self, on_lost: OnLost, on_died: OnDied) -> Built:
        """Build all environments and lay out their rows; return what the first worker tells about them.

        Args:
            on_lost: As for `Block`.
            on_died: As for `Block`.

        Raises:
            RefusalError: An environment could not be built, or memory was refused. Call `release` then.
        """
        recipe = (self._kwargs, self._render_mode)  # of a probe, which is reused, the first is empty
        num_envs = self._message.num_envs
        try:
            await self._find_out_kind()
            self.blocks = await self._pool.place(
                num_envs, on_lost, recipe, self.is_vector, on_died, tenant=self._tenant, max_workers=self._max_workers
            )
        except (OSError, MemoryError) as error:
            raise RefusalError("num_workers", f"a worker process could not be started: {error}") from error
        except NoRoomError as error:
            raise RefusalError("principal_workers" if error.of_tenant else "max_workers", str(error)) from error
        described = await _in_order(map(self._build, self.blocks))
        first: Built = described[0]
        check_spaces([block.first for block in self.blocks], described, self._message.observation_mode)
        self.layout = Layout.of(first, self._message.compression)
        await self._lay_out_rows()
        return first._replace(observation_spaces=self._differing(described))

    def _differing(self, described: Sequence[Built]) -> list[SpaceData]:
        """The observation space of each environment, if the client asked and they differ; else an empty list."""
        if self._message.observation_mode != observation_modes.DIFFERENT or self.is_vector:
            return []
        each: list[SpaceData] = []
        for block, built in zip(self.blocks, described, strict=True):
            spaces = list(built.observation_spaces)
            each += spaces * len(block.env_ids) if len(spaces) == 1 else spaces
        return [] if all(data == each[0] for data in each) else each

    async def envs_to_probe(self) -> int:
        """Return of how many environments the block is that `probe` takes: more than one of a vector environment only.

        Raises:
            RefusalError: The entrypoint cannot be used; says why.
        """
        await self._find_out_kind()
        return self._message.num_envs if self.is_vector else 1

    async def probe(self, block: Block) -> bool:
        """Build what `block` has room for, to find out whether it can be.

        Returns:
            Whether it can be used as the first of a session; a vector environment of another size cannot.

        Raises:
            RefusalError: It cannot be built; says why.
        """
        await self._find_out_kind()
        if self.is_vector:
            self._message = replace(self._message, autoreset_mode="")  # any will do
        try:
            built = await self._build(block)
        except RefusalError as error:
            if not self.is_vector:
                raise
            asked = f"it was asked for {len(block.env_ids)}: where it takes only some numbers, name one by probe_envs="
            raise RefusalError(error.limit, f"{error} ({asked})", error.failure) from error
        Layout.of(built, None)
        return not self.is_vector

    async def _find_out_kind(self) -> None:
        """Ask a worker, once per server, whether the entrypoint makes vector environments: it may have to import it."""
        if self._pool.hosts_vector is None:
            worker = await self._pool.worker_to_ask(self._tenant)
            result = await _ask(worker, AskKind(self._settings.entrypoint, self._settings.vectorization_mode))
            self._pool.hosts_vector = unless_refused(result, 0, NO_GROUP).is_vector
        self.is_vector = self._pool.hosts_vector

    async def _build(self, block: Block) -> Built:
        worker = block.worker  # in a new one there would be nothing to go on with
        result = await _ask(worker, self._build_command(block, rebuilt=False))
        while isinstance(result, Building):  # in between, others in that worker have their turn
            result = await _ask(worker, BuildMore(block.group))
        built: Built = unless_refused(result, block.first, block.group)
        return built

    def _build_command(self, block: Block, rebuilt: bool) -> BuildGroup:
        message = self._message
        return BuildGroup(
            group=block.group,
            entrypoint=self._settings.entrypoint,
            kwargs=self._settings.packed_kwargs,
            client_kwargs=self._kwargs,
            kept_kwargs=self._kept_kwargs,
            render_mode=self._render_mode,
            env_ids=block.env_ids,
            first=block.first,
            options=HostingOptions(
                message.autoreset_mode,
                message.exact_types,
                message.render_with_step,
                message.drop_unportable_infos,
                message.compression,
                message.observation_mode,
            ),
            vectorization_mode=self._settings.vectorization_mode,
            is_vector=self.is_vector,
            spare=None if rebuilt else block.spare,
            rebuilt=rebuilt,
        )

    async def _lay_out_rows(self) -> None:
        num_envs, layout = self._message.num_envs, self.layout
        size = Rows.size_bytes(layout.action_leaves, layout.observation_leaves, num_envs)
        try:
            self._memory = SharedBlock.create(size)
        except MemoryError as error:
            raise RefusalError(
                "row_memory", f"shared rows for {num_envs} environments could not be allocated: {error}"
            ) from error
        self.rows = Rows(self._memory.buffer, layout.action_leaves, layout.observation_leaves, num_envs)
        for result in await _in_order([_ask(block.worker, self._rows_command(block)) for block in self.blocks]):
            if isinstance(result, WorkerLost):
                raise RefusalError("build", f"a worker died while the session was opened: {result.reason}")
            if isinstance(result, RowsRefused):
                raise RefusalError("row_memory", result.reason)

    def _rows_command(self, block: Block) -> AttachRows:
        assert self._memory is not None
        block.worker.send_descriptor(self._memory.descriptor)
        return AttachRows(block.group, self._message.num_envs, self._memory.size)

    @property
    def can_rebuild(self) -> bool:
        """Whether there are rows: `open` has come so far, and `release` was not called."""
        return self._memory is not None

    def rebuild(self, block: Block, callback: Callback) -> None:
        """Build `block` in its new worker and hand it the rows; `callback` gets the result of building."""
        block.worker.submit(self._build_command(block, rebuilt=True), callback)
        block.worker.submit(self._rows_command(block), lambda _result: None)

    def release(self) -> None:
        """Close all environments and give their memory back; doing so again does nothing."""
        for block in self.blocks:
            self._pool.release(block)
        self.blocks = []
        if self._memory is not None:
            self._memory.close()
            self._memory = None
            del self.rows  # it holds the mapping; who still refers to us must not


def unless_refused(result: Any, first: int, group: int) -> Any:
    """Return what a worker tells of what it has built.

    Args:
        result: Of a command that builds, or asks what would be.
        first: The env index that a death counts against.
        group: Whose last words to tell then.

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


def check_spaces(firsts: Sequence[int], described: Sequence[Built], mode: str) -> None:
    """Refuse spaces that differ too much between blocks; within a block the worker has looked.

    Args:
        firsts: The first env index of each block.
        described: What their workers tell.
        mode: How observation spaces may differ.

    Raises:
        RefusalError: They differ; says which.
    """
    first = described[0]
    for index, other in zip(firsts, described, strict=True):
        try:
            if other.observation_space != first.observation_space:
                spaces = build(other.observation_space), build(first.observation_space)
                observation_modes.compare(f"environment {index}", *spaces, mode)
            if other.action_space != first.action_space:
                actions = build(other.action_space), build(first.action_space)
                observation_modes.compare_actions(index, actions[0], 0, actions[1])
        except MisuseError as error:
            raise RefusalError("space", str(error)) from error
        except (RuntimeError, ValueError, TypeError) as error:
            # What `SyncVectorEnv` raises, and a worker within a block.
            failure = Failure(index, FailureKind.RAISED, known_names(type(error)), str(error))
            raise RefusalError("build", str(error), failure) from error


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
