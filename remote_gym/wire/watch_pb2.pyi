from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchRequest(_message.Message):
    __slots__ = ("period_seconds", "frames", "frame_period_seconds", "sessions", "frames_only")
    PERIOD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    FRAME_PERIOD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_ONLY_FIELD_NUMBER: _ClassVar[int]
    period_seconds: float
    frames: _containers.RepeatedCompositeFieldContainer[FrameRequest]
    frame_period_seconds: float
    sessions: _containers.RepeatedScalarFieldContainer[bytes]
    frames_only: bool
    def __init__(self, period_seconds: _Optional[float] = ..., frames: _Optional[_Iterable[_Union[FrameRequest, _Mapping]]] = ..., frame_period_seconds: _Optional[float] = ..., sessions: _Optional[_Iterable[bytes]] = ..., frames_only: bool = ...) -> None: ...

class FrameRequest(_message.Message):
    __slots__ = ("session", "env", "max_width")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    MAX_WIDTH_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    env: int
    max_width: int
    def __init__(self, session: _Optional[bytes] = ..., env: _Optional[int] = ..., max_width: _Optional[int] = ...) -> None: ...

class WatchReply(_message.Message):
    __slots__ = ("time", "server", "sessions", "workers", "losses", "more", "frames")
    TIME_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    time: float
    server: ServerFigures
    sessions: _containers.RepeatedCompositeFieldContainer[SessionFigures]
    workers: _containers.RepeatedCompositeFieldContainer[WorkerFigures]
    losses: _containers.RepeatedCompositeFieldContainer[WorkerLoss]
    more: bool
    frames: _containers.RepeatedCompositeFieldContainer[Frame]
    def __init__(self, time: _Optional[float] = ..., server: _Optional[_Union[ServerFigures, _Mapping]] = ..., sessions: _Optional[_Iterable[_Union[SessionFigures, _Mapping]]] = ..., workers: _Optional[_Iterable[_Union[WorkerFigures, _Mapping]]] = ..., losses: _Optional[_Iterable[_Union[WorkerLoss, _Mapping]]] = ..., more: bool = ..., frames: _Optional[_Iterable[_Union[Frame, _Mapping]]] = ...) -> None: ...

class ServerFigures(_message.Message):
    __slots__ = ("version", "entrypoint", "addresses", "process", "server_epoch", "started", "draining", "sessions", "max_sessions", "envs", "max_envs", "num_workers", "is_operator", "frames_allowed", "principal", "totals", "received_bytes", "sent_bytes", "worker_restarts", "refusals", "loop_lag_seconds", "memory_bytes", "cpu_seconds", "workers_memory_bytes", "workers_cpu_seconds", "step_seconds")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENTRYPOINT_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    SERVER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    ENVS_FIELD_NUMBER: _ClassVar[int]
    MAX_ENVS_FIELD_NUMBER: _ClassVar[int]
    NUM_WORKERS_FIELD_NUMBER: _ClassVar[int]
    IS_OPERATOR_FIELD_NUMBER: _ClassVar[int]
    FRAMES_ALLOWED_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    WORKER_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    LOOP_LAG_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPU_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    WORKERS_CPU_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    version: str
    entrypoint: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    process: int
    server_epoch: bytes
    started: float
    draining: bool
    sessions: int
    max_sessions: int
    envs: int
    max_envs: int
    num_workers: int
    is_operator: bool
    frames_allowed: bool
    principal: str
    totals: Totals
    received_bytes: int
    sent_bytes: int
    worker_restarts: int
    refusals: int
    loop_lag_seconds: float
    memory_bytes: int
    cpu_seconds: float
    workers_memory_bytes: int
    workers_cpu_seconds: float
    step_seconds: Histogram
    def __init__(self, version: _Optional[str] = ..., entrypoint: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., process: _Optional[int] = ..., server_epoch: _Optional[bytes] = ..., started: _Optional[float] = ..., draining: bool = ..., sessions: _Optional[int] = ..., max_sessions: _Optional[int] = ..., envs: _Optional[int] = ..., max_envs: _Optional[int] = ..., num_workers: _Optional[int] = ..., is_operator: bool = ..., frames_allowed: bool = ..., principal: _Optional[str] = ..., totals: _Optional[_Union[Totals, _Mapping]] = ..., received_bytes: _Optional[int] = ..., sent_bytes: _Optional[int] = ..., worker_restarts: _Optional[int] = ..., refusals: _Optional[int] = ..., loop_lag_seconds: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., cpu_seconds: _Optional[float] = ..., workers_memory_bytes: _Optional[int] = ..., workers_cpu_seconds: _Optional[float] = ..., step_seconds: _Optional[_Union[Histogram, _Mapping]] = ...) -> None: ...

class Totals(_message.Message):
    __slots__ = ("requests", "env_steps", "episodes", "lost_episodes", "episode_returns", "episode_lengths", "episode_seconds")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ENV_STEPS_FIELD_NUMBER: _ClassVar[int]
    EPISODES_FIELD_NUMBER: _ClassVar[int]
    LOST_EPISODES_FIELD_NUMBER: _ClassVar[int]
    EPISODE_RETURNS_FIELD_NUMBER: _ClassVar[int]
    EPISODE_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    EPISODE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    requests: int
    env_steps: int
    episodes: int
    lost_episodes: int
    episode_returns: float
    episode_lengths: int
    episode_seconds: float
    def __init__(self, requests: _Optional[int] = ..., env_steps: _Optional[int] = ..., episodes: _Optional[int] = ..., lost_episodes: _Optional[int] = ..., episode_returns: _Optional[float] = ..., episode_lengths: _Optional[int] = ..., episode_seconds: _Optional[float] = ...) -> None: ...

