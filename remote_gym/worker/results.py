"""Child side: what hosted environments have to say besides the rows, and what to tell when something goes wrong."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from remote_gym import info_blocks, values
from remote_gym.errors import CodecError, known_names
from remote_gym.failures import Failure, FailureKind
from remote_gym.gym import ResetNeeded
from remote_gym.ipc.commands import NOTHING_TO_SAY, HostingOptions, Outcomes
from remote_gym.texts import MAX_DETAIL_CHARACTERS, MAX_NAME_BYTES, encodable, shortened


def failure(index: int, kind: FailureKind, name: str, message: str, detail: str = "", base: str = "") -> Failure:
    """Return a failure whose text can travel and is not endless, whatever an environment has written into it."""
    return Failure(
        index,
        kind,
        shortened(encodable(name), MAX_NAME_BYTES),
        shortened(encodable(message)),
        shortened(encodable(detail), MAX_DETAIL_CHARACTERS),
        base,
    )


def invalid(index: int, error: Exception) -> Failure:
    """Return what to tell about something that the environment at `index` returned, or was given, and that is none."""
    base = known_names(error.local) if isinstance(error, InvalidResult) else ""
    return failure(index, FailureKind.INVALID, "", str(error), "", base)


def unportable(index: int, error: BaseException) -> Failure:
    """Return what to tell about something of the environment at `index` that could not be packed, by `error`."""
    if type(error) is CodecError:
        return invalid(index, error)
    name = text_of(partial(_name_of, type(error)), "no name: that of its class")
    said = text_of(partial(str, error), "no message: its __str__")
    return failure(index, FailureKind.INVALID, "", f"environment {index}: a result cannot travel: {name}: {said}")


class BuildError(Exception):
    """An environment could not be built.

    Attributes:
        failure: What to tell the client.
    """

    def __init__(self, failure: Failure) -> None:
        """Carry `failure`."""
        self.failure = failure
        super().__init__(failure.message)


class InvalidResult(Exception):
    """What an environment returned does not fit.

    Attributes:
        local: The type of what `SyncVectorEnv` raises for it.
    """

    def __init__(self, message: str, local: type[BaseException]) -> None:
        """Say what does not fit."""
        self.local = local
        super().__init__(message)


def failure_of(index: int, error: BaseException) -> Failure:
    """Return what to tell about `error`, which the environment at `index` raised."""
    kind = FailureKind.NEEDS_RESET if issubclass(type(error), ResetNeeded) else FailureKind.RAISED
    name = text_of(partial(_name_of, type(error)), "no name: that of its class")
    message = text_of(partial(str, error), "no message: its __str__")
    detail = text_of(partial(_traceback, error), "no traceback: formatting it")
    base = known_names(type(error))
    return failure(index, kind, name, message, detail, "" if base == name else base)


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def text_of(make: Callable[[], str], what: str) -> str:
    """Return what `make` returns; it may run an environment's code, and what that raises must not hide a failure."""
    try:
        return make()
    except BaseException as broken:
        return f"<{what} raised {type(broken).__name__}>"


REMEDY = "or let entries like this be left out: pass unportable_infos='drop' to the client"


def based_of(based: set[type], told: set[type]) -> dict[str, Any]:
    """Return what to tell the client, once, of the subclasses whose instances travel as their base; adds to `told`."""
    new = sorted(shortened(encodable(values.told(kind)), MAX_NAME_BYTES) for kind in based - told)
    told |= based
    return {"based": new} if new else {}


def odd_scalars(index: int, scalars: Iterable[Any], error: BaseException) -> Failure:
    """Return what to tell about a reward and flags of the environment at `index` that are no numbers, by `error`."""
    reward, terminated, truncated = map(show, scalars)
    message = f"environment {index} returned the reward {reward}, terminated {terminated}, truncated {truncated}"
    why = text_of(partial(str, error), "no message: its __str__")
    return invalid(index, InvalidResult(f"{message}: {why}", type(error)))


def show(value: object) -> str:
    """Return what an environment has returned in a few words, whatever its `__repr__` does."""
    return text_of(lambda: f"{value!r:.80}", "its __repr__")


LARGE_BYTES = 64 * 1024
"""What one environment has to say, from which on it says it apart once all together is too much: a part has a message's
costs, and packing the others once more to put them together takes time."""


@dataclass
class Bounds:
    """How much is said together; kept from one command to the next.

    Attributes:
        most: Environments whose results are one part: more rows than these have no place in one message.
        apart: What was said last had no place in one part, so the next need not be tried.
    """

    most: int = sys.maxsize
    apart: bool = False


