from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Space(_message.Message):
    __slots__ = ("box", "discrete", "multi_discrete", "multi_binary", "text", "sequence", "graph", "one_of", "tuple", "dict", "generator", "type", "by_base")
    BOX_FIELD_NUMBER: _ClassVar[int]
    DISCRETE_FIELD_NUMBER: _ClassVar[int]
    MULTI_DISCRETE_FIELD_NUMBER: _ClassVar[int]
    MULTI_BINARY_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    ONE_OF_FIELD_NUMBER: _ClassVar[int]
    TUPLE_FIELD_NUMBER: _ClassVar[int]
    DICT_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    BY_BASE_FIELD_NUMBER: _ClassVar[int]
    box: Box
    discrete: Discrete
    multi_discrete: MultiDiscrete
    multi_binary: MultiBinary
    text: Text
    sequence: Sequence
    graph: Graph
    one_of: OneOf
    tuple: Tuple
    dict: Dict
    generator: Generator
    type: str
    by_base: bool
    def __init__(self, box: _Optional[_Union[Box, _Mapping]] = ..., discrete: _Optional[_Union[Discrete, _Mapping]] = ..., multi_discrete: _Optional[_Union[MultiDiscrete, _Mapping]] = ..., multi_binary: _Optional[_Union[MultiBinary, _Mapping]] = ..., text: _Optional[_Union[Text, _Mapping]] = ..., sequence: _Optional[_Union[Sequence, _Mapping]] = ..., graph: _Optional[_Union[Graph, _Mapping]] = ..., one_of: _Optional[_Union[OneOf, _Mapping]] = ..., tuple: _Optional[_Union[Tuple, _Mapping]] = ..., dict: _Optional[_Union[Dict, _Mapping]] = ..., generator: _Optional[_Union[Generator, _Mapping]] = ..., type: _Optional[str] = ..., by_base: bool = ...) -> None: ...

class Generator(_message.Message):
    __slots__ = ("state", "increment", "has_uint32", "uinteger", "number")
    STATE_FIELD_NUMBER: _ClassVar[int]
    INCREMENT_FIELD_NUMBER: _ClassVar[int]
    HAS_UINT32_FIELD_NUMBER: _ClassVar[int]
    UINTEGER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    state: bytes
    increment: bytes
    has_uint32: bool
    uinteger: int
    number: int
    def __init__(self, state: _Optional[bytes] = ..., increment: _Optional[bytes] = ..., has_uint32: bool = ..., uinteger: _Optional[int] = ..., number: _Optional[int] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("dtype", "shape", "low", "high", "unbounded_below", "unbounded_above")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    UNBOUNDED_BELOW_FIELD_NUMBER: _ClassVar[int]
    UNBOUNDED_ABOVE_FIELD_NUMBER: _ClassVar[int]
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    low: bytes
    high: bytes
    unbounded_below: bytes
    unbounded_above: bytes
    def __init__(self, dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., low: _Optional[bytes] = ..., high: _Optional[bytes] = ..., unbounded_below: _Optional[bytes] = ..., unbounded_above: _Optional[bytes] = ...) -> None: ...

class Discrete(_message.Message):
    __slots__ = ("dtype", "n", "start")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    dtype: str
    n: bytes
    start: bytes
    def __init__(self, dtype: _Optional[str] = ..., n: _Optional[bytes] = ..., start: _Optional[bytes] = ...) -> None: ...

class MultiDiscrete(_message.Message):
    __slots__ = ("dtype", "shape", "nvec", "start")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    NVEC_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    nvec: bytes
    start: bytes
    def __init__(self, dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., nvec: _Optional[bytes] = ..., start: _Optional[bytes] = ...) -> None: ...

class MultiBinary(_message.Message):
    __slots__ = ("shape", "flat")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    FLAT_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    flat: bool
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., flat: bool = ...) -> None: ...

class Text(_message.Message):
    __slots__ = ("min_length", "max_length", "characters")
    MIN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    min_length: int
    max_length: int
    characters: str
    def __init__(self, min_length: _Optional[int] = ..., max_length: _Optional[int] = ..., characters: _Optional[str] = ...) -> None: ...

class Sequence(_message.Message):
    __slots__ = ("feature", "stack")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    feature: Space
    stack: bool
    def __init__(self, feature: _Optional[_Union[Space, _Mapping]] = ..., stack: bool = ...) -> None: ...

class Graph(_message.Message):
    __slots__ = ("node", "edge")
    NODE_FIELD_NUMBER: _ClassVar[int]
    EDGE_FIELD_NUMBER: _ClassVar[int]
    node: Space
    edge: Space
    def __init__(self, node: _Optional[_Union[Space, _Mapping]] = ..., edge: _Optional[_Union[Space, _Mapping]] = ...) -> None: ...

class OneOf(_message.Message):
    __slots__ = ("spaces",)
    SPACES_FIELD_NUMBER: _ClassVar[int]
    spaces: _containers.RepeatedCompositeFieldContainer[Space]
    def __init__(self, spaces: _Optional[_Iterable[_Union[Space, _Mapping]]] = ...) -> None: ...

class Tuple(_message.Message):
    __slots__ = ("spaces",)
    SPACES_FIELD_NUMBER: _ClassVar[int]
    spaces: _containers.RepeatedCompositeFieldContainer[Space]
    def __init__(self, spaces: _Optional[_Iterable[_Union[Space, _Mapping]]] = ...) -> None: ...

class Dict(_message.Message):
    __slots__ = ("keys", "spaces", "sort_keys", "numbers")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    SPACES_FIELD_NUMBER: _ClassVar[int]
    SORT_KEYS_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    spaces: _containers.RepeatedCompositeFieldContainer[Space]
    sort_keys: bool
    numbers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, keys: _Optional[_Iterable[str]] = ..., spaces: _Optional[_Iterable[_Union[Space, _Mapping]]] = ..., sort_keys: bool = ..., numbers: _Optional[_Iterable[int]] = ...) -> None: ...