class SessionFigures(_message.Message):
    __slots__ = ("id", "principal", "peer", "envs", "state", "kept_seconds", "lease_seconds", "age_seconds", "running", "totals", "mean_return", "mean_length", "mean_seconds", "episodes", "workers", "autoreset_mode", "render_mode", "hosted_vector")
    ID_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    ENVS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    KEPT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    MEAN_RETURN_FIELD_NUMBER: _ClassVar[int]
    MEAN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MEAN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    EPISODES_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    AUTORESET_MODE_FIELD_NUMBER: _ClassVar[int]
    RENDER_MODE_FIELD_NUMBER: _ClassVar[int]
    HOSTED_VECTOR_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    principal: str
    peer: str
    envs: int
    state: str
    kept_seconds: float
    lease_seconds: float
    age_seconds: float
    running: int
    totals: Totals
    mean_return: float
    mean_length: float
    mean_seconds: float
    episodes: _containers.RepeatedCompositeFieldContainer[Episode]
    workers: _containers.RepeatedScalarFieldContainer[int]
    autoreset_mode: str
    render_mode: str
    hosted_vector: bool
    def __init__(self, id: _Optional[bytes] = ..., principal: _Optional[str] = ..., peer: _Optional[str] = ..., envs: _Optional[int] = ..., state: _Optional[str] = ..., kept_seconds: _Optional[float] = ..., lease_seconds: _Optional[float] = ..., age_seconds: _Optional[float] = ..., running: _Optional[int] = ..., totals: _Optional[_Union[Totals, _Mapping]] = ..., mean_return: _Optional[float] = ..., mean_length: _Optional[float] = ..., mean_seconds: _Optional[float] = ..., episodes: _Optional[_Iterable[_Union[Episode, _Mapping]]] = ..., workers: _Optional[_Iterable[int]] = ..., autoreset_mode: _Optional[str] = ..., render_mode: _Optional[str] = ..., hosted_vector: bool = ...) -> None: ...

class Episode(_message.Message):
    __slots__ = ("env", "episode_return", "length", "seconds", "ended")
    ENV_FIELD_NUMBER: _ClassVar[int]
    EPISODE_RETURN_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    env: int
    episode_return: float
    length: int
    seconds: float
    ended: float
    def __init__(self, env: _Optional[int] = ..., episode_return: _Optional[float] = ..., length: _Optional[int] = ..., seconds: _Optional[float] = ..., ended: _Optional[float] = ...) -> None: ...

class WorkerFigures(_message.Message):
    __slots__ = ("index", "process", "principal", "envs", "busy_seconds", "steps", "steps_seconds", "step_seconds", "restarts", "started")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    ENVS_FIELD_NUMBER: _ClassVar[int]
    BUSY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEPS_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    index: int
    process: int
    principal: str
    envs: int
    busy_seconds: float
    steps: int
    steps_seconds: float
    step_seconds: Histogram
    restarts: int
    started: float
    def __init__(self, index: _Optional[int] = ..., process: _Optional[int] = ..., principal: _Optional[str] = ..., envs: _Optional[int] = ..., busy_seconds: _Optional[float] = ..., steps: _Optional[int] = ..., steps_seconds: _Optional[float] = ..., step_seconds: _Optional[_Union[Histogram, _Mapping]] = ..., restarts: _Optional[int] = ..., started: _Optional[float] = ...) -> None: ...

class WorkerLoss(_message.Message):
    __slots__ = ("number", "time", "worker", "process", "reason", "output", "sessions")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    number: int
    time: float
    worker: int
    process: int
    reason: str
    output: str
    sessions: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, number: _Optional[int] = ..., time: _Optional[float] = ..., worker: _Optional[int] = ..., process: _Optional[int] = ..., reason: _Optional[str] = ..., output: _Optional[str] = ..., sessions: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Histogram(_message.Message):
    __slots__ = ("bounds", "counts", "sum")
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SUM_FIELD_NUMBER: _ClassVar[int]
    bounds: _containers.RepeatedScalarFieldContainer[float]
    counts: _containers.RepeatedScalarFieldContainer[int]
    sum: float
    def __init__(self, bounds: _Optional[_Iterable[float]] = ..., counts: _Optional[_Iterable[int]] = ..., sum: _Optional[float] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("session", "env", "content_type", "data", "width", "height", "episode_return", "episode_length", "missing", "time")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    EPISODE_RETURN_FIELD_NUMBER: _ClassVar[int]
    EPISODE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    env: int
    content_type: str
    data: bytes
    width: int
    height: int
    episode_return: float
    episode_length: int
    missing: str
    time: float
    def __init__(self, session: _Optional[bytes] = ..., env: _Optional[int] = ..., content_type: _Optional[str] = ..., data: _Optional[bytes] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., episode_return: _Optional[float] = ..., episode_length: _Optional[int] = ..., missing: _Optional[str] = ..., time: _Optional[float] = ...) -> None: ...