@dataclass
class Results:
    """What a reset or step has to say besides the rows: nothing at first.

    Attributes:
        options: What the session wants to hear.
        told: The subclasses of which its client knows that they travel as their base; added to.
        bounds: How much is said together.
        indices: Env indices of `infos`.
        infos: Those that are not empty.
        failures: Of environments whose rows say nothing.
        frames: By env index.
        exact: What is not of the usual type: by env index, by name.
        variable: Elements of variable leaves, by env index.
        dropped: What was left out of infos since it cannot travel.
        based: The subclasses whose instances were packed as their base.
    """

    options: HostingOptions
    told: set[type] = field(default_factory=set)
    bounds: Bounds = field(default_factory=Bounds)
    indices: list[int] = field(default_factory=list)
    infos: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    frames: dict[int, Any] = field(default_factory=dict)
    exact: dict[int, dict[str, Any]] = field(default_factory=dict)
    variable: dict[int, list[Any]] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    based: set[type] = field(default_factory=set)

    def info(self, index: int, info: Any) -> None:
        """Take in one info: in a batch whatever has items, from a single environment anything.

        Raises:
            InvalidResult: It has none, and the session wants no exact types.
        """
        if self.options.exact_types and not (isinstance(info, dict) and info):
            if type(info) is not dict:
                self.exact.setdefault(index, {})["info"] = info
            return
        if not isinstance(info, dict):
            info = self._items(index, info)
        if info:
            self.indices.append(index)
            self.infos.append(info)

    @staticmethod
    def _items(index: int, info: Any) -> dict[Any, Any]:
        try:
            return dict(info.items())
        except Exception as error:
            kind = type(info).__name__
            message = f"environment {index} returned an info of type {kind}, expected a dict"
            raise InvalidResult(message, type(error)) from None

    def scalars(self, index: int, reward: Any, terminated: Any, truncated: Any) -> None:
        """Keep what is not of the builtin type, so that a single environment returns it as it is locally."""
        odd = {
            name: value
            for name, value, usual in (
                ("reward", reward, float),
                ("terminated", terminated, bool),
                ("truncated", truncated, bool),
            )
            if type(value) is not usual
        }
        if odd:
            self.exact.setdefault(index, {}).update(odd)

    def outcomes(self, pieces: dict[int, list[bytes]]) -> Outcomes:
        """Return it, and the compressed rows that go along; `NOTHING_TO_SAY` where there is nothing of all this.

        Never raises: what cannot travel, or is too much, is a failure of the environment that said it.
        """
        if not (self.infos or self.exact or self.variable or self.frames or self.dropped):
            return Outcomes(b"", self.failures, pieces) if self.failures or pieces else NOTHING_TO_SAY
        if not self.bounds.apart and self._speakers() <= self.bounds.most:
            with contextlib.suppress(BaseException):  # it cannot travel, or not together: found out one by one
                return Outcomes(self._said(), self.failures, pieces)
        said, apart = Apart(self).say()
        return Outcomes(said, self.failures, pieces, apart)

    def _speakers(self) -> int:
        """Return of how many environments there is something to say, at most."""
        return max(len(self.infos), len(self.exact), len(self.variable), len(self.frames))

    def _said(self) -> bytes:
        block = info_blocks.pack_infos(self.indices, self.infos, based=self.based) if self.infos else b""
        extras = {name: value for name, value in (("frames", self.frames), ("dropped", self.dropped)) if value}
        said = [block or None, self.exact or None, _as_lists(self.variable), extras or None]
        packed = values.pack(said, "step", based=self.based)
        if not self.based <= self.told:
            said[-1] = {**extras, **based_of(self.based, self.told)}
            packed = values.pack(said, "step", based=self.based)
        return packed


def _as_lists(variable: dict[int, list[Any]]) -> list[Any] | None:
    return [list(variable), list(variable.values())] if variable else None


