"""Trainer process, no I/O but PEM files and sources: all arguments of the two public classes, checked once.

What a pickle carries is named in `Settings.carried`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.vector import AutoresetMode

from remote_gym import observation_modes, values
from remote_gym.addresses import join_address
from remote_gym.arguments import RemoteArgs, check_args
from remote_gym.autoreset import NONE, parse_mode
from remote_gym.client.batch_arguments import check_observation_mode
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.dialing import TRANSPORTS
from remote_gym.client.carriers.liveness import Watch
from remote_gym.client.servers import CredentialsPaths, Url, carried_paths, checked_name, found_by, locate
from remote_gym.client.sources import Source
from remote_gym.client.tensors import NUMPY, checked_device
from remote_gym.client.tokens import checked, handle_for
from remote_gym.compression import codec
from remote_gym.errors import MisuseError
from remote_gym.messages import Open
from remote_gym.wire.codec import MAX_KWARGS_BYTES

OF_BATCHES = {
    "num_envs", "autoreset_mode", "batch_size", "copy", "array", "device", "observation_mode", "info_format",
    "move_timeout_seconds", "min_envs", "rebalance",
}  # fmt: skip
"""Arguments that `RemoteVectorEnv` alone has."""

LEASE_SECONDS = 60.0
"""For how much longer than the move timeout a server is asked to keep what it hosts for us: by then it stands
elsewhere. Long enough for a fork, after which sessions attach with their next use."""

GYMNASIUM, GYMNASIUM_0_29, LIST = "gymnasium", "gymnasium-0.29", "list"
"""Formats of a batch's infos."""


