"""Trainer process: `RemoteVectorEnv`, many remote environments as one `gymnasium.vector.VectorEnv`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium import Space, logger
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv

from remote_gym.arguments import RemoteArgs
from remote_gym.client.asynchronous import Asynchronous, Options, Seed
from remote_gym.client.calling import Calling
from remote_gym.client.documented import documented
from remote_gym.client.local import Entrypoint, local
from remote_gym.client.overseeing import Overseeing
from remote_gym.client.remote import Remote
from remote_gym.client.servers import CredentialsPaths, Url
from remote_gym.client.settings import GYMNASIUM, Settings
from remote_gym.client.stepping import StepResult
from remote_gym.client.summary import remote_html
from remote_gym.client.tensor_stepping import TensorStepping
from remote_gym.client.traced_stepping import traced


class RemoteVectorEnv(VectorEnv[Any, Any, Any], Asynchronous, Calling, Overseeing):
    """`num_envs` environments of a server, or of several, stepped together or in batches of whoever is ready first.

    With the same seeds and actions it gives bit for bit what `gymnasium.vector.SyncVectorEnv` gives locally. It dials
    on first need: `reset`, or reading spaces, `metadata` or `spec`.

    Which rows are no transitions depends on the autoreset mode. In ``"NextStep"``, the default, the step after the end
    of an episode resets: where the step before had ``terminations | truncations``, the action was ignored, the reward
    is 0, and observations lead from one episode's last to the next one's first. Whoever learns from these rows learns
    what is not so: mask them. In ``"SameStep"`` every row is a transition, but where an episode has ended the
    observation is the next one's first; the last one is in ``infos["final_obs"]``, which is what to bootstrap from. In
    ``"Disabled"`` every row is one as it is, and ``reset`` with a ``"reset_mask"`` begins episodes.

    Closing contract: `close` is bounded in time, may be called twice and with work in flight, and always releases;
    afterwards everything else raises `gymnasium.error.ClosedEnvironmentError`.
    """

    closed = True  # until the arguments were found to be right: there is nothing to close before

    @documented  # the arguments are described there, once
    def __init__(
        self,
        url: Url | None = None,
        port: int | None = None,
        num_envs: int = 1,
        remote_args: RemoteArgs | Mapping[str, Any] | None = None,
        client_credentials_paths: CredentialsPaths | None = None,
        render_mode: str | None = None,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        batch_size: int | None = None,
        copy: bool = True,
        array: str = "numpy",
        device: Any = None,
        observation_mode: str | tuple[Space[Any], Space[Any]] = "same",
        info_format: str = GYMNASIUM,
        validate_actions: bool = False,
        render_with_step: bool = False,
        unportable_infos: str = "raise",
        compression: str | None = None,
        connect_timeout_seconds: float = 10.0,
        reconnect_timeout_seconds: float = 120.0,
        on_worker_failure: str = "truncate",
        on_session_lost: str = "raise",
        allow_insecure: bool = False,
        transport: str = "auto",
        token: str | None = None,
        tls_name: str | None = None,
        move_timeout_seconds: float = 5.0,
        min_envs: int | None = None,
        rebalance: bool = False,
    ) -> None:
        """Prepare; dials nothing yet.

        Raises:
            MisuseError: An argument is wrong; names it.
        """
        settings = Settings(
            url, port, remote_args, client_credentials_paths, render_mode,
            num_envs=num_envs, autoreset_mode=autoreset_mode, batch_size=batch_size, copy=copy,
            array=array, device=device, observation_mode=observation_mode, info_format=info_format,
            validate_actions=validate_actions, render_with_step=render_with_step, unportable_infos=unportable_infos,
            compression=compression, connect_timeout_seconds=connect_timeout_seconds,
            reconnect_timeout_seconds=reconnect_timeout_seconds, on_worker_failure=on_worker_failure,
            on_session_lost=on_session_lost, allow_insecure=allow_insecure, transport=transport, token=token,
            tls_name=tls_name, move_timeout_seconds=move_timeout_seconds, min_envs=min_envs,
            rebalance=rebalance,
        )  # fmt: skip
        self._remote = Remote(settings)
        self._stepping = traced(self._remote)
        if isinstance(self._stepping, TensorStepping):
            self.device = self._stepping.library.device
        self.num_envs = settings.num_envs
        self.batch_size = settings.size
        self.autoreset_mode = settings.mode
        self.observation_mode = observation_mode
        self.render_mode = render_mode
        self.closed = False

    @classmethod
    def local(cls, entrypoint: Entrypoint, num_envs: int = 1, **options: Any) -> RemoteVectorEnv:
        """Make environments whose server is a child that lives and dies with this process: no port, no certificates.

        Args:
            entrypoint: What to host, as for a server, or a function that stands at the top of a module.
            num_envs: How many.
            options: `entrypoint_kwargs`; `num_workers`, None: one for each core; `vectorization_mode`; and arguments of
                this class.

        Raises:
            MisuseError: An argument is wrong, or this is a worker itself.
            ConnectError: The server did not start.
        """
        return local(cls, entrypoint, num_envs, **options)

    # What the server told. Plain attributes in the base class; here they dial.

    @property
    def hosts_vector_env(self) -> bool:
        """Whether the server hosts one vector environment, seeded as it likes, and not `num_envs` single ones."""
        return self._remote.dial().told.is_vector

    @property
    def single_observation_space(self) -> Any:  # type: ignore[override]
        """Of one environment; equal to the hosted one's."""
        return self._remote.dial().single[0]

    @property
    def single_action_space(self) -> Any:  # type: ignore[override]
        """Of one environment; equal to the hosted one's."""
        return self._remote.dial().single[1]

    @property
    def observation_space(self) -> Any:  # type: ignore[override]
        """Of the batch."""
        return self._remote.dial().observation_space

    @property
    def action_space(self) -> Any:  # type: ignore[override]
        """Of the batch."""
        return self._remote.dial().action_space

    @property
    def metadata(self) -> dict[str, Any]:  # type: ignore[override]
        """Of the hosted environment, and ``"autoreset_mode"``."""
        return self._remote.metadata  # type: ignore[no-any-return]

    @metadata.setter
    def metadata(self, value: dict[str, Any]) -> None:
        self._remote.metadata = value

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """Of the hosted environment, as data: ``spec.make()`` builds a local one if it is registered here. Settable."""
        return self._remote.spec

    @spec.setter
    def spec(self, value: EnvSpec | None) -> None:
        self._remote.spec = value

    # Reset and step

    def reset(  # type: ignore[override]
        self, *, seed: Seed = None, options: Options = None, env_id: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes.

        Args:
            seed: An int s gives environment i the seed s + i; a sequence gives each its own; None leaves generators as
                they are.
            options: Given to each environment. ``options["reset_mask"]``, (num_envs,) bool, resets only those where it
                is True; the others keep their last observation. The dict is not changed. A sequence of dicts, or None,
                gives each environment its own; one server is asked once for all that have equal ones.
            env_id: (rows,) integers, distinct: the env indices to reset; a sequence of seeds or options, all results
                and the masks of infos then have a row for each, in this order. None: all, or those of the mask.

        Returns:
            observations: (num_envs, *obs_shape), batched as the observation space is.
            infos: As `VectorEnv` aggregates them, with masks.

        Raises:
            MisuseError: `seed`, `options` or `env_id` is wrong, or cannot travel.
            EnvironmentRaised, EnvironmentLost: In an environment; the others were reset.
            SessionLost: The server no longer holds the environments.
        """
        if env_id is None:
            self.reset_async(seed=seed, options=options)
        else:
            self.reset_async(seed=seed, options=options, env_id=env_id)
        return self.reset_wait()

    def reset_async(self, *, seed: Seed = None, options: Options = None, env_id: Any = None) -> None:
        """Begin what `reset` does; `reset_wait` gives its result."""
        self._stepping.begin_reset(seed, options, env_id)

    def reset_wait(self, timeout: float | None = None) -> tuple[Any, dict[str, Any]]:
        """Wait for what `reset_async` began; `timeout` and errors as with `step_wait`, and those of `reset`."""
        return self._stepping.finish_reset(timeout)

    def step(self, actions: Any, env_id: Any = None) -> StepResult:
        """Step every environment, or those of `env_id`.

        Args:
            actions: A batch: (num_envs, *action_shape), or dicts and tuples of such arrays as in the action space.
            env_id: (rows,) integers, distinct: the env indices to step; `actions`, all results and the masks of infos
                then have a row for each, in this order. The other environments stay as they are. None: all.

        Returns:
            observations: (num_envs, *obs_shape), batched as the observation space is.
            rewards: (num_envs,) float64.
            terminations: (num_envs,) bool.
            truncations: (num_envs,) bool.
            infos: As `VectorEnv` aggregates them, with masks.

        Raises:
            MisuseError: The actions or indices do not fit; nothing was sent.
            gymnasium.error.ResetNeeded: An environment must be reset first.
            EnvironmentRaised, EnvironmentLost: In an environment; the others were stepped.
            SessionLost: The server no longer holds the environments.
        """
        if env_id is None:
            self.step_async(actions)
        else:
            self.step_async(actions, env_id)
        return self.step_wait()

    def step_async(self, actions: Any, env_id: Any = None) -> None:
        """Begin what `step` does; `step_wait` gives its result."""
        self._stepping.begin_step(actions, env_id)

    def step_wait(self, timeout: float | None = None) -> StepResult:
        """Wait for what `step_async` began.

        Args:
            timeout: Seconds; None waits for ever.

        Raises:
            TimedOut: It is still pending; the next `step_wait` gets its result.
            gymnasium.error.NoAsyncCallError: Nothing was begun.
        """
        return self._stepping.finish_step(timeout)

    # Generators and frames

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each environment's generator, as `SyncVectorEnv` has it."""
        return self.get_attr("np_random_seed")

    def render(self) -> tuple[Any, ...]:
        """Return the rendered frame of each environment, of the state just stepped to.

        Each None in render mode ``"human"``, as locally: `reset` and `step` have shown them already.
        """
        self._remote.free("render")
        return (None,) * self.num_envs if self.render_mode == "human" else tuple(self._remote.frames())

    # End

    def close_extras(self, **kwargs: Any) -> None:
        """End the session; called by `close`. Takes and ignores `timeout` and `terminate`, as others have them.

        Warns if something was begun and not waited for.
        """
        pending = self._remote.pending
        self._remote.close()
        self.closed = True  # before the warning, which the user may have made an error
        if pending is not None:
            logger.warn(f"Calling `close` while waiting for a pending call to `{pending}` to complete.")

    def __enter__(self) -> RemoteVectorEnv:
        """Return self."""
        return self

    def __exit__(self, kind: object, *_error: object) -> None:
        """Close; without a warning where an exception says why something is still pending."""
        if kind is not None:
            self._remote.close()
        self.close()

    def __del__(self) -> None:
        """Close if the user did not."""
        if not self.closed:
            self.__exit__(self)

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments only: a copy dials anew."""
        return self._remote.settings.carried()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a copy that has not dialled yet."""
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        """Return address, number and, where known without dialling, id."""
        return f"RemoteVectorEnv({self._remote}, num_envs={self.num_envs})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: what is known without dialling."""
        return remote_html("RemoteVectorEnv", self._remote)
