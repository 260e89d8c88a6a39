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
from remote_gym.batches import Call, Failure, Refused, Reset, Step, Transition
from remote_gym.client.actions import ActionEncoder
from remote_gym.client.connection import Connection, CredentialsPaths, check_not_yet, every
from remote_gym.client.failures import first_failure, refusal
from remote_gym.client.rendering import Window
from remote_gym.client.transitions import Batch, TransitionReader
from remote_gym.errors import MisuseError, ProtocolError

RESET_MASK = "reset_mask"

StepResult = tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any], dict[str, Any]]


class RemoteVectorEnv(VectorEnv[Any, Any, Any]):
    """`num_envs` environments of a server, stepped together.

    With the same seeds and actions it gives bit for bit what `gymnasium.vector.SyncVectorEnv` gives locally. It dials
    on first need: `reset`, or reading spaces, `metadata` or `spec`.

    Closing contract: `close` is bounded in time, may be called twice and with work in flight, and always releases;
    afterwards everything else raises `gymnasium.error.ClosedEnvironmentError`.
    """

    def __init__(
        self,
        url: str | None = None,
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
        connect_timeout_seconds: float = 10.0,
        reconnect_timeout_seconds: float = 120.0,
        on_worker_failure: str = "raise",
        on_session_lost: str = "raise",
        allow_insecure: bool = False,
    ) -> None:
        """Prepare; dials nothing yet.

        Args:
            url: ``"host"`` or ``"host:port"`` of the server; None: what ``REMOTE_GYM_URL`` says.
            port: Its port, if not in `url`; 56765 if nowhere.
            num_envs: How many environments.
            remote_args: ``{"entrypoint_kwargs": {...}}``, merged over the server's.
            client_credentials_paths: (ca.pem[, client.pem, client-key.pem]); None: what the variables
                ``REMOTE_GYM_ROOT_CERTIFICATE``, ``REMOTE_GYM_CLIENT_CERTIFICATE`` and ``REMOTE_GYM_CLIENT_PRIVATE_KEY``
                name, without them plaintext, to loopback only.
            render_mode: Asked of the hosted environments, unless the server's entrypoint_kwargs fix one. ``"human"``
                asks for ``"rgb_array"`` and shows all of them in one window on this side.
            autoreset_mode: What happens at the end of an episode; a member or its string, as in Gymnasium.
            batch_size: None or `num_envs`; smaller batches are not available yet.
            copy: Whether observations are writable copies; False gives read-only views that are never overwritten.
            validate_actions: Also refuse actions outside of the action space and NaN, at some cost per step.
            render_with_step: Let frames travel with every reset and step, so that `render` needs no round trip of its
                own; for who renders every step.
            unportable_infos: What to do with info entries that cannot travel (arbitrary objects): ``"raise"``, or
                ``"drop"`` them with one warning.
            connect_timeout_seconds: For the first connection.
            reconnect_timeout_seconds: How long to try again when the connection was lost.
            on_worker_failure: ``"raise"`` `EnvironmentLost`; the environments are rebuilt and need a reset.
            on_session_lost: ``"raise"`` `SessionLost`.
            allow_insecure: Permit plaintext to other machines.

        Raises:
            MisuseError: An argument is wrong; names it.
        """
        if not isinstance(num_envs, (int, np.integer)) or isinstance(num_envs, bool) or num_envs < 1:
            raise MisuseError(f"num_envs must be a positive integer, got {num_envs!r}")
        check_not_yet(
            batch_size=(batch_size, (None, num_envs)),
            on_worker_failure=(on_worker_failure, ("raise",)),
            on_session_lost=(on_session_lost, ("raise",)),
        )
        self._arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.autoreset_mode = parse_mode(autoreset_mode)
        self.num_envs = int(num_envs)
        self.render_mode = render_mode
        self._copy = copy
        self._validate_actions = validate_actions
        self._window: Window | None = None  # made with the first frame of render mode "human"
        self._connection = Connection(
            url, port, remote_args, client_credentials_paths, render_mode, num_envs=self.num_envs,
            autoreset_mode=self.autoreset_mode.value, exact_types=False, reply_early=False,
            render_with_step=render_with_step or render_mode == "human", unportable_infos=unportable_infos,
            connect_timeout_seconds=connect_timeout_seconds, reconnect_timeout_seconds=reconnect_timeout_seconds,
            allow_insecure=allow_insecure,
        )  # fmt: skip
        self._pending: Reset | Step | Call | None = None
        self._gathered: Batch | None = None
        self._failures: list[Failure] = []
        self._over = np.zeros(self.num_envs, np.bool_)  # episode over, not yet reset: for DISABLED
        self._everyone = range(self.num_envs)

    # What the server told. Plain attributes in the base class; here they dial.

    def _spaces(self) -> tuple[Any, Any, Any, Any]:
        if "_batched" not in self.__dict__:
            observation, action = self._connection.observation_space, self._connection.action_space
            self._batched = (
                observation, action, batch_space(observation, self.num_envs), batch_space(action, self.num_envs)
            )  # fmt: skip
            self._reader = TransitionReader(observation, self.num_envs)
            self._encoder = ActionEncoder(action, self._validate_actions)
        return self._batched

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
            self._metadata = {**self._connection.metadata, "autoreset_mode": self.autoreset_mode}
        return self._metadata

    @metadata.setter
    def metadata(self, value: dict[str, Any]) -> None:
        self._metadata = value

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """Of the hosted environment, as data: ``spec.make()`` builds a local one. Settable."""
        if "_spec" not in self.__dict__:
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
        self._spaces()
        options = None if options is None else dict(options)
        if self._connection.hosts_vector:
            packed = b"" if seed is None else values.pack(_verbatim(seed), "seed")
            packed_options = b"" if options is None else values.pack(options, "options")
            self._begin(lambda number: Reset(number, None, packed, packed_options))
            return
        mask = None if options is None else options.pop(RESET_MASK, None)
        indices = None if mask is None else self._masked(mask)
        seeds = _seeds(seed, self.num_envs)
        packed_seeds = b""
        if any(one is not None for one in seeds):
            packed_seeds = values.pack([seeds[index] for index in every(indices, self.num_envs)], "seed")
        packed_options = b"" if options is None else values.pack(options, "options")
        self._begin(lambda number: Reset(number, indices, packed_seeds, packed_options))

    def reset_wait(self, timeout: float | None = None) -> tuple[Any, dict[str, Any]]:
        """Wait for what `reset_async` began.

        Args:
            timeout: Seconds; None waits for ever.

        Raises:
            TimeoutError: It is still pending; the next `reset_wait` gets its result.
            gymnasium.error.NoAsyncCallError: Nothing was begun.
        """
        batch = self._finish(Reset, "reset", timeout)
        self._show()
        return self._reader.observations(self._copy), batch.infos

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
        self._spaces()
        if self.autoreset_mode is AutoresetMode.DISABLED and self._over.any():
            raise gymnasium.error.ResetNeeded(
                f"autoreset is disabled and the episodes of environments {np.flatnonzero(self._over)[:8].tolist()} are "
                f"over: reset them with options={{'reset_mask': ...}}"
            )
        rows, variable = self._encoder.encode(actions, self._everyone)
        self._begin(lambda number: Step(number, None, rows, variable))

    def step_wait(self, timeout: float | None = None) -> StepResult:
        """Wait for what `step_async` began.

        Args:
            timeout: Seconds; None waits for ever.

        Raises:
            TimeoutError: It is still pending; the next `step_wait` gets its result.
            gymnasium.error.NoAsyncCallError: Nothing was begun.
        """
        batch = self._finish(Step, "step", timeout)
        self._show()
        return (
            self._reader.observations(self._copy), batch.rewards, batch.terminations, batch.truncations, batch.infos
        )  # fmt: skip

    def _masked(self, mask: Any) -> list[int]:
        if not isinstance(mask, np.ndarray):
            raise TypeError(f"`options['reset_mask']` must be a numpy array, got {type(mask)}")
        if mask.shape != (self.num_envs,):
            raise ValueError(f"`options['reset_mask']` must have shape ({self.num_envs},), got {mask.shape}")
        if mask.dtype != np.bool_:
            raise TypeError(f"`options['reset_mask']` must have `dtype=np.bool_`, got {mask.dtype}")
        if not mask.any():
            raise ValueError("`options['reset_mask']` must have at least one True value")
        indices: list[int] = np.flatnonzero(mask).tolist()
        return indices

    def _check_ready(self, name: str) -> None:
        if self.closed:
            raise gymnasium.error.ClosedEnvironmentError(f"`{name}` was called on a closed RemoteVectorEnv")
        if self._pending is not None:
            waiting = type(self._pending).__name__.lower()
            raise gymnasium.error.AlreadyPendingCallError(
                f"`{name}` was called while waiting for a pending `{waiting}`: call `{waiting}_wait` first", waiting
            )

    def _begin(self, make: Any) -> None:
        stream = self._connection.stream
        request = make(stream.next_number())
        stream.send(request)
        self._pending = request
        self._gathered = None
        self._failures = []

    def _awaited(self, kind: type[Any], name: str) -> Any:
        """Return the pending request, which is to be of `kind`."""
        if self.closed:
            raise gymnasium.error.ClosedEnvironmentError(f"`{name}_wait` was called on a closed RemoteVectorEnv")
        if type(self._pending) is not kind:
            raise gymnasium.error.NoAsyncCallError(f"`{name}_wait` was called without `{name}_async` before", name)
        return self._pending

    def _finish(self, kind: type[Any], name: str, timeout: float | None) -> Batch:
        """Gather the whole answer to the pending request; what was gathered survives a timeout."""
        request = self._awaited(kind, name)
        if self._gathered is None:
            self._gathered = self._reader.begin(request.indices)
        batch = self._gathered
        while batch.missing:
            answer = self._connection.stream.receive(timeout)
            if answer.number < request.number:  # of a call that was interrupted
                continue
            if isinstance(answer, Refused):
                self._pending = None
                raise refusal(answer)
            if not isinstance(answer, Transition) or answer.number != request.number:
                raise ProtocolError(f"expected the answer to request {request.number}, got {answer!r:.80}")
            self._reader.add(batch, answer)
            self._failures += answer.failures
        self._pending = None
        if kind is Reset:
            self._over[list(every(request.indices, self.num_envs))] = False
        else:
            self._over = batch.terminations | batch.truncations
        self._reader.commit(batch, self._failures)
        if self._failures:
            raise first_failure(self._failures)
        return batch

    # Calls

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of each environment, through its wrappers; an attribute that is no method is returned.

        Raises:
            MisuseError: The name begins with an underscore, or an argument cannot travel.
            EnvironmentRaised: A method raised, or its result cannot travel.
        """
        self._check_ready("call")
        self._forget_frames()
        return tuple(self._connection.call(name, args, kwargs))

    def call_async(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Begin what `call` does; `call_wait` gives its result."""
        self._check_ready("call")
        self._forget_frames()
        self._pending = self._connection.begin_call(name, args, kwargs)

    def call_wait(self, timeout: float | None = None) -> tuple[Any, ...]:
        """Wait for what `call_async` began.

        Args:
            timeout: Seconds; None waits for ever.

        Raises:
            TimeoutError: It is still pending; the next `call_wait` gets its result.
            gymnasium.error.NoAsyncCallError: Nothing was begun.
        """
        request = self._awaited(Call, "call")
        try:
            results = self._connection.gather(request, timeout)
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
        self._connection.set_attribute(name, values)

    def _forget_frames(self) -> None:
        """A call may change what an environment shows."""
        self._spaces()
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
        self._spaces()
        if len(frames := self._reader.frames) == self.num_envs:  # they came with the last step
            return tuple(frames[index] for index in self._everyone)
        return tuple(self._connection.render())

    # End

    def close_extras(self, **kwargs: Any) -> None:
        """End the session; called by `close`. Takes and ignores `timeout` and `terminate`, as others have them."""
        self._pending = None
        if (window := self.__dict__.get("_window")) is not None:
            window.close()
        if "_connection" in self.__dict__:
            self._connection.close()

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
        return f"RemoteVectorEnv({name}{self._connection.address}, num_envs={self.num_envs})"


def _verbatim(seed: Any) -> Any:
    """Return the seed for a hosted vector environment: as it is, but a sequence as a list."""
    return seed if isinstance(seed, (int, np.integer)) else list(seed)


def _seeds(seed: Any, num_envs: int) -> list[int | None]:
    """Return one seed per environment.

    Raises:
        MisuseError: It is neither None, an int, nor a sequence of `num_envs` of these.
    """
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        return [int(seed) + index for index in range(num_envs)]
    if isinstance(seed, (str, bytes)) or not hasattr(seed, "__len__"):
        raise MisuseError(f"seed must be None, an int, or a sequence of {num_envs} of these, got {seed!r:.80}")
    if len(seed) != num_envs:
        raise MisuseError(
            f"if seeds are passed as a list, its length must match num_envs={num_envs}, got length={len(seed)}"
        )
    for index, one in enumerate(seed):
        if one is not None and (not isinstance(one, (int, np.integer)) or isinstance(one, bool)):
            raise MisuseError(f"the seed of environment {index} must be None or an int, got {one!r:.80}")
    return [None if one is None else int(one) for one in seed]
