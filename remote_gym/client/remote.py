"""Trainer process: what both public classes are made of. Dials on first need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from remote_gym.client.dialled import Dialled, prepared
from remote_gym.client.fleet import Fleet
from remote_gym.client.hosted import Hosted, check_given
from remote_gym.client.inline import Inline, check_watchable
from remote_gym.client.local import LocalServer
from remote_gym.client.losses import warn_of_losses
from remote_gym.client.moving import Mover
from remote_gym.client.rendering import Window
from remote_gym.client.settings import Settings
from remote_gym.client.statistics import collect
from remote_gym.client.tracing import trace_of
from remote_gym.client.warned import warn
from remote_gym.errors import MisuseError


class Remote:
    """Environments of one server or of several, as a public class uses them.

    Closing contract: `close` is bounded in time, may be called twice, and always releases.

    Attributes:
        settings: The arguments.
        fleet: The servers.
        dialled: What there is once all servers were dialled; None before.
        closed: Whether it was closed.
        shows: Whether somebody looks at what is stepped, so that `show` has something to do.
        local: The server, if it is these environments' own.
        trace: Records what is done, where this process has an SDK of OpenTelemetry; None: nobody does.
    """

    def __init__(self, settings: Settings) -> None:
        """Prepare; dials nothing yet."""
        self.settings = settings
        self.trace = trace_of(
            "RemoteEnvironment" if settings.single else "RemoteVectorEnv", settings.num_envs, settings.addresses
        )
        hosted = [Hosted(settings, address, trace=self.trace) for address in settings.addresses]
        find = None if settings.source is None else self._find
        self.fleet = Fleet(hosted, settings.num_envs, settings.opening.observation_mode, find, settings.moves)
        self._mover: Mover | None = None
        self.dialled: Dialled | None = None
        self._own: dict[str, Any] = {}  # `metadata` and `spec` once they were read or set: users may change both
        self._window: Window | None = None  # made with the first frame of render mode "human"
        self._inline: Inline | None = None  # likewise, of who watches in a notebook
        self.shows = settings.render_mode == "human"
        self._warned = False
        self.local: LocalServer | None = None
        self.closed = False

    def _find(self) -> list[Hosted]:
        return [Hosted(self.settings, address, trace=self.trace) for address in self.settings.find()]

    def dial(self) -> Dialled:
        """Return what there is once all servers were dialled; dials them if that was not done yet.

        Raises:
            gymnasium.error.ClosedEnvironmentError: It was closed before it was ever needed.
            ConnectError, RefusedError, EnvironmentRaised, EnvironmentLost, MisuseError: A session could not be opened.
            ProtocolError: A server sent what the contract does not allow.
        """
        if self.dialled is None:
            self.fleet.dial()
            first = self.fleet.shards[0].hosted
            if (given := self.settings.given_spaces) is not None:
                check_given(first.told.observation_space, given[1])
            moves = self.settings.moves or (self.settings.on_session_lost == "truncate" and len(self.fleet.hosted) > 1)
            if moves and self._mover is None:  # else an error has come after it was made
                self._mover = self._make_mover(first)
            try:
                self.dialled = prepared(self.settings, self.fleet, first.told, self._mover, self.trace)
            except Exception as error:  # of the server's spaces, which Gymnasium cannot batch
                raise first.session.misread(error) from error
            if first.told.bases:
                said = ", ".join(first.told.bases)
                warn(f"of spaces whose class nobody has registered with remote_gym.register_space: {said}")
        return self.dialled

    def rebalance(self) -> None:
        """Let environments go to where there are too few of them; see `RemoteVectorEnv`."""
        self.check("rebalance")
        if not self.settings.moves:
            raise MisuseError("`rebalance` needs on_session_lost='move'")
        self.dial()
        assert self._mover is not None
        self._mover.balance()

    def _make_mover(self, first: Hosted) -> Mover:
        if first.told.is_vector:
            raise MisuseError(
                f"on_session_lost='move': {first.address} hosts a vector environment, which cannot be moved; "
                f"'truncate' builds it anew where it was"
            )
        return Mover(self.settings, self.fleet, self.trace)

    def free(self, name: str) -> Dialled:
        """Return what `dial` does once nothing is under way, so that `name` may begin.

        What nobody waits for any more is dropped.

        Raises:
            gymnasium.error.ClosedEnvironmentError: It was closed.
            gymnasium.error.AlreadyPendingCallError: Something else was begun, and its result was not taken.
            SessionLost: A server no longer holds the environments.
        """
        dialled = self.dialled
        if dialled is not None and dialled.turns.clear and not self.closed:  # the usual case
            dialled.turns.clear = False
            return dialled
        dialled = self.opened(name)
        dialled.turns.check_all_idle(name)
        exchange = dialled.exchange
        if exchange.busy and not exchange.counts:
            exchange.settle()
        return dialled

    def opened(self, name: str) -> Dialled:
        """Return what `dial` does if nothing is pending, so that `name` may begin; raises like `free`."""
        self.check(name)
        dialled = self.dial()
        dialled.turns.check_not_pending(name)
        return dialled

    def awaited(self, name: str) -> Dialled:
        """Return what `dial` does if `name` is pending.

        Raises:
            gymnasium.error.ClosedEnvironmentError: It was closed.
            gymnasium.error.NoAsyncCallError: It was not begun.
        """
        self.check(f"{name}_wait")
        if self.dialled is None:
            raise gymnasium.error.NoAsyncCallError(
                f"Calling `{name}_wait` without any prior call to `{name}_async`.", name
            )
        self.dialled.turns.check_awaited(name)
        return self.dialled

    def check(self, name: str) -> None:
        """Refuse to do `name` after `close`."""
        if self.closed:
            own = "RemoteEnvironment" if self.settings.single else "RemoteVectorEnv"
            raise gymnasium.error.ClosedEnvironmentError(
                f"Trying to operate on `{own}`, after a call to `close()`: `{name}` was called"
            )

    # What the server told

    @property
    def metadata(self) -> Any:
        """Of the hosted environment, and ``"autoreset_mode"`` for a batch; or what the user has set."""
        if "metadata" not in self._own:
            metadata, settings = self.dial().told.metadata, self.settings
            self._own["metadata"] = metadata if settings.single else {**metadata, "autoreset_mode": settings.mode}
        return self._own["metadata"]

    @metadata.setter
    def metadata(self, value: Any) -> None:
        self._own["metadata"] = value

    @property
    def spec(self) -> EnvSpec | None:
        """Of the hosted environment, as data; or what the user has set."""
        if "spec" not in self._own:
            self._own["spec"] = self.dial().told.spec
        spec: EnvSpec | None = self._own["spec"]
        return spec

    @spec.setter
    def spec(self, value: EnvSpec | None) -> None:
        self._own["spec"] = value

    def __str__(self) -> str:
        """Return the id, where it is known without dialling, and the addresses."""
        spec = self.known_spec
        return ", ".join([*([] if spec is None else [spec.id]), *self.places])

    @property
    def known_spec(self) -> EnvSpec | None:
        """The `spec`, where it is known without dialling."""
        return self._own.get("spec") or (None if self.dialled is None else self.dialled.told.spec)

    @property
    def places(self) -> list[str]:
        """What the arguments say of where the servers are."""
        source = self.settings.source
        return list(map(str, self.settings.addresses)) if source is None else [source.name]

    # Frames

    def frames(self, rows: Sequence[int] | None = None) -> list[Any]:
        """Return the rendered frame of each environment, or of `rows`: those that came with the last step, else new."""
        dialled, everyone = self.dial(), range(self.settings.num_envs)
        asked = everyone if rows is None else rows
        frames = dialled.reader.frames
        if len(frames) < len(asked) or not all(index in frames for index in asked):
            rows = None if dialled.told.is_vector else rows  # which renders as a whole
            frames = dict(zip(everyone if rows is None else rows, dialled.calls.render(rows), strict=True))
        return [frames[index] for index in asked]

    def _frames_to_show(self) -> Any:
        return self.frames()[0] if self.settings.single else tuple(self.frames())

    def _frames_by_row(self, rows: Sequence[int]) -> dict[int, Any]:
        """Return the frames of those of `rows` that have one now, without waiting for what is under way."""
        dialled = self.dial()
        if self.settings.opening.render_with_step:
            return {row: frame for row, frame in dialled.reader.frames.items() if row in rows}
        if dialled.exchange.busy or not dialled.exchange.began:
            return {}
        housed = [row for row in rows if row not in self.fleet.homeless]
        return dict(zip(housed, self.frames(housed), strict=True))

    def watch(self, rows: Sequence[int], fps: float) -> Inline:
        """Show the frames of `rows` in a notebook's output, at once and with what is stepped; see `inline`.

        Raises:
            MisuseError: They have no frames, or this is no notebook.
        """
        dialled = self.opened("watch")
        check_watchable(dialled.told.render_mode, self.settings)
        inline = Inline(self._frames_by_row, rows, fps, str(self))
        if self._inline is not None:
            self._inline.stop()
        self._inline, self.shows = inline, True
        inline.begin()
        return inline

    def show(self) -> None:
        """Show the state just stepped to: in a window in render mode ``"human"``, and to who watches in a notebook."""
        if self._inline is not None:
            self._inline.show()
        if self.settings.render_mode == "human":
            if self._window is None:
                mode = self.dial().told.render_mode
                self._window = Window(self._frames_to_show, mode, self.metadata, self._title())
            self._window.show()

    def _title(self) -> str:
        """Return what the window's title says: whose frames it shows, and which."""
        last = self.settings.num_envs - 1
        return str(self) if self.settings.single or not last else f"{self}, envs 0-{last}"

    def forget_frames(self) -> None:
        """Let the next frame be a new one: a call may change what an environment shows."""
        if self.dialled is not None:
            self.dialled.reader.frames = {}

    def statistics(self) -> dict[str, Any]:
        """Return what `RemoteVectorEnv.statistics` documents."""
        return collect(self.fleet)

    # Losses and end

    def warn_of(self, notes: Mapping[int, dict[str, Any]]) -> None:
        """Warn of the losses that `notes`, by env index, tell of, and of values that arrive as another type; once."""
        if self.dialled is not None and (said := self.dialled.reader.told):
            self.dialled.reader.told = ""
            warn(said)
        if self.trace is not None:
            self.trace.lost(notes)
        lost = sorted(index for index, note in notes.items() if note["remote_gym"]["lost"])
        if lost and not self._warned:
            self._warned = True
            warn_of_losses(lost, notes[lost[0]]["remote_gym"]["reason"])

    @property
    def pending(self) -> str | None:
        """What was begun and not waited for, as `Turns` has it; None once it was closed."""
        return None if self.closed or self.dialled is None else self.dialled.turns.pending

    def close(self) -> None:
        """End all sessions, and close the window and end the server of our own if there are such."""
        self.closed = True
        if self.dialled is not None:
            self.dialled.turns.clear = False
        if self._window is not None:
            self._window.close()
        if self._inline is not None:
            self._inline.stop()
        try:
            if self._mover is not None:
                self._mover.close()
            self.fleet.close()
        finally:
            if self.local is not None:
                self.local.close()