@dataclass(frozen=True, eq=False)
class Settings:
    """All arguments of `RemoteEnvironment` and `RemoteVectorEnv`. Nothing is dialled for them.

    Attributes:
        url: ``"host"`` or ``"host:port"`` of the server; for a vector environment also a list of these for several
            servers, each of which gets a contiguous range of the environments, in proportion to its workers; or what
            gives such a list when it is needed: a callable, an object with ``addresses()``, ``"dns:NAME:PORT"`` for all
            records of a name, ``"file:PATH"`` for the lines of a file, or of all files in a folder (of which a single
            environment takes the first).
            None: what ``REMOTE_GYM_URL`` says. See `docs/how-to/fleet.md`.
        port: Its port, if not in `url`; 56765 if nowhere.
        num_envs: How many environments.
        remote_args: ``{"entrypoint_kwargs": {...}}``, merged over the server's.
        client_credentials_paths: (ca.pem[, client.pem, client-key.pem]), each the path of a file, or bytes: what such a
            file holds (see `remote_gym.certificates`), which a pickle then holds, too. None: what the variables
            ``REMOTE_GYM_ROOT_CERTIFICATE``, ``REMOTE_GYM_CLIENT_CERTIFICATE`` and ``REMOTE_GYM_CLIENT_PRIVATE_KEY``
            name, without them plaintext, to loopback only.
        render_mode: Asked of the hosted environments, unless the server's entrypoint_kwargs fix one. ``"human"``
            asks for ``"rgb_array"`` and shows every frame, those of a vector environment in one window, on this side.
        autoreset_mode: What happens at the end of an episode; a member or its string, as in Gymnasium.
        batch_size: How many environments `recv` returns; None: all that `send` and `async_reset` have started.
        copy: Whether observations are writable copies; False gives read-only views that are never overwritten.
        array: What observations, rewards, flags and arrays in infos are: ``"numpy"``, ``"torch"`` or ``"jax"``. With
            the latter two actions may be tensors as well, of any device. See `docs/trainers/arrays.md`.
        device: Where the tensors are, as the library names it: ``"cpu"``, ``"cuda:1"``; None: its default device.
        observation_mode: How the environments' observation spaces may relate, as in Gymnasium. ``"same"``: they are
            equal. ``"different"``: they share shape, dtype and keys, but not bounds. A pair of spaces, the batch's and
            one environment's: likewise, and these are shown.
        info_format: How infos of a batch are put together. ``"gymnasium"``: as the installed version aggregates them.
            ``"list"``: not at all; a dict for each environment, with the values and types that it has returned,
            whatever others return (`recv` adds ``"env_id"`` to each). ``"gymnasium-0.29"``: for scripts that look for
            ``infos["final_info"]``, an array of dicts and None, and ``infos["final_observation"]``. That version had
            ``autoreset_mode="SameStep"`` only, which has to be asked for as well.
        validate_actions: Also refuse actions outside of the action space and NaN, at some cost per step.
        render_with_step: Let frames travel with every reset and step, so that `render` needs no round trip of its
            own; for who renders every step.
        unportable_infos: What to do with info entries that cannot travel (arbitrary objects): ``"raise"``, or
            ``"drop"`` them with one warning.
        compression: ``"lz4"`` or ``"zstd"`` compresses observations of 512 bytes or more, for slow links; needs
            ``pip install "remote-gym-pool[compression]"`` on both sides, see `docs/how-to/far-away.md`.
        connect_timeout_seconds: For the first connection.
        reconnect_timeout_seconds: How long to try again when the connection was lost.
        on_worker_failure: What happens when the worker of an environment dies or hangs. ``"truncate"``: its episode
            ends with ``truncated=True``, reward 0 and the last observation that was returned, flagged in
            ``infos["remote_gym"]`` ("lost", "reason", "generation"). ``"raise"``: `EnvironmentLost`. Either way it is
            rebuilt, and needs a reset but where a vector environment goes on with the next episode by itself.
        on_session_lost: What happens when a server was started anew, or has kept the environments for as long as
            it promised, or until another needed the room. ``"truncate"``: a new session is opened, and all episodes
            end like those above; of several servers the others take what one has that stays unreachable for
            ``reconnect_timeout_seconds``. ``"raise"``: `SessionLost`. ``"move"``, of a vector environment: what was on
            a server that is gone, unreachable or going away is built anew on the others, or on one that has joined, as
            soon as that is clear; its episodes end likewise. See `docs/how-to/fleet.md`.
        move_timeout_seconds: With ``"move"``: how long a server may be silent, or unreachable, before it is gone. The
            silence of its network, not of its environments: a step may take as long as it takes. Also, whatever moves:
            how long a step or reset waits for a new server before a placeholder stands in for what it had to give.
        min_envs: With ``"move"``: how many environments are enough to go on with, when no server takes the others for
            ``reconnect_timeout_seconds``; with fewer, `SessionLost` is raised. None: all.
        rebalance: With ``"move"``: whether servers that join get their share, as with `RemoteVectorEnv.rebalance`:
            environments go there when their episodes end. They are looked for every few seconds.
        allow_insecure: Permit plaintext to other machines.
        transport: What carries the steps. ``"auto"``: a connection of their own where the server, and whatever is in
            between, lets one through, else gRPC; looked at anew when a connection was lost. ``"direct"`` and
            ``"grpc"`` insist; ``"auto"`` is whatever ``REMOTE_GYM_TRANSPORT`` says, if it is set. See
            `docs/how-to/tls.md`.
        token: What `remote-gym tokens add` printed: tells a server that asks for tokens who this is. None: what
            ``REMOTE_GYM_TOKEN`` says. Sent over TLS and to Unix sockets only, unless `allow_insecure`. In no pickle:
            copies on other machines need that variable there. See `docs/how-to/who-is-who.md`.
        tls_name: What the server's certificate must be for, a DNS name or an IP, where it is not what is dialled: a
            server whose address nobody knew when its certificate was made. With several servers it is all of theirs.
        single: Whether these are a `RemoteEnvironment`'s, which has no batches.
        source: What gives their addresses; None: they are given.
        addresses: Where the servers are, with what the files at `client_credentials_paths` hold; empty, with a source.
        opening: What a session is asked for; with several servers, but for the number of environments.
    """

    url: Url | None
    port: int | None
    remote_args: RemoteArgs | Mapping[str, Any] | None = field(repr=False)
    client_credentials_paths: CredentialsPaths | None = field(repr=False)
    render_mode: str | None
    validate_actions: bool
    render_with_step: bool
    unportable_infos: str
    compression: str | None
    connect_timeout_seconds: float
    reconnect_timeout_seconds: float
    on_worker_failure: str
    on_session_lost: str
    allow_insecure: bool
    transport: str = "auto"
    token: str | None = field(default=None, repr=False)
    tls_name: str | None = None
    num_envs: int = 1
    autoreset_mode: AutoresetMode | str = AutoresetMode.DISABLED  # who steps one environment resets it as well
    batch_size: int | None = None
    copy: bool = True
    observation_mode: str | tuple[Space[Any], Space[Any]] = observation_modes.SAME
    array: str = NUMPY
    device: Any = None
    info_format: str = GYMNASIUM
    move_timeout_seconds: float = 5.0
    min_envs: int | None = None
    rebalance: bool = False
    single: bool = False
    source: Source | None = field(init=False, repr=False)
    addresses: tuple[Address, ...] = field(init=False, repr=False)
    opening: Open = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check everything, and read the PEM files.

        Raises:
            MisuseError: An argument is wrong; names it.
        """
        self._check_batches()
        self._check_choices()
        check_observation_mode(self.observation_mode)
        self._keep("token", checked(self.token))
        self._keep("addresses", self._addresses())
        self._keep("opening", self._opening())

    def _keep(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # for nobody but `__post_init__` and those it calls

    def _check_batches(self) -> None:
        num_envs, batch_size = self.num_envs, self.batch_size
        if not _is_integer(num_envs) or num_envs < 1:
            raise MisuseError(f"num_envs must be a positive integer, got {num_envs!r}")
        if batch_size is not None and (not _is_integer(batch_size) or not 1 <= batch_size <= num_envs):
            raise MisuseError(f"batch_size must be None or from 1 to num_envs={num_envs}, got {batch_size!r}")
        if (least := self.min_envs) is not None and not (_is_integer(least) and 1 <= least <= num_envs and self.moves):
            raise MisuseError(
                f"min_envs must be None, or with on_session_lost='move' from 1 to num_envs={num_envs}, got {least!r}"
            )
        if not isinstance(self.rebalance, bool) or (self.rebalance and not self.moves):
            raise MisuseError(f"rebalance must be False, or with on_session_lost='move' True, got {self.rebalance!r}")
        self._keep("num_envs", int(num_envs))
        self._keep("min_envs", None if least is None else int(least))
        self._keep("batch_size", None if batch_size is None else int(batch_size))
        self._keep("autoreset_mode", parse_mode(self.autoreset_mode))

    def _check_choices(self) -> None:
        for name, choices in (
            ("on_worker_failure", ("raise", "truncate")),
            ("on_session_lost", ("raise", "truncate") if self.single else ("raise", "truncate", "move")),
            ("unportable_infos", ("raise", "drop")),
            ("info_format", (GYMNASIUM, GYMNASIUM_0_29, LIST)),
            ("transport", TRANSPORTS),
        ):
            if (value := getattr(self, name)) not in choices:
                raise MisuseError(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r}")
        if self.info_format == GYMNASIUM_0_29 and self.mode is not AutoresetMode.SAME_STEP:
            raise MisuseError(
                f"info_format={GYMNASIUM_0_29!r} tells of the end of an episode in the step that resets it: pass "
                f"autoreset_mode='SameStep' as well, got {self.mode.value!r}"
            )
        if self.transport == "auto" and (transport := os.environ.get("REMOTE_GYM_TRANSPORT", "auto")) != "auto":
            if transport not in TRANSPORTS:
                raise MisuseError(
                    f"REMOTE_GYM_TRANSPORT must be {' or '.join(map(repr, TRANSPORTS))}, it is {transport!r}"
                )
            self._keep("transport", transport)
        for name in ("connect_timeout_seconds", "reconnect_timeout_seconds", "move_timeout_seconds"):
            seconds = getattr(self, name)
            if not isinstance(seconds, (int, float)) or not seconds >= 0:
                raise MisuseError(f"{name} must be a number of seconds, got {seconds!r}")
            self._keep(name, float(seconds))
        if self.compression is not None:
            codec(self.compression)
        if self.render_mode is not None and not isinstance(self.render_mode, str):
            raise MisuseError(f"render_mode must be a string or None, got {self.render_mode!r}")
        self._keep("device", checked_device(self.array, self.device))

    def _addresses(self) -> tuple[Address, ...]:
        self._keep("tls_name", checked_name(self.tls_name))
        paths = self.client_credentials_paths
        located = locate(self.url, self.port, paths, self.tls_name, self.token, self.allow_insecure)
        for name in ("url", "port", "client_credentials_paths", "source"):
            self._keep(name, getattr(located, name))
        if self.single and len(located.addresses) > 1:
            raise MisuseError(f"url must be one address, got {self.url!r:.80}")
        return located.addresses

    def find(self, timeout_seconds: float | None = None) -> tuple[Address, ...]:
        """Return where the servers are now; a single environment's is one. Waits for a source to know any.

        Raises:
            ConnectError: The source gave no address in time (None: `connect_timeout_seconds`).
            MisuseError: What it gave is none, or is not to be reached like this.
        """
        if self.source is None:
            return self.addresses
        proof = self.client_credentials_paths, self.tls_name, self.token, self.allow_insecure
        seconds = self.connect_timeout_seconds if timeout_seconds is None else timeout_seconds
        found = found_by(self.source, self.port, *proof, seconds)
        return found[:1] if self.single else found

    def _opening(self) -> Open:
        kwargs = check_args(self.remote_args, "remote_args", ("entrypoint_kwargs",)).get("entrypoint_kwargs") or {}
        self._keep("remote_args", {"entrypoint_kwargs": dict(kwargs)} if kwargs else None)
        render_with_step = self.render_with_step or self.render_mode == "human"
        return Open(
            protocol_min=0,  # these three are the session's to say
            protocol_max=0,
            nonce=b"",
            num_envs=self.num_envs,
            entrypoint_kwargs=_packed_kwargs(kwargs) if kwargs else b"",
            render_mode=self.render_mode,
            autoreset_mode=NONE if self.single else self.mode.value,
            exact_types=self.single,
            reply_early=self.size < self.num_envs,
            # Rendering a list hands out what gathered since the last time, so it must be the user who asks for it.
            render_with_step=render_with_step and not (self.render_mode or "").endswith("_list"),
            drop_unportable_infos=self.unportable_infos == "drop",
            compression=self.compression,
            observation_mode=observation_modes.GIVEN if self.given_spaces else str(self.observation_mode),
            lease_seconds=LEASE_SECONDS + self.move_timeout_seconds if self.moves else 0.0,
            takes_draining=self.moves,
        )

    @property
    def moves(self) -> bool:
        """Whether what a lost server had is built elsewhere."""
        return self.on_session_lost == "move"

    @property
    def watch(self) -> Watch | None:
        """How closely servers are watched; None: as usual."""
        return Watch.of_one_that_is_gone_after(self.move_timeout_seconds) if self.moves else None

    @property
    def patience_seconds(self) -> float:
        """How long a session tries to reach its server again."""
        return self.move_timeout_seconds if self.moves else self.reconnect_timeout_seconds

    @property
    def given_spaces(self) -> tuple[Space[Any], Space[Any]] | None:
        """The observation spaces of the batch and of one environment that the user has given."""
        return self.observation_mode if isinstance(self.observation_mode, tuple) else None

    @property
    def mode(self) -> AutoresetMode:
        """The member that `autoreset_mode` names."""
        return parse_mode(self.autoreset_mode)

    @property
    def size(self) -> int:
        """How many environments make a batch."""
        return self.num_envs if self.batch_size is None else self.batch_size

    def carried(self) -> dict[str, Any]:
        """Return what a pickle carries: the arguments with which another process makes a client like this one.

        Nothing secret: of the credentials only the paths, which the copy reads anew, unless they were given as
        bytes; of the token a handle, see `tokens`. Nothing of the session either: a copy dials its own. Addresses and
        paths are whole, with what this process's variables and working directory add to them: those of the copy's may
        be others.
        """
        paths = self.client_credentials_paths
        carried = {name: getattr(self, name) for name in _ARGUMENTS}
        if self.source is None:
            urls = [join_address(address.host, address.port) for address in self.addresses]
            carried["url"] = urls if len(urls) > 1 else urls[0]
            carried["port"] = None  # it is in the address
        shown = {address.token for address in self.addresses}
        # A variable's, if all are shown it.
        carried["token"] = handle_for(shown.pop() if len(shown) == 1 else self.token)
        carried["client_credentials_paths"] = carried_paths(paths)
        return {name: value for name, value in carried.items() if not (self.single and name in OF_BATCHES)}

    def __reduce__(self) -> Any:
        """Carry no more than `carried` says."""
        return _again, (self.carried(), self.single)


_ARGUMENTS = [name for name in inspect.signature(Settings).parameters if name != "single"]


def _again(carried: dict[str, Any], single: bool) -> Settings:
    return Settings(**carried, single=single)


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _packed_kwargs(kwargs: Mapping[str, Any]) -> bytes:
    where = "remote_args['entrypoint_kwargs']"
    packed = values.pack(dict(kwargs), where)
    if len(packed) > MAX_KWARGS_BYTES:
        raise MisuseError(
            f"{where} take {len(packed):,} bytes, the limit is {MAX_KWARGS_BYTES:,}: put large values in a file that "
            f"the entrypoint reads"
        )
    return packed