class Apart:
    """What is said where not all can be said together: one environment cannot, or all of them are too much.

    Limits count for each environment. Who has much to say does so apart, the others together, in as few parts as they
    fit into; the server can answer for the environments of one part before those of another.
    """

    def __init__(self, results: Results) -> None:
        """Say what is in `results`; what cannot be said becomes a failure there."""
        self._results = results
        self._infos = dict(zip(results.indices, results.infos))
        self._kinds: tuple[dict[int, Any], ...] = (self._infos, results.exact, results.variable, results.frames)

    def say(self) -> tuple[bytes, list[tuple[list[int], bytes]]]:
        """Return what is said together, if that is all there is, and otherwise the parts with their env indices."""
        parts: list[tuple[list[int], bytes]] = []
        few = []
        for index in sorted(set().union(*self._kinds)):
            alone = self._alone(index)
            if sum(map(len, alone)) >= LARGE_BYTES:
                parts += [([index], said) for said in alone]
            elif alone:
                few.append(index)
        parts += self._together(few)
        results = self._results
        results.bounds.apart = sum(len(said) for _, said in parts) > values.MAX_BYTES // 2
        extras = {**({"dropped": results.dropped} if results.dropped else {}), **based_of(results.based, results.told)}
        if extras and len(parts) == 1:
            with contextlib.suppress(BaseException):
                return self._packed(parts[0][0], None, extras), []
        if extras:
            notes = values.pack([None, None, None, extras], "step")
            if not parts:
                return notes, []
            parts.append((parts[0][0], notes))
        if len(parts) == 1:
            return parts[0][1], []
        return b"", parts

    def _alone(self, index: int) -> list[bytes]:
        """Return what the environment at `index` has to say: together, or if that is too much one thing at a time."""
        with contextlib.suppress(BaseException):
            return [self._packed([index])]
        self._make_portable(index)
        with contextlib.suppress(BaseException):
            return [self._packed([index])]
        said = []
        for kind in self._kinds:
            if index in kind:
                try:
                    said.append(self._packed([index], kind))
                except BaseException as error:
                    self._failed(index, error)
        return said

    def _make_portable(self, index: int) -> None:
        """Leave out, and report, what cannot travel: of an info the entry, where the session wants that."""
        results = self._results
        for kind in self._kinds[1:]:
            if index in kind:
                try:
                    values.pack(kind[index], f"environment {index}: result", based=results.based)
                except BaseException as error:
                    self._failed(index, error)
                    del kind[index]
        if index not in self._infos:
            return
        try:
            info_blocks.pack_infos([index], [self._infos[index]], based=results.based)
        except BaseException as error:
            info = self._infos.pop(index)
            if not results.options.drop_unportable_infos:
                remedied = CodecError(f"{error}; {REMEDY}") if isinstance(error, CodecError) else error
                self._failed(index, remedied)
                return
            try:
                packed, dropped = values.pack_lossy(info, f"env {index}: info", results.based)
                self._infos[index] = values.unpack(packed)
                results.dropped += dropped
            except BaseException as still:
                self._failed(index, still)

    def _failed(self, index: int, error: BaseException) -> None:
        self._results.failures.append(unportable(index, error))

    def _together(self, indices: list[int]) -> list[tuple[list[int], bytes]]:
        """Return what those at `indices` have to say in as few parts as halving finds."""
        if not indices:
            return []
        if len(indices) <= self._results.bounds.most:
            try:
                return [(indices, self._packed(indices))]
            except BaseException as error:
                if len(indices) == 1:  # and yet it has been packed before
                    self._failed(indices[0], error)
                    return []
        half = len(indices) // 2
        return [*self._together(indices[:half]), *self._together(indices[half:])]

    def _packed(
        self, indices: list[int], only: dict[int, Any] | None = None, notes: dict[str, Any] | None = None
    ) -> bytes:
        """Return what those at `indices` have to say, of all kinds or of the only one, as the wire has it."""
        own, exact, variable, frames = (
            {index: kind[index] for index in indices if index in kind} if only is None or kind is only else {}
            for kind in self._kinds
        )
        based = self._results.based
        block = info_blocks.pack_infos(list(own), list(own.values()), based=based) if own else b""
        extras = {**({"frames": frames} if frames else {}), **(notes or {})}
        return values.pack([block or None, exact or None, _as_lists(variable), extras or None], "step", based=based)


def portable_metadata(metadata: dict[str, Any]) -> bytes:
    """Return what of `metadata` can travel, packed."""
    try:
        return values.pack_lossy(metadata, "metadata", set())[0]
    except Exception:  # too large as a whole, or a dict of its own kind: an environment works without
        return b""


def portable_render_mode(env: Any) -> str | None:
    """Return the environment's render mode; None where it is no text, which Gymnasium does not know either."""
    return shortened(encodable(env.render_mode), MAX_NAME_BYTES) if isinstance(env.render_mode, str) else None


def spec_json(env: Any) -> str:
    """Return the environment's spec as JSON; empty where it has none or it holds code."""
    if env.spec is None:
        return ""
    try:
        return str(env.spec.to_json())
    except Exception:  # callables or objects in its kwargs, which JSON cannot carry, whatever they raise
        return ""


def spec_kwargs(env: Any) -> bytes:
    """Return the packed keyword arguments of the environment's spec and its wrappers; empty where they hold objects."""
    if env.spec is None:
        return b""
    try:
        kwargs = [env.spec.kwargs, [wrapper.kwargs for wrapper in env.spec.additional_wrappers]]
        return values.pack(kwargs, "spec", based=set())  # data to look at: nobody is warned
    except Exception:
        return b""
