"""Trainer process: `RemoteVectorEnv`, many remote environments as one `gymnasium.vector.VectorEnv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from remote_gym import values
from remote_gym.arguments import RemoteArgs
from remote_gym.autoreset import parse_mode
from remote_gym.client.actions import ActionEncoder
from remote_gym.client.batch_arguments import each_seed, each_url, env_indices, masked, verbatim
from remote_gym.client.calls import Begun, Calls
from remote_gym.client.connection import Connection, CredentialsPaths
from remote_gym.client.exchange import Exchange
from remote_gym.client.failures import first_failure
from remote_gym.client.fleet import Fleet
from remote_gym.client.losses import check_policies, warn_of_losses
from remote_gym.client.ready import Ready
from remote_gym.client.rendering import Window
from remote_gym.client.transitions import Batch, TransitionReader
from remote_gym.errors import MisuseError
from remote_gym.messages import Indices, every

RESET_MASK = "reset_mask"

StepResult = tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any], dict[str, Any]]


class RemoteVectorEnv(VectorEnv[Any, Any, Any]):
    """`num_envs` environments of a server, or of several, stepped together or in batches of whoever is ready first.

    With the same seeds and actions it gives bit for bit what `gymnasium.vector.SyncVectorEnv` gives locally. It dials
    on first need: `reset`, or reading spaces, `metadata` or `spec`.

    Closing contract: `close` is bounded in time, may be called twice and with work in flight, and always releases;
    afterwards everything else raises `gymnasium.error.ClosedEnvironmentError`.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        port: int | None = None,
        num_envs: int = 1,
        remote_args: RemoteArgs | Mapping[str, Any] | None = None,
        client_credentials_paths: CredentialsPaths | None = None,
        render_mode: str | None = None,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        batch_size: int | None = None,
        copy: bool = True,
        validate_actions: bool = False,
        render_with_step: bool = False,
        unportable_infos: str = "raise",
        compression: str | None = None,
        connect_timeout_seconds: float = 10.0,
        reconnect_timeout_seconds: float = 120.0,
        on_worker_failure: str = "truncate",
        on_session_lost: str = "raise",
        allow_insecure: bool = False,
    ) -> None:
        """Prepare; dials nothing yet.

        Args:
            url: ``"host"`` or ``"host:port"`` of the server; a list of these for several servers, each of which gets a
                contiguous block of the environments, in proportion to its workers; None: what ``REMOTE_GYM_URL`` says.
            port: Its port, if not in `url`; 56765 if nowhere.
            num_envs: How many environments.
            remote_args: ``{"entrypoint_kwargs": {...}}``, merged over the server's.
            client_credentials_paths: (ca.pem[, client.pem, client-key.pem]); None: what the variables
                ``REMOTE_GYM_ROOT_CERTIFICATE``, ``REMOTE_GYM_CLIENT_CERTIFICATE`` and ``REMOTE_GYM_CLIENT_PRIVATE_KEY``
                name, without them plaintext, to loopback only.
            render_mode: Asked of the hosted environments, unless the server's entrypoint_kwargs fix one. ``"human"``
                asks for ``"rgb_array"`` and shows all of them in one window on this side.
            autoreset_mode: What happens at the end of an episode; a member or its string, as in Gymnasium.
            batch_size: How many environments `recv` returns; None: all.
            copy: Whether observations are writable copies; False gives read-only views that are never overwritten.
            validate_actions: Also refuse actions outside of the action space and NaN, at some cost per step.
            render_with_step: Let frames travel with every reset and step, so that `render` needs no round trip of its
                own; for who renders every step.
            unportable_infos: What to do with info entries that cannot travel (arbitrary objects): ``"raise"``, or
                ``"drop"`` them with one warning.
            compression: ``"lz4"`` or ``"zstd"`` compresses observations of 512 bytes or more, for slow links; needs
                ``pip install "remote-gym[compression]"`` on both sides, see `docs/far-away.md`.
            connect_timeout_seconds: For the first connection.
            reconnect_timeout_seconds: How long to try again when the connection was lost.
            on_worker_failure: What happens when the worker of an environment dies or hangs. ``"truncate"``: its episode
                ends with ``truncated=True``, reward 0 and the last observation that was returned, flagged in
                ``infos["remote_gym"]`` ("lost", "reason", "generation"); a new environment begins the next one.
                ``"raise"``: `EnvironmentLost`; the environments are rebuilt and need a reset.
            on_session_lost: What happens when a server was started anew, or has kept the environments for as long as
                it promised. ``"truncate"``: a new session is opened, and all episodes end like those above.
                ``"raise"``: `SessionLost`.
            allow_insecure: Permit plaintext to other machines.

        Raises:
            MisuseError: An argument is wrong; names it.
        """
        if not isinstance(num_envs, (int, np.integer)) or isinstance(num_envs, bool) or num_envs < 1:
            raise MisuseError(f"num_envs must be a positive integer, got {num_envs!r}")
        if batch_size is not None and (
            not isinstance(batch_size, (int, np.integer)) or isinstance(batch_size, bool)
            or not 1 <= batch_size <= num_envs
        ):  # fmt: skip
            raise MisuseError(f"batch_size must be None or from 1 to num_envs={num_envs}, got {batch_size!r}")
        check_policies(on_worker_failure, on_session_lost)
        self._arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.autoreset_mode = parse_mode(autoreset_mode)
        self.num_envs = int(num_envs)
        self.render_mode = render_mode
        self._copy = copy
        self._validate_actions = validate_actions
        self._window: Window | None = None  # made with the first frame of render mode "human"
        self.batch_size = self.num_envs if batch_size is None else int(batch_size)
        self._fleet = Fleet(
            [
                Connection(
                    one, port, remote_args, client_credentials_paths, render_mode, num_envs=self.num_envs,
                    autoreset_mode=self.autoreset_mode.value, exact_types=False,
                    reply_early=self.batch_size < self.num_envs,
                    render_with_step=render_with_step or render_mode == "human", unportable_infos=unportable_infos,
                    compression=compression,
                    connect_timeout_seconds=connect_timeout_seconds,
                    reconnect_timeout_seconds=reconnect_timeout_seconds, allow_insecure=allow_insecure,
                )
                for one in each_url(url)
            ],
            self.num_envs,
        )  # fmt: skip
        self._policies = on_worker_failure == "truncate", on_session_lost == "truncate"
        self._pending: str | None = None  # "reset", "step" or "call", begun and not finished
        self._batch: Batch | None = None  # of the pending reset or step
        self._begun: Begun = []  # of the pending call
        self._warned = False
        self._everyone = range(self.num_envs)

    # What the server told. Plain attributes in the base class; here they dial.

    @property
    def _connection(self) -> Connection:
        """The first server's; what it tells of its environments holds for all."""
        return self._fleet.shards[0].connection if self._fleet.shards else self._fleet.connections[0]

    def _spaces(self) -> tuple[Any, Any, Any, Any]:
        if "_batched" not in self.__dict__:
            self._fleet.dial()
            try:
                batched = self._prepare(self._connection.observation_space, self._connection.action_space)
            except Exception as error:  # of the server's spaces, which Gymnasium cannot batch
                raise self._connection.stream.misread(error) from error
            self._batched = batched
        return self._batched

    def _prepare(self, observation: Any, action: Any) -> tuple[Any, Any, Any, Any]:
        """Make what depends on the spaces of a single environment, and return these and the batched ones."""
        self._reader = TransitionReader(observation, self.num_envs, self._arguments["compression"])
        self._encoder = ActionEncoder(action, self._validate_actions)
        self._exchange = Exchange(self._fleet, self._reader, self.autoreset_mode, *self._policies)
        self._calls = Calls(self._fleet, self._exchange)
        self._ready = Ready(self.num_envs)
        return observation, action, batch_space(observation, self.num_envs), batch_space(action, self.num_envs)

    @property
    def single_observation_space(self) -> Any:  # type: ignore[override]
        """Of one environment; equal to the hosted one's."""
        return self._spaces()[0]

    @property
    def single_action_space(self) -> Any:  # type: ignore[override]
        """Of one environment; equal to the hosted one's."""
        return self._spaces()[1]

    @property
    def observation_space(self) -> Any:  # type: ignore[override]
        """Of the batch."""
        return self._spaces()[2]

    @property
    def action_space(self) -> Any:  # type: ignore[override]
        """Of the batch."""
        return self._spaces()[3]

    @property
    def metadata(self) -> dict[str, Any]:  # type: ignore[override]
        """Of the hosted environment, and ``"autoreset_mode"``."""
        if "_metadata" not in self.__dict__:
            self._spaces()
            self._metadata = {**self._connection.metadata, "autoreset_mode": self.autoreset_mode}
        return self._metadata

    @metadata.setter
    def metadata(self, value: dict[str, Any]) -> None:
        self._metadata = value

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """Of the hosted environment, as data: ``spec.make()`` builds a local one if it is registered here. Settable."""
        if "_spec" not in self.__dict__:
            self._spaces()
            self._spec = self._connection.spec
        return self._spec

    @spec.setter
    def spec(self, value: EnvSpec | None) -> None:
        self._spec = value

    # Reset and step

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes.

        Args:
            seed: An int s gives environment i the seed s + i; a sequence gives each its own; None leaves generators as
                they are.
            options: Given to each environment. ``options["reset_mask"]``, (num_envs,) bool, resets only those where it
                is True; the others keep their last observation. The dict is not changed.

        Returns:
            observations: (num_envs, *obs_shape), batched as the observation space is.
            infos: As `VectorEnv` aggregates them, with masks.

        Raises:
            MisuseError: `seed` or `options` is wrong, or cannot travel.
            EnvironmentRaised, EnvironmentLost: In an environment; the others were reset.
            SessionLost: The server no longer holds the environments.
        """
        self.reset_async(seed=seed, options=options)
        return self.reset_wait()

    def reset_async(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> None:
        """Begin what `reset` does; `reset_wait` gives its result."""
        self._check_ready("reset")
        self._begin("reset", self._send_reset(seed, options))

    def _send_reset(self, seed: Any, options: dict[str, Any] | None) -> Indices:
        """Begin a reset and return whose."""
        options = None if options is None else dict(options)
        if self._connection.hosts_vector:
            seed = self._exchange.losses.seed_whole(seed, self.num_envs)
            packed = b"" if seed is None else values.pack(verbatim(seed), "seed")
            self._exchange.reset_verbatim(packed, b"" if options is None else values.pack(options, "options"))
            return None
        mask = None if options is None else options.pop(RESET_MASK, None)
        indices = None if mask is None else masked(mask, self.num_envs)
        seeds = each_seed(seed, self.num_envs)
        packed = b"" if options is None else values.pack(options, "options")
        self._check_idle(indices)
        self._exchange.reset(indices, [seeds[index] for index in every(indices, self.num_envs)], packed)
        return indices

    def reset_wait(self, timeout: float | None = None) -> tuple[Any, dict[str, Any]]:
        """Wait for what `reset_async` began.

        Args:
            timeout: Seconds; None waits for ever.

        Raises:
            TimeoutError: It is still pending; the next `reset_wait` gets its result.
            gymnasium.error.NoAsyncCallError: Nothing was begun.
        """
        batch = self._finish("reset", timeout)
        result = self._reader.observations(self._copy), batch.infos
        self._pending = None
        return result

    def step(self, actions: Any) -> StepResult:
        """Step every environment.

        Args:
            actions: A batch: (num_envs, *action_shape), or dicts and tuples of such arrays as in the action space.

        Returns:
            observations: (num_envs, *obs_shape), batched as the observation space is.
            rewards: (num_envs,) float64.
            terminations: (num_envs,) bool.
            truncations: (num_envs,) bool.
            infos: As `VectorEnv` aggregates them, with masks.

        Raises:
            MisuseError: The actions do not fit; nothing was sent.
            gymnasium.error.ResetNeeded: An environment must be reset first.
            EnvironmentRaised, EnvironmentLost: In an environment; the others were stepped.
            SessionLost: The server no longer holds the environments.
        """
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: Any) -> None:
        """Begin what `step` does; `step_wait` gives its result."""
        self._check_ready("step")
        self._check_not_over(None)
        rows, variable = self._encoder.encode(actions, self._everyone)
        self._begin("step", None)  # before it is sent: an interrupt in between must not lose it
        try:
            self._exchange.step(None, rows, variable)
        except Exception:
            self._pending = None
            raise

    def step_wait(self, timeout: float | None = None) -> StepResult:
        """Wait for what `step_async` began.

        Args:
            timeout: Seconds; None waits for ever.

        Raises:
            TimeoutError: It is still pending; the next `step_wait` gets its result.
            gymnasium.error.NoAsyncCallError: Nothing was begun.
        """
        batch = self._finish("step", timeout)
        result = (
            self._reader.observations(self._copy), batch.rewards, batch.terminations, batch.truncations, batch.infos
        )  # fmt: skip
        self._pending = None
        return result

    def _check_ready(self, name: str) -> None:
        self._check_not_pending(name)
        if self._exchange.counts and (self._exchange.in_flight | self._ready.waiting).any():
            raise gymnasium.error.AlreadyPendingCallError(
                f"`{name}` was called while environments that `send` or `async_reset` has started are not received "
                f"yet: call `recv` first", "recv"
            )  # fmt: skip
        while self._exchange.busy and not self._exchange.counts:
            self._exchange.receive(None)  # left over by an interrupt, or by a refusal of one of several servers
            self._exchange.took()

    def _check_not_pending(self, name: str) -> None:
        """Refuse what was closed, or waits for something else; dial if that was not done yet."""
        if self.closed:
            raise gymnasium.error.ClosedEnvironmentError(f"`{name}` was called on a closed RemoteVectorEnv")
        if self._pending is not None:
            waiting = self._pending
            raise gymnasium.error.AlreadyPendingCallError(
                f"`{name}` was called while waiting for a pending `{waiting}`: call `{waiting}_wait` first", waiting
            )
        self._spaces()

    def _check_not_over(self, indices: Indices) -> None:
        if self.autoreset_mode is AutoresetMode.DISABLED and self._exchange.over.any():
            over = [index for index in every(indices, self.num_envs) if self._exchange.over[index]]
            if over:
                raise gymnasium.error.ResetNeeded(
                    f"autoreset is disabled and the episodes of environments {over[:8]} are over: reset them with "
                    f"options={{'reset_mask': ...}}"
                )

    def _check_idle(self, indices: Indices) -> None:
        """Refuse to start what runs, or waits for `recv`."""
        if not self._exchange.counts:
            return
        busy = self._exchange.in_flight | self._ready.waiting
        at_work = [index for index in every(indices, self.num_envs) if busy[index]]
        if at_work:
            raise gymnasium.error.AlreadyPendingCallError(
                f"environments {at_work[:8]} were started before and not received yet: call `recv` first", "recv"
            )

    def _begin(self, name: str, indices: Indices) -> None:
        self._pending, self._batch = name, self._reader.begin(indices)

    def _awaited(self, name: str) -> None:
        """Refuse to wait for what was not begun."""
        if self.closed:
            raise gymnasium.error.ClosedEnvironmentError(f"`{name}_wait` was called on a closed RemoteVectorEnv")
        if self._pending != name:
            raise gymnasium.error.NoAsyncCallError(f"`{name}_wait` was called without `{name}_async` before", name)

    def _finish(self, name: str, timeout: float | None) -> Batch:
        """Gather all parts of the pending reset or step; what was gathered survives a timeout and an interrupt."""
        self._awaited(name)
        batch = self._batch
        assert batch is not None
        if batch.missing > 0 and not self._exchange.busy:
            self._pending = None
            raise gymnasium.error.NoAsyncCallError(f"the {name} was interrupted before it was sent", name)
        try:
            while batch.missing > 0:  # less, if a part came twice after a loss
                for part in self._exchange.receive(timeout):
                    self._reader.add(batch, part)
                self._exchange.took()
        except TimeoutError:
            raise
        except Exception:
            self._pending = None
            raise
        try:
            self._reader.commit(batch)
        except Exception:  # infos that do not aggregate, as locally: the step is done, and the next one may begin
            self._pending = None
            raise
        if failures := batch.failures:
            self._pending = None
            raise first_failure(failures)
        self._show()
        self._warn(batch)
        return batch

    def _warn(self, batch: Batch) -> None:
        if not self._warned and (notes := batch.notes):
            self._warned = True
            lost = sorted(notes)
            warn_of_losses(lost, notes[lost[0]]["remote_gym"]["reason"])

    # Batches of whoever is ready first

    def async_reset(
        self, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> None:
        """Begin new episodes; `recv` returns their first observations, as they come.

        Args:
            seed: As for `reset`: environment i begins as it would there.
            options: As for `reset`, ``"reset_mask"`` included.

        Raises:
            MisuseError: `seed` or `options` is wrong, or the server hosts a vector environment.
            gymnasium.error.AlreadyPendingCallError: One of the environments is not received yet.
        """
        self._begin_asynchronous("async_reset")
        self._send_reset(seed, options)

    def send(self, actions: Any, env_id: Any = None) -> None:
        """Step some environments; `recv` returns the results of those that are ready first.

        Args:
            actions: One row per item of `env_id`, batched as the action space is.
            env_id: (rows,) integers, distinct: env indices, as in ``info["env_id"]``; None: all environments in order.

        Raises:
            MisuseError: The actions or indices do not fit; nothing was sent.
            gymnasium.error.AlreadyPendingCallError: One of the environments is not received yet.
            gymnasium.error.ResetNeeded: An environment must be reset first.
        """
        self._begin_asynchronous("send")
        indices = self._everyone if env_id is None else env_indices(env_id, self.num_envs)
        self._check_idle(indices)
        self._check_not_over(indices)
        rows, variable = self._encoder.encode(actions, indices)
        self._exchange.step(None if env_id is None else indices, rows, variable)

    def recv(self, timeout: float | None = None) -> StepResult:
        """Return the first `batch_size` environments that are ready.

        Args:
            timeout: Seconds; None waits for ever.

        Returns:
            What `step` returns, for these environments only: arrays and masks have `batch_size` rows, and
            ``infos["env_id"]``, (batch_size,) int64, says which. After `async_reset` rewards are 0 and flags False.

        Raises:
            TimeoutError: Not enough are ready; nothing is lost.
            gymnasium.error.NoAsyncCallError: Fewer than `batch_size` environments were started.
            EnvironmentRaised, EnvironmentLost: In an environment, which is not in flight any more; the others' results
                are returned by the next `recv`.
            SessionLost: A server no longer holds the environments.
        """
        self._begin_asynchronous("recv")
        self._gather(timeout)
        first, rest = self._ready.first(self.batch_size)
        try:
            observations, batch = self._reader.join(first, self._copy)
        except Exception:  # infos that do not aggregate: these environments are received, and others may follow
            self._ready.keep(rest)
            raise
        self._show()
        result = observations, batch.rewards, batch.terminations, batch.truncations, batch.infos
        self._ready.keep(rest)
        self._warn(batch)
        return result

    def _gather(self, timeout: float | None) -> None:
        """Return when `batch_size` environments are ready; see `recv`."""
        while True:
            if failures := self._ready.failures():
                raise first_failure(failures)
            if (ready := self._ready.rows) >= self.batch_size:
                return
            if (coming := ready + np.count_nonzero(self._exchange.in_flight)) < self.batch_size:
                raise gymnasium.error.NoAsyncCallError(
                    f"`recv` would wait for ever: {coming} environments were started by `send` or `async_reset`, "
                    f"batch_size is {self.batch_size}", "recv"
                )  # fmt: skip
            for part in self._exchange.receive(timeout):
                self._ready.add(part)
            self._exchange.took()

    def _begin_asynchronous(self, name: str) -> None:
        self._check_not_pending(name)
        if self._connection.hosts_vector:
            raise MisuseError(f"`{name}`: the server hosts a vector environment, which steps as a whole: use `step`")
        self._exchange.counts = True

    # Calls

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of each environment, through its wrappers; an attribute that is no method is returned.

        Raises:
            MisuseError: The name begins with an underscore, or an argument cannot travel.
            EnvironmentRaised: A method raised, or its result cannot travel.
        """
        self._check_ready("call")
        self._forget_frames()
        return tuple(self._calls.gather(self._calls.begin(name, args, kwargs)))

    def call_async(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Begin what `call` does; `call_wait` gives its result."""
        self._check_ready("call")
        self._forget_frames()
        self._begun = self._calls.begin(name, args, kwargs)
        self._pending = "call"

    def call_wait(self, timeout: float | None = None) -> tuple[Any, ...]:
        """Wait for what `call_async` began.

        Args:
            timeout: Seconds; None waits for ever.

        Raises:
            TimeoutError: It is still pending; the next `call_wait` gets its result.
            gymnasium.error.NoAsyncCallError: Nothing was begun.
        """
        self._awaited("call")
        try:
            results = self._calls.gather(self._begun, timeout)
        except TimeoutError:
            raise
        except Exception:
            self._pending = None
            raise
        self._pending = None
        return tuple(results)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute of each environment; see `call`."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of each environment: a list or tuple gives each its own value, anything else all the same.

        Raises:
            MisuseError: The name begins with an underscore, the number of values is wrong, or one cannot travel.
        """
        self._check_ready("set_attr")
        if not isinstance(values, (list, tuple)):
            values = [values] * self.num_envs
        if len(values) != self.num_envs:
            raise MisuseError(f"set_attr got {len(values)} values for {self.num_envs} environments")
        self._forget_frames()
        self._calls.set_attribute(name, values)

    def _forget_frames(self) -> None:
        """A call may change what an environment shows."""
        self._reader.frames = {}

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each environment's generator, as `SyncVectorEnv` has it."""
        return self.get_attr("np_random_seed")

    def render(self) -> tuple[Any, ...]:
        """Return the rendered frame of each environment, of the state just stepped to.

        Each None in render mode ``"human"``, as locally: `reset` and `step` have shown them already.
        """
        self._check_ready("render")
        if self.render_mode == "human":
            return (None,) * self.num_envs
        return self._fetch_frames()

    def _show(self) -> None:
        if self.render_mode == "human":
            if self._window is None:
                self._window = Window(self._fetch_frames, self._connection.hosted_render_mode, self.metadata)
            self._window.show()

    def _fetch_frames(self) -> tuple[Any, ...]:
        if len(frames := self._reader.frames) == self.num_envs:  # they came with the last step
            return tuple(frames[index] for index in self._everyone)
        return tuple(self._calls.render())

    # End

    def close_extras(self, **kwargs: Any) -> None:
        """End the session; called by `close`. Takes and ignores `timeout` and `terminate`, as others have them."""
        self._pending = None
        if (window := self.__dict__.get("_window")) is not None:
            window.close()
        if "_fleet" in self.__dict__:
            self._fleet.close()

    def __enter__(self) -> RemoteVectorEnv:
        """Return self."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close."""
        self.close()

    def __del__(self) -> None:
        """Close if the user did not."""
        if not getattr(self, "closed", True):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments only: a copy dials anew."""
        return self._arguments

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a copy that has not dialled yet."""
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        """Return address, number and, where known without dialling, id."""
        spec = self.__dict__.get("_spec") or (self._connection.spec if "_batched" in self.__dict__ else None)
        name = f"{spec.id}, " if spec is not None else ""
        addresses = ", ".join(str(connection.address) for connection in self._fleet.connections)
        return f"RemoteVectorEnv({name}{addresses}, num_envs={self.num_envs})"
