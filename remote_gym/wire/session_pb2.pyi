from remote_gym.wire import space_pb2 as _space_pb2
from remote_gym.wire import watch_pb2 as _watch_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AutoresetMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUTORESET_MODE_NONE: _ClassVar[AutoresetMode]
    AUTORESET_MODE_NEXT_STEP: _ClassVar[AutoresetMode]
    AUTORESET_MODE_SAME_STEP: _ClassVar[AutoresetMode]
    AUTORESET_MODE_DISABLED: _ClassVar[AutoresetMode]

class ObservationMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OBSERVATION_MODE_SAME: _ClassVar[ObservationMode]
    OBSERVATION_MODE_DIFFERENT: _ClassVar[ObservationMode]
    OBSERVATION_MODE_GIVEN: _ClassVar[ObservationMode]
AUTORESET_MODE_NONE: AutoresetMode
AUTORESET_MODE_NEXT_STEP: AutoresetMode
AUTORESET_MODE_SAME_STEP: AutoresetMode
AUTORESET_MODE_DISABLED: AutoresetMode
OBSERVATION_MODE_SAME: ObservationMode
OBSERVATION_MODE_DIFFERENT: ObservationMode
OBSERVATION_MODE_GIVEN: ObservationMode

class Hello(_message.Message):
    __slots__ = ("protocol_min", "protocol_max", "version", "server_epoch", "token")
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    protocol_min: int
    protocol_max: int
    version: str
    server_epoch: bytes
    token: str
    def __init__(self, protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., version: _Optional[str] = ..., server_epoch: _Optional[bytes] = ..., token: _Optional[str] = ...) -> None: ...

