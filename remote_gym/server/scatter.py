"""Server process: requests scattered over the workers of a session, what comes back gathered into answers.

Knows nothing of numbers, streams or leases: what a request's answer is, and when, is told through `on_answer`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from remote_gym.leaves import rows_at
from remote_gym.messages import Failure, Indices, Request, Reset, Returned, Step, Transition, every
from remote_gym.pool import NoGroup, Outcomes, WorkerLost
from remote_gym.server.checks import Order
from remote_gym.server.episodes import Episodes
from remote_gym.server.losses import Losses
from remote_gym.server.opening import Opening
from remote_gym.server.portions import Portion, Said, chunks, parts, portions
from remote_gym.server.statistics import KINDS, LAST_STEPS, Counters
from remote_gym.server.tracing import RequestTrace
from remote_gym.wire.codec import pack_server
from remote_gym.wire.frames import transition_packer

ANSWER_BYTES = 256 * 2**20
"""Of the rows and infos in one answer, about: of more, some environments are answered for before the others. An answer
exists several times over while it is made, and no client takes one of a GiB."""

OnAnswer = Callable[[Request, Indices, bytes], None]
"""Called with a request, the env indices answered and the answer as a serialised message."""


class _Operation:
    """A request that runs: what has come back, and from how many workers something is still to come.

    Attributes:
        request: What was asked.
        waiting: From how many workers something is still to come.
        early: Whether to answer for those that are ready before the others.
        began: When it came, by the performance counter.
        infos: What there is to say besides the rows.
        values: By env index, what a call or render returned.
        failures: Of environments.
        ready: Env indices to be answered for soon.
        pieces: Leaf number -> compressed rows.
        plain: Leaves that some worker found not worth compressing.
        is_large: Whether several answers are to be made of it.
    """

    __slots__ = (
        "began", "early", "failures", "infos", "is_large", "pieces", "plain", "ready", "request", "values", "waiting"
    )  # fmt: skip

    def __init__(self, request: Request, waiting: int, early: bool, began: float) -> None:
        self.request, self.waiting, self.early, self.began = request, waiting, early, began
        self.forget()

    def forget(self) -> None:
        """Forget what has come back: it is answered."""
        self.infos: list[Said] = []
        self.values: dict[int, bytes] = {}
        self.failures: list[Failure] = []
        self.ready: list[int] = []
        self.pieces: dict[int, list[bytes]] = {}
        self.plain: set[int] = set()
        self.is_large = False

    def take_pieces(self, pieces: Mapping[int, list[bytes]]) -> None:
        """Take in one worker's compressed rows; a leaf without any is to be sent as it is."""
        for number, packed in pieces.items():
            self.pieces.setdefault(number, []).extend(packed)
            if not packed:
                self.plain.add(number)


