"""No I/O: the data that travels. Requests and answers as plain dataclasses, the same on both sides of the wire.

They mirror the messages of `protos/remote_gym/wire/session.proto`, where order and meaning are told; `wire.codec`
and `wire.frames` turn them into bytes and back. Leaves are buffers in packed rows: little-endian, C order, shape
(rows, *leaf shape).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from remote_gym.failures import Failure as Failure
from remote_gym.failures import FailureKind as FailureKind
from remote_gym.spaces import SpaceData

Indices = Union[Sequence[int], None]
"""Env indices of one message; None: all environments in order."""


def every(indices: Indices, num_envs: int) -> Sequence[int]:
    """Return env indices with None spelled out."""
    return range(num_envs) if indices is None else indices


Buffer = Union[bytes, memoryview]


# Client to server. The number of a request is given when it is sent.


@dataclass(frozen=True)
class Open:
    """Build environments and open a session on them."""

    protocol_min: int
    protocol_max: int
    nonce: bytes
    num_envs: int
    entrypoint_kwargs: bytes = b""
    render_mode: str | None = None
    autoreset_mode: str = "None"
    exact_types: bool = False
    reply_early: bool = False
    client_version: str = ""
    render_with_step: bool = False
    drop_unportable_infos: bool = False
    compression: str | None = None
    observation_mode: str = "same"  # or "different", or "given"
    lease_seconds: float = 0.0  # that is enough for the client; 0: the server's own
    takes_draining: bool = False
    traceparent: bytes = b""  # of the client's span, see `traces`; empty, here and in what follows: none is recorded
    load_seconds: float = 0.0  # how often to tell the load; 0: never


@dataclass(frozen=True)
class Attach:
    """Bind this stream to an existing session."""

    session_id: bytes
    token: bytes
    server_epoch: bytes
    protocol: int
    missing: Sequence[tuple[int, Indices]] = ()
    traceparent: bytes = b""


@dataclass(slots=True)
class Reset:
    """Begin new episodes. `seeds` is a packed list, `options` a packed map; empty: none."""

    number: int
    indices: Indices = None
    seeds: bytes = b""
    options: bytes = b""
    traceparent: bytes = b""


@dataclass(slots=True)
class Step:
    """One step of each environment."""

    number: int
    indices: Indices
    actions: Sequence[Any]  # one buffer per fixed-size action leaf, packed rows
    variable: bytes = b""  # packed: per env index, the elements of its variable leaves
    dtypes: bytes = b""  # a code per leaf, see `leaves.DTYPES`; empty: all of them the space's
    given: bytes = b""  # packed: the whole actions, instead of all the others; empty: it is them
    traceparent: bytes = b""


@dataclass(slots=True)
class Call:
    """A method or attribute of each environment; with `values` (a packed list), set the attribute instead."""

    number: int
    indices: Indices
    name: str
    arguments: bytes = b""
    values: bytes | None = None
    traceparent: bytes = b""


@dataclass(slots=True)
class Render:
    """A rendered frame of each environment."""

    number: int
    indices: Indices = None
    traceparent: bytes = b""


@dataclass(frozen=True)
class Close:
    """End the session."""


Request = Union[Reset, Step, Call, Render]
ClientMessage = Union[Open, Attach, Reset, Step, Call, Render, Close]


# Server to client.


@dataclass(frozen=True)
class Description:
    """What a server is and what it has room for."""

    protocol_min: int
    protocol_max: int
    version: str
    num_workers: int
    max_envs: int
    envs: int
    max_sessions: int
    sessions: int
    max_message_bytes: int
    draining: bool
    server_epoch: bytes
    env_step_seconds: float = 0.0  # one environment's step in a worker, lately; 0: not known


@dataclass(frozen=True)
class Opened:
    """The session is open."""

    protocol: int
    session_id: bytes
    token: bytes
    server_epoch: bytes
    lease_seconds: float
    observation_space: SpaceData
    action_space: SpaceData
    spec_json: str
    metadata: bytes
    render_mode: str | None
    env_ids: Sequence[int]
    hosted_vector: bool = False
    spec_kwargs: bytes = b""
    actions_as_given: bool = False
    observation_spaces: Sequence[SpaceData] = ()  # empty: all are equal
    kept_kwargs: Sequence[str] = ()  # of the client's, whose values were set aside


@dataclass(frozen=True)
class Attached:
    """The stream carries the session again; `highest` is the highest request number the server has received."""

    highest: int
    lease_seconds: float


@dataclass(slots=True)
class Transition:
    """Results of a Reset (rewards and flags empty) or Step."""

    number: int
    indices: Indices
    observations: Sequence[Any]  # one buffer per observation leaf, packed rows
    rewards: Any = b""  # (rows,) float64
    terminations: Any = b""  # (rows,) bool
    truncations: Any = b""  # (rows,) bool
    infos: Sequence[Buffer] = ()
    failures: Sequence[Failure] = ()


@dataclass
class Returned:
    """Results of a Call or Render: one packed value per env index, empty where a failure stands for it."""

    number: int
    indices: Indices
    values: Sequence[bytes]
    failures: Sequence[Failure] = ()


@dataclass(frozen=True)
class Refused:
    """The server says no to request `number` (0: the Open or Attach)."""

    number: int
    limit: str
    message: str
    failure: Failure | None = None


@dataclass(frozen=True)
class Load:
    """How busy the server is. The percentiles are of this session's last step requests; 0: there were none."""

    num_workers: int
    envs: int
    env_step_seconds: float = 0.0
    step_seconds_p50: float = 0.0
    step_seconds_p90: float = 0.0
    step_seconds_p99: float = 0.0


@dataclass(frozen=True)
class Lost:
    """The session is gone, and why."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Closed:
    """The session was ended by the client's Close."""


@dataclass(frozen=True)
class Draining:
    """The server is going away; the session goes on for some time."""

    seconds: float


ServerMessage = Union[Opened, Attached, Transition, Returned, Refused, Load, Lost, Closed, Draining]


@dataclass(frozen=True)
class Bundle:
    """Several serialised ServerMessages, in order."""

    messages: Sequence[bytes]


@dataclass(frozen=True)
class Fragment:
    """A piece of a larger message."""

    data: Buffer = field(repr=False)
    last: bool
    total_bytes: int