class Ended(_message.Message):
    __slots__ = ("code", "detail")
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    code: int
    detail: str
    def __init__(self, code: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeReply(_message.Message):
    __slots__ = ("protocol_min", "protocol_max", "version", "num_workers", "max_envs", "envs", "max_sessions", "sessions", "max_message_bytes", "draining", "server_epoch", "env_step_seconds")
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NUM_WORKERS_FIELD_NUMBER: _ClassVar[int]
    MAX_ENVS_FIELD_NUMBER: _ClassVar[int]
    ENVS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    SERVER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    ENV_STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
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
    env_step_seconds: float
    def __init__(self, protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., version: _Optional[str] = ..., num_workers: _Optional[int] = ..., max_envs: _Optional[int] = ..., envs: _Optional[int] = ..., max_sessions: _Optional[int] = ..., sessions: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., draining: bool = ..., server_epoch: _Optional[bytes] = ..., env_step_seconds: _Optional[float] = ...) -> None: ...

class ClientMessage(_message.Message):
    __slots__ = ("open", "attach", "reset", "step", "call", "render", "close", "fragment")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ATTACH_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    RENDER_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    open: Open
    attach: Attach
    reset: Reset
    step: Step
    call: Call
    render: Render
    close: Close
    fragment: Fragment
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., attach: _Optional[_Union[Attach, _Mapping]] = ..., reset: _Optional[_Union[Reset, _Mapping]] = ..., step: _Optional[_Union[Step, _Mapping]] = ..., call: _Optional[_Union[Call, _Mapping]] = ..., render: _Optional[_Union[Render, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., fragment: _Optional[_Union[Fragment, _Mapping]] = ...) -> None: ...

class ServerMessage(_message.Message):
    __slots__ = ("opened", "attached", "transition", "returned", "refused", "lost", "closed", "fragment", "bundle", "draining", "load")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    TRANSITION_FIELD_NUMBER: _ClassVar[int]
    RETURNED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    attached: Attached
    transition: Transition
    returned: Returned
    refused: Refused
    lost: Lost
    closed: Closed
    fragment: Fragment
    bundle: Bundle
    draining: Draining
    load: Load
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., attached: _Optional[_Union[Attached, _Mapping]] = ..., transition: _Optional[_Union[Transition, _Mapping]] = ..., returned: _Optional[_Union[Returned, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ..., lost: _Optional[_Union[Lost, _Mapping]] = ..., closed: _Optional[_Union[Closed, _Mapping]] = ..., fragment: _Optional[_Union[Fragment, _Mapping]] = ..., bundle: _Optional[_Union[Bundle, _Mapping]] = ..., draining: _Optional[_Union[Draining, _Mapping]] = ..., load: _Optional[_Union[Load, _Mapping]] = ...) -> None: ...

class Bundle(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, messages: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Fragment(_message.Message):
    __slots__ = ("data", "last", "total_bytes")
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    last: bool
    total_bytes: int
    def __init__(self, data: _Optional[bytes] = ..., last: bool = ..., total_bytes: _Optional[int] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("protocol_min", "protocol_max", "nonce", "num_envs", "entrypoint_kwargs", "render_mode", "autoreset_mode", "exact_types", "reply_early", "client_version", "render_with_step", "drop_unportable_infos", "compression", "observation_mode", "lease_seconds", "takes_draining", "traceparent", "load_seconds")
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    NUM_ENVS_FIELD_NUMBER: _ClassVar[int]
    ENTRYPOINT_KWARGS_FIELD_NUMBER: _ClassVar[int]
    RENDER_MODE_FIELD_NUMBER: _ClassVar[int]
    AUTORESET_MODE_FIELD_NUMBER: _ClassVar[int]
    EXACT_TYPES_FIELD_NUMBER: _ClassVar[int]
    REPLY_EARLY_FIELD_NUMBER: _ClassVar[int]
    CLIENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    RENDER_WITH_STEP_FIELD_NUMBER: _ClassVar[int]
    DROP_UNPORTABLE_INFOS_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_MODE_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TAKES_DRAINING_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    LOAD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    protocol_min: int
    protocol_max: int
    nonce: bytes
    num_envs: int
    entrypoint_kwargs: bytes
    render_mode: str
    autoreset_mode: AutoresetMode
    exact_types: bool
    reply_early: bool
    client_version: str
    render_with_step: bool
    drop_unportable_infos: bool
    compression: str
    observation_mode: ObservationMode
    lease_seconds: float
    takes_draining: bool
    traceparent: bytes
    load_seconds: float
    def __init__(self, protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., nonce: _Optional[bytes] = ..., num_envs: _Optional[int] = ..., entrypoint_kwargs: _Optional[bytes] = ..., render_mode: _Optional[str] = ..., autoreset_mode: _Optional[_Union[AutoresetMode, str]] = ..., exact_types: bool = ..., reply_early: bool = ..., client_version: _Optional[str] = ..., render_with_step: bool = ..., drop_unportable_infos: bool = ..., compression: _Optional[str] = ..., observation_mode: _Optional[_Union[ObservationMode, str]] = ..., lease_seconds: _Optional[float] = ..., takes_draining: bool = ..., traceparent: _Optional[bytes] = ..., load_seconds: _Optional[float] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("protocol", "session_id", "token", "server_epoch", "lease_seconds", "observation_space", "action_space", "spec_json", "metadata", "render_mode", "env_ids", "hosted_vector", "spec_kwargs", "actions_as_given", "observation_spaces", "kept_kwargs")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SERVER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_SPACE_FIELD_NUMBER: _ClassVar[int]
    ACTION_SPACE_FIELD_NUMBER: _ClassVar[int]
    SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    RENDER_MODE_FIELD_NUMBER: _ClassVar[int]
    ENV_IDS_FIELD_NUMBER: _ClassVar[int]
    HOSTED_VECTOR_FIELD_NUMBER: _ClassVar[int]
    SPEC_KWARGS_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_AS_GIVEN_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_SPACES_FIELD_NUMBER: _ClassVar[int]
    KEPT_KWARGS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    session_id: bytes
    token: bytes
    server_epoch: bytes
    lease_seconds: float
    observation_space: _space_pb2.Space
    action_space: _space_pb2.Space
    spec_json: str
    metadata: bytes
    render_mode: str
    env_ids: _containers.RepeatedScalarFieldContainer[int]
    hosted_vector: bool
    spec_kwargs: bytes
    actions_as_given: bool
    observation_spaces: _containers.RepeatedCompositeFieldContainer[_space_pb2.Space]
    kept_kwargs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, protocol: _Optional[int] = ..., session_id: _Optional[bytes] = ..., token: _Optional[bytes] = ..., server_epoch: _Optional[bytes] = ..., lease_seconds: _Optional[float] = ..., observation_space: _Optional[_Union[_space_pb2.Space, _Mapping]] = ..., action_space: _Optional[_Union[_space_pb2.Space, _Mapping]] = ..., spec_json: _Optional[str] = ..., metadata: _Optional[bytes] = ..., render_mode: _Optional[str] = ..., env_ids: _Optional[_Iterable[int]] = ..., hosted_vector: bool = ..., spec_kwargs: _Optional[bytes] = ..., actions_as_given: bool = ..., observation_spaces: _Optional[_Iterable[_Union[_space_pb2.Space, _Mapping]]] = ..., kept_kwargs: _Optional[_Iterable[str]] = ...) -> None: ...

class Attach(_message.Message):
    __slots__ = ("session_id", "token", "server_epoch", "protocol", "missing", "traceparent")
    class Missing(_message.Message):
        __slots__ = ("number", "indices")
        NUMBER_FIELD_NUMBER: _ClassVar[int]
        INDICES_FIELD_NUMBER: _ClassVar[int]
        number: int
        indices: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, number: _Optional[int] = ..., indices: _Optional[_Iterable[int]] = ...) -> None: ...
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SERVER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    token: bytes
    server_epoch: bytes
    protocol: int
    missing: _containers.RepeatedCompositeFieldContainer[Attach.Missing]
    traceparent: bytes
    def __init__(self, session_id: _Optional[bytes] = ..., token: _Optional[bytes] = ..., server_epoch: _Optional[bytes] = ..., protocol: _Optional[int] = ..., missing: _Optional[_Iterable[_Union[Attach.Missing, _Mapping]]] = ..., traceparent: _Optional[bytes] = ...) -> None: ...

class Attached(_message.Message):
    __slots__ = ("highest", "lease_seconds")
    HIGHEST_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    highest: int
    lease_seconds: float
    def __init__(self, highest: _Optional[int] = ..., lease_seconds: _Optional[float] = ...) -> None: ...

class Reset(_message.Message):
    __slots__ = ("number", "indices", "seeds", "options", "traceparent")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    number: int
    indices: _containers.RepeatedScalarFieldContainer[int]
    seeds: bytes
    options: bytes
    traceparent: bytes
    def __init__(self, number: _Optional[int] = ..., indices: _Optional[_Iterable[int]] = ..., seeds: _Optional[bytes] = ..., options: _Optional[bytes] = ..., traceparent: _Optional[bytes] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("number", "indices", "actions", "variable", "dtypes", "given", "traceparent", "padding")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    DTYPES_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    number: int
    indices: _containers.RepeatedScalarFieldContainer[int]
    actions: _containers.RepeatedScalarFieldContainer[bytes]
    variable: bytes
    dtypes: bytes
    given: bytes
    traceparent: bytes
    padding: bytes
    def __init__(self, number: _Optional[int] = ..., indices: _Optional[_Iterable[int]] = ..., actions: _Optional[_Iterable[bytes]] = ..., variable: _Optional[bytes] = ..., dtypes: _Optional[bytes] = ..., given: _Optional[bytes] = ..., traceparent: _Optional[bytes] = ..., padding: _Optional[bytes] = ...) -> None: ...

class Call(_message.Message):
    __slots__ = ("number", "indices", "name", "arguments", "set", "values", "traceparent")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    number: int
    indices: _containers.RepeatedScalarFieldContainer[int]
    name: str
    arguments: bytes
    set: bool
    values: bytes
    traceparent: bytes
    def __init__(self, number: _Optional[int] = ..., indices: _Optional[_Iterable[int]] = ..., name: _Optional[str] = ..., arguments: _Optional[bytes] = ..., set: bool = ..., values: _Optional[bytes] = ..., traceparent: _Optional[bytes] = ...) -> None: ...

class Render(_message.Message):
    __slots__ = ("number", "indices", "traceparent")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    number: int
    indices: _containers.RepeatedScalarFieldContainer[int]
    traceparent: bytes
    def __init__(self, number: _Optional[int] = ..., indices: _Optional[_Iterable[int]] = ..., traceparent: _Optional[bytes] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Draining(_message.Message):
    __slots__ = ("seconds",)
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    seconds: float
    def __init__(self, seconds: _Optional[float] = ...) -> None: ...

class Closed(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Transition(_message.Message):
    __slots__ = ("number", "indices", "observations", "rewards", "terminations", "truncations", "infos", "failures", "padding")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    REWARDS_FIELD_NUMBER: _ClassVar[int]
    TERMINATIONS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATIONS_FIELD_NUMBER: _ClassVar[int]
    INFOS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    number: int
    indices: _containers.RepeatedScalarFieldContainer[int]
    observations: _containers.RepeatedScalarFieldContainer[bytes]
    rewards: _containers.RepeatedScalarFieldContainer[float]
    terminations: _containers.RepeatedScalarFieldContainer[bool]
    truncations: _containers.RepeatedScalarFieldContainer[bool]
    infos: _containers.RepeatedScalarFieldContainer[bytes]
    failures: _containers.RepeatedCompositeFieldContainer[Failure]
    padding: bytes
    def __init__(self, number: _Optional[int] = ..., indices: _Optional[_Iterable[int]] = ..., observations: _Optional[_Iterable[bytes]] = ..., rewards: _Optional[_Iterable[float]] = ..., terminations: _Optional[_Iterable[bool]] = ..., truncations: _Optional[_Iterable[bool]] = ..., infos: _Optional[_Iterable[bytes]] = ..., failures: _Optional[_Iterable[_Union[Failure, _Mapping]]] = ..., padding: _Optional[bytes] = ...) -> None: ...

class Returned(_message.Message):
    __slots__ = ("number", "indices", "values", "failures")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    number: int
    indices: _containers.RepeatedScalarFieldContainer[int]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    failures: _containers.RepeatedCompositeFieldContainer[Failure]
    def __init__(self, number: _Optional[int] = ..., indices: _Optional[_Iterable[int]] = ..., values: _Optional[_Iterable[bytes]] = ..., failures: _Optional[_Iterable[_Union[Failure, _Mapping]]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("index", "kind", "type", "message", "detail", "base")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Failure.Kind]
        RAISED: _ClassVar[Failure.Kind]
        NEEDS_RESET: _ClassVar[Failure.Kind]
        LOST: _ClassVar[Failure.Kind]
        INVALID: _ClassVar[Failure.Kind]
        GONE: _ClassVar[Failure.Kind]
    KIND_UNSPECIFIED: Failure.Kind
    RAISED: Failure.Kind
    NEEDS_RESET: Failure.Kind
    LOST: Failure.Kind
    INVALID: Failure.Kind
    GONE: Failure.Kind
    INDEX_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    index: int
    kind: Failure.Kind
    type: str
    message: str
    detail: str
    base: str
    def __init__(self, index: _Optional[int] = ..., kind: _Optional[_Union[Failure.Kind, str]] = ..., type: _Optional[str] = ..., message: _Optional[str] = ..., detail: _Optional[str] = ..., base: _Optional[str] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("number", "limit", "message", "failure")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    number: int
    limit: str
    message: str
    failure: Failure
    def __init__(self, number: _Optional[int] = ..., limit: _Optional[str] = ..., message: _Optional[str] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class Load(_message.Message):
    __slots__ = ("num_workers", "envs", "env_step_seconds", "step_seconds_p50", "step_seconds_p90", "step_seconds_p99")
    NUM_WORKERS_FIELD_NUMBER: _ClassVar[int]
    ENVS_FIELD_NUMBER: _ClassVar[int]
    ENV_STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_P50_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_P90_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_P99_FIELD_NUMBER: _ClassVar[int]
    num_workers: int
    envs: int
    env_step_seconds: float
    step_seconds_p50: float
    step_seconds_p90: float
    step_seconds_p99: float
    def __init__(self, num_workers: _Optional[int] = ..., envs: _Optional[int] = ..., env_step_seconds: _Optional[float] = ..., step_seconds_p50: _Optional[float] = ..., step_seconds_p90: _Optional[float] = ..., step_seconds_p99: _Optional[float] = ...) -> None: ...

class Lost(_message.Message):
    __slots__ = ("reason", "detail")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    reason: str
    detail: str
    def __init__(self, reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...
