"""Child side: what hosted environments have to say besides the rows, and what to tell when something goes wrong."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from remote_gym import infos, values
from remote_gym.errors import CodecError, known_name
from remote_gym.failures import Failure, FailureKind
from remote_gym.gym import ResetNeeded
from remote_gym.ipc.commands import HostingOptions, Outcomes
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
    base = known_name(error.local) if isinstance(error, InvalidResult) else ""
    return failure(index, FailureKind.INVALID, "", str(error), "", base)


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
    kind = FailureKind.NEEDS_RESET if isinstance(error, ResetNeeded) else FailureKind.RAISED
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    message = text_of(partial(str, error), "no message: its __str__")
    detail = text_of(partial(_traceback, error), "no traceback: formatting it")
    base = known_name(type(error))
    return failure(index, kind, name, message, detail, "" if base == name else base)


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


def odd_scalars(index: int, scalars: list[Any], error: Exception) -> Failure:
    """Return what to tell about a reward and flags of the environment at `index` that are no numbers, by `error`."""
    reward, terminated, truncated = map(show, scalars)
    message = f"environment {index} returned the reward {reward}, terminated {terminated}, truncated {truncated}"
    why = text_of(partial(str, error), "no message: its __str__")
    return invalid(index, InvalidResult(f"{message}: {why}", type(error)))


def show(value: object) -> str:
    """Return what an environment has returned in a few words, whatever its `__repr__` does."""
    return text_of(lambda: f"{value!r:.80}", "its __repr__")


@dataclass
class Results:
    """What a reset or step has to say besides the rows: nothing at first.

    Attributes:
        options: What the session wants to hear.
        told: The subclasses of which its client knows that they travel as their base; added to.
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
    told: set[type]
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
        """Return it, and the compressed rows that go along."""
        block = self._pack_infos() if self.infos else b""
        if not (block or self.exact or self.variable or self.frames or self.dropped):
            return Outcomes(b"", self.failures, pieces)
        try:
            said = self._said(block)
        except CodecError:
            self._drop_what_cannot_travel()
            said = self._said(block)
        return Outcomes(said, self.failures, pieces)

    def _said(self, block: bytes) -> bytes:
        extras = {name: value for name, value in (("frames", self.frames), ("dropped", self.dropped)) if value}
        said = [block or None, self.exact or None, self._variable(), extras or None]
        packed = values.pack(said, "step", based=self.based)
        if not self.based <= self.told:
            said[-1] = {**extras, **based_of(self.based, self.told)}
            packed = values.pack(said, "step", based=self.based)
        return packed

    def _variable(self) -> list[Any] | None:
        return [list(self.variable), list(self.variable.values())] if self.variable else None

    def _pack_infos(self) -> bytes:
        try:
            return infos.pack_infos(self.indices, self.infos, based=self.based)
        except CodecError:
            return infos.pack_infos(*self._portable(), based=self.based)

    def _drop_what_cannot_travel(self) -> None:
        """Leave out, and report, what an environment returned that is no value."""
        for collected in (self.exact, self.variable, self.frames):
            for index in list(collected):
                try:
                    values.pack(collected[index], f"environment {index}: result", based=self.based)
                except CodecError as error:
                    self.failures.append(invalid(index, error))
                    del collected[index]

    def _portable(self) -> tuple[list[int], list[dict[str, Any]]]:
        """Leave out, and report, what cannot travel: the entry, where the session wants that, or the whole info."""
        portable: dict[int, dict[str, Any]] = {}
        for index, info in zip(self.indices, self.infos):
            try:
                infos.pack_infos([index], [info], based=self.based)
                portable[index] = info
            except CodecError as error:
                if self.options.drop_unportable_infos:
                    packed, dropped = values.pack_lossy(info, f"env {index}: info", self.based)
                    portable[index] = values.unpack(packed)
                    self.dropped += dropped
                else:
                    self.failures.append(invalid(index, CodecError(f"{error}; {REMEDY}")))
        return list(portable), list(portable.values())


def portable_metadata(metadata: dict[str, Any]) -> bytes:
    """Return what of `metadata` can travel, packed."""
    return values.pack_lossy(metadata, "metadata", set())[0]


def portable_render_mode(env: Any) -> str | None:
    """Return the environment's render mode; None where it is no text, which Gymnasium does not know either."""
    return shortened(encodable(env.render_mode), MAX_NAME_BYTES) if isinstance(env.render_mode, str) else None


def spec_json(env: Any) -> str:
    """Return the environment's spec as JSON; empty where it has none or it holds code."""
    if env.spec is None:
        return ""
    try:
        return str(env.spec.to_json())
    except (ValueError, TypeError):  # callables or objects in its kwargs: data cannot carry them
        return ""


def spec_kwargs(env: Any) -> bytes:
    """Return the packed keyword arguments of the environment's spec and its wrappers; empty where they hold objects."""
    if env.spec is None:
        return b""
    try:
        kwargs = [env.spec.kwargs, [wrapper.kwargs for wrapper in env.spec.additional_wrappers]]
        return values.pack(kwargs, "spec", based=set())  # data to look at: nobody is warned
    except CodecError:
        return b""