class Scatter:
    """The requests of one session.

    Guarantees: every request that `run` takes is answered once for each of its env indices, whatever happens to
    workers. Relies on: the event loop's thread; no environment is given two requests at once.

    Attributes:
        running: Requests that wait for workers.
        step_seconds: Of the last step requests, from their arrival to their last answer.
    """

    def __init__(
        self,
        opened: Opening,
        losses: Losses,
        reply_early: bool,
        counters: Counters,
        on_answer: OnAnswer,
        on_error: Callable[[Exception], None],
        episodes: Episodes | None = None,
    ) -> None:
        """Serve the environments that `opened` has built.

        Args:
            opened: Where they and their rows are.
            losses: Of their workers.
            reply_early: Whether the client wants answers for those that are ready before the others.
            counters: Count the steps of environments, and take the time of requests for them.
            on_answer: Called with each answer.
            on_error: Called with a bug of ours that keeps a request from being answered.
            episodes: Told of each answer once it is sent; None: nobody is.
        """
        self.running = 0
        self.step_seconds: deque[float] = deque(maxlen=LAST_STEPS)
        self._rows = opened.rows
        self._layout = opened.layout
        self._blocks = opened.blocks
        self._firsts = [block.first for block in opened.blocks]
        self._num_envs = opened.blocks[-1].stop
        self._whole = portions(self._blocks, self._firsts, None)
        self._row_bytes = sum(leaf.row_bytes for leaf in self._layout.observation_leaves)
        self._is_large = self._num_envs * self._row_bytes > ANSWER_BYTES
        self._pack_rows = transition_packer(self._rows.whole_observations, self._rows.whole_scalars)
        self._losses = losses
        self._reply_early = reply_early
        self._counters = counters
        self._on_answer = on_answer
        self._on_error = on_error
        self._episodes = episodes
        self._released = False

    def release(self) -> None:
        """Answer nobody any more, and let go of the rows."""
        if not self._released:
            self._released = True
            del self._rows, self._pack_rows

    # Scatter

    def run(self, request: Request, order: Order, trace: RequestTrace | None = None) -> None:
        """Send each worker its portion of `request`, whose `order` it is; the answers come through `on_answer`.

        When each worker did what is told to `trace`.
        """
        began = perf_counter()
        if isinstance(request, Step) and not (request.dtypes or request.given):  # these go with the command
            self._write_actions(request)
        indices = request.indices
        asked = self._whole if indices is None else portions(self._blocks, self._firsts, indices)
        if self._reply_early and isinstance(request, Step):
            asked = [chunk for portion in asked for chunk in chunks(portion, portion.block.worker.step_seconds)]
        operation = _Operation(request, len(asked), self._reply_early and len(asked) > 1, began)
        losses = self._losses
        if losses.untold:
            asked = self._tell_losses(operation, asked)
            if not asked:
                return
        self.running += 1
        if trace is not None:
            trace.admitted()
        for portion in asked:
            block, own, positions = portion
            values = () if order.values is None else (order.values.select(positions),)
            command = order.kind(block.group, own, *values, *order.fields)
            gather = partial(self._gather, operation, portion)
            if block.worker.lost is not None or block.group in losses.broken:
                losses.submit(block, command, gather)
            elif trace is None:
                block.worker.submit(command, gather)
            else:
                timed = trace.round(block.worker, len(positions), KINDS[type(request)], gather)
                block.worker.submit_timed(command, timed)

    def _write_actions(self, request: Step) -> None:
        if request.indices is None:
            for whole, data in zip(self._rows.whole_actions, request.actions, strict=True):
                whole[:] = data
            return
        where, count = rows_at(request.indices), len(request.indices)
        for leaf, array, data in zip(self._layout.action_leaves, self._rows.actions, request.actions, strict=True):
            array[where] = np.ndarray((count, *leaf.shape), leaf.dtype, data)

    def _tell_losses(self, operation: _Operation, asked: list[Portion]) -> list[Portion]:
        """Answer for environments whose loss is not known yet; return the portions of the others."""
        left, failures = self._losses.told_instead(operation.request, asked)
        if failures:
            operation.failures += failures
            operation.waiting = len(left)
            if operation.early and left:
                self._answer_soon(operation, [failure.index for failure in failures])
            elif not left:
                self._answer(operation, operation.request.indices)
        return left

    # Gather

    def _gather(self, operation: _Operation, portion: Portion, result: Any) -> None:
        """Take in one worker's part; answer when it is the last, or at once where the client wants that."""
        try:
            self._take_in(operation, portion, result)
            self._answer_if_due(operation, portion)
        except Exception as error:
            self._on_error(error)  # nobody shall wait for an answer that will never come

    def _take_in(self, operation: _Operation, portion: Portion, result: Any) -> None:
        block = portion.block
        if isinstance(result, Outcomes):
            if result.said:
                operation.infos.append((portion.indices, result.said))
            if result.apart:
                operation.infos += result.apart
                operation.is_large = True
            operation.failures += result.failures
            if result.pieces:
                operation.take_pieces(result.pieces)
        elif isinstance(result, (NoGroup, WorkerLost)):
            lost = self._losses.loss_of(block) if isinstance(result, NoGroup) else result
            operation.failures += self._losses.told_now(operation.request, block, portion.indices, lost)
        else:
            operation.values.update(zip(portion.indices, result.values, strict=True))
            operation.failures += result.failures

    def _answer_if_due(self, operation: _Operation, portion: Portion) -> None:
        operation.waiting -= 1
        if operation.waiting == 0:
            self.running -= 1
        if self._released:
            return
        if operation.early:
            self._answer_soon(operation, portion.indices)
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
        operation.forget()

    def _answer(self, operation: _Operation, indices: Indices) -> None:
        request, failures = operation.request, operation.failures
        if not isinstance(request, (Step, Reset)):
            packed = [operation.values.get(index, b"") for index in every(indices, self._num_envs)]
            self._on_answer(request, indices, pack_server(Returned(request.number, indices, packed, failures)))
            return
        now = perf_counter()
        if isinstance(request, Step):
            self._counters.env_steps += self._num_envs if indices is None else len(indices)
            if operation.waiting == 0:  # this answer is the last one
                took = now - operation.began
                self._counters.step_seconds.observe(took)
                self.step_seconds.append(took)
        if operation.is_large or self._is_large:
            self._answer_in_parts(operation, indices)
        else:
            self._on_answer(request, indices, self._packed(operation, indices))
        if self._episodes is not None:  # the client has its answer, and the rows are still ours
            told = self._episodes.stepped if isinstance(request, Step) else self._episodes.reset
            told(indices, failures, now)

    def _answer_in_parts(self, operation: _Operation, indices: Indices) -> None:
        """Answer for some environments after the others: all of them together may be more than one message holds."""
        everyone, infos, failures = every(indices, self._num_envs), operation.infos, operation.failures
        divided = list(parts(everyone, self._row_bytes, infos, ANSWER_BYTES))
        if len(divided) == 1:
            self._on_answer(operation.request, indices, pack_server(self._transition(operation, indices)))
            return
        # Compressed rows are those of a worker, not of a part: the rows go as they are.
        operation.plain.update(self._layout.compressed)
        for own, said in divided:
            asked = set(own)
            operation.infos = said
            operation.failures = [failure for failure in failures if failure.index in asked]
            self._on_answer(operation.request, own, pack_server(self._transition(operation, own)))

    def _packed(self, operation: _Operation, indices: Indices) -> bytes:
        """Return the answer, in one part, to a Reset or Step.

        To a step of everybody, of whom there is nothing to say besides the rows, it differs from the one before in its
        number and in what the rows hold: all else of it is kept.
        """
        request = operation.request
        if (
            indices is None
            and isinstance(request, Step)
            and not (operation.infos or operation.failures or self._layout.compressed)
        ):
            return self._pack_rows(request.number)
        return pack_server(self._transition(operation, indices))

    def _transition(self, operation: _Operation, indices: Indices) -> Transition:
        rows, infos = self._rows, [said for _, said in operation.infos]
        skipped = [number for number in self._layout.compressed if number not in operation.plain]
        if skipped:
            infos += [piece for number in skipped for piece in operation.pieces.get(number, ())]
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
