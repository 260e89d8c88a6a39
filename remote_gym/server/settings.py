"""Server process: what a server was told to be. Checked once, when it is created."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from remote_gym import values
from remote_gym.errors import MisuseError
from remote_gym.pool import Surroundings, Timeouts
from remote_gym.server.isolation import ISOLATIONS, Isolation
from remote_gym.server.limits import Limits
from remote_gym.server.permissions import NOBODYS, Permissions
from remote_gym.server.principals import Principal, unfit_operator

DEFAULT_MAX_WORKERS = 256
"""A worker takes some 30 MB and ten descriptors before it hosts anything."""

TEXT, JSON = "text", "json"
"""Formats of the log."""


@dataclass(frozen=True)
class Settings:
    """Limits and rules of one server.

    Attributes:
        entrypoint: What to host.
        entrypoint_kwargs: The owner's keyword arguments.
        num_workers: Worker processes to begin with, and those that one principal has where `isolation` says so.
        max_envs_per_worker: Environments one worker may hold; None: no limit.
        max_workers: Worker processes at most; more than `num_workers` are started where `max_envs_per_worker` asks;
            None: `worker_limit` decides.
        max_envs: Environments the server holds at once.
        max_sessions: Sessions the server holds at once.
        limits: What of these each principal may have, and how long its sessions are kept.
        lease_seconds: How long a session without a stream is kept.
        timeouts: Of one environment's operations.
        max_held_bytes: Bytes of each kind that are held for clients, see `holdings`.
        restart_budget: (count, seconds): how often the environments of one session in one worker are built again after
            deaths of their own doing; None: without end.
        permissions: What clients may touch that are not the owner.
        vectorization_mode: ``"vector_entry_point"`` to host vector environments; None: as the entrypoint is.
        surroundings: What all workers start with.
        isolation: Which sessions share workers, see `isolation`.
        log_format: Of the log: ``"text"``, as the process's handlers write it, or ``"json"``.
        audit_log: The path of the audit log; None: there is none.
        probe_envs: Environments that a probe asks a vector environment for.
        operators: Principals that see everybody's sessions when they watch.
        frames: Whether pictures are made for who watches.
    """

    entrypoint: str
    entrypoint_kwargs: dict[str, Any]
    num_workers: int
    max_envs_per_worker: int | None
    max_workers: int | None
    max_envs: int
    max_sessions: int
    max_held_bytes: int
    lease_seconds: float
    timeouts: Timeouts
    restart_budget: tuple[int, float] | None
    permissions: Permissions = NOBODYS
    vectorization_mode: str | None = None
    surroundings: Surroundings = field(default_factory=Surroundings.here)
    isolation: Isolation = "principal"
    limits: Limits = field(default_factory=Limits)
    log_format: str = TEXT
    audit_log: str | None = None
    probe_envs: int = 1
    operators: tuple[str, ...] = ()
    frames: bool = False

    def __post_init__(self) -> None:
        """Check every number.

        Raises:
            MisuseError: One is out of range; names it.
        """
        if not isinstance(self.entrypoint, str) or not self.entrypoint:
            raise MisuseError("default_args['entrypoint'] must name what to host, e.g. 'CartPole-v1' or 'my_file.py'")
        if self.vectorization_mode not in (None, "vector_entry_point"):
            raise MisuseError(
                f"default_args['vectorization_mode'] must be 'vector_entry_point' or left out, got "
                f"{self.vectorization_mode!r}"
            )
        for name in self.operators:
            if (wrong := unfit_operator(name)) is not None:
                raise MisuseError(f"operators takes names of principals, got {name!r}: {wrong}")
        if self.isolation not in ISOLATIONS:
            raise MisuseError(f"isolation must be one of {', '.join(map(repr, ISOLATIONS))}, got {self.isolation!r}")
        if self.log_format not in (TEXT, JSON):
            raise MisuseError(f"log_format must be {TEXT!r} or {JSON!r}, got {self.log_format!r}")
        for name in (
            "num_workers", "max_envs_per_worker", "max_workers", "max_envs", "max_sessions", "max_held_bytes",
            "probe_envs",
        ):  # fmt: skip
            number = getattr(self, name)
            if number is None and name in ("max_envs_per_worker", "max_workers"):
                continue
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise MisuseError(f"{name} must be a positive integer, got {number!r}")
        if self.worker_limit < self.num_workers:
            raise MisuseError(f"max_workers={self.max_workers} is below num_workers={self.num_workers}")
        limits = {
            "lease_seconds": self.lease_seconds,
            "step_timeout_seconds": self.timeouts.step,
            "reset_timeout_seconds": self.timeouts.reset,
            "build_timeout_seconds": self.timeouts.build,
        }
        for name, seconds in limits.items():
            if seconds is not None and not (isinstance(seconds, (int, float)) and seconds > 0):
                raise MisuseError(f"{name} must be a positive number of seconds, got {seconds!r}")
        _ = self.packed_kwargs

    def lease_of(self, principal: Principal) -> float:
        """Return how long, in seconds, a session of `principal` without a stream is kept."""
        seconds = self.limits.of(principal.name).lease_seconds
        return self.lease_seconds if seconds is None else seconds

    def workers_of(self, principal: Principal) -> int | None:
        """Return how many workers those who share them with `principal`'s sessions may have; None: as many as all."""
        return None if self.isolation == "shared" else self.limits.of(principal.name).workers

    @property
    def worker_limit(self) -> int:
        """Worker processes at most."""
        return max(self.num_workers, DEFAULT_MAX_WORKERS) if self.max_workers is None else self.max_workers

    @cached_property
    def packed_kwargs(self) -> bytes:
        """The owner's keyword arguments, packed; a worker merges the client's over them."""
        where = "default_args['entrypoint_kwargs']"
        return values.pack(self.entrypoint_kwargs, where) if self.entrypoint_kwargs else b""
