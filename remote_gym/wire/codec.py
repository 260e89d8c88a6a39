"""No I/O: serialised messages <-> the dataclasses of `messages`.

The only module that touches generated classes, but for failures in `frames`.

`pack_client`/`read_client` and `pack_server`/`read_server` mirror each other. Hot messages take the short way through
`frames`; everything else, and hot messages in an unusual encoding, goes through the generated classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from remote_gym.errors import ProtocolError
from remote_gym.messages import (
    Attach,
    Attached,
    Buffer,
    Bundle,
    Call,
    ClientMessage,
    Close,
    Closed,
    Description,
    Draining,
    Failure,
    FailureKind,
    Fragment,
    Indices,
    Load,
    Lost,
    Open,
    Opened,
    Refused,
    Render,
    Reset,
    Returned,
    ServerMessage,
    Step,
    Transition,
)
from remote_gym.spaces import SpaceData
from remote_gym.texts import encodable
from remote_gym.wire import frames
from remote_gym.wire import session_pb2 as pb
from remote_gym.wire.frames import pack_failure, read_varint
from remote_gym.wire.limits import FRAGMENT_BYTES as FRAGMENT_BYTES
from remote_gym.wire.limits import MAX_FIRST_BYTES as MAX_FIRST_BYTES
from remote_gym.wire.limits import MAX_KWARGS_BYTES as MAX_KWARGS_BYTES
from remote_gym.wire.limits import MAX_MESSAGE_BYTES as MAX_MESSAGE_BYTES
from remote_gym.wire.limits import MAX_REQUEST_BYTES as MAX_REQUEST_BYTES
from remote_gym.wire.limits import MAX_VERSION_CHARACTERS, client_indices, few, lease, name, seconds, step_leaves
from remote_gym.wire.limits import MAX_WHOLE_BYTES as MAX_WHOLE_BYTES
from remote_gym.wire.spaces import pack_space, read_space, read_spaces

PROTOCOL_MIN = PROTOCOL_MAX = 1
"""Versions of the contract this code speaks."""

DESCRIBE_METHOD = "/remote_gym.v1.RemoteGym/Describe"
SESSION_METHOD = "/remote_gym.v1.RemoteGym/Session"

_MODES = {
    "None": pb.AUTORESET_MODE_NONE,
    "NextStep": pb.AUTORESET_MODE_NEXT_STEP,
    "SameStep": pb.AUTORESET_MODE_SAME_STEP,
    "Disabled": pb.AUTORESET_MODE_DISABLED,
}
_MODE_NAMES = {number: name for name, number in _MODES.items()}

_OBSERVATION_MODES = {
    "same": pb.OBSERVATION_MODE_SAME,
    "different": pb.OBSERVATION_MODE_DIFFERENT,
    "given": pb.OBSERVATION_MODE_GIVEN,
}
_OBSERVATION_MODE_NAMES = {number: name for name, number in _OBSERVATION_MODES.items()}


def _indices(indices: Any) -> Indices:
    return list(indices) or None


def _whose(indices: Any) -> Indices:
    return _indices(client_indices(indices))


def _flag_bytes(flags: Any) -> bytes:
    return np.asarray(flags, np.bool_).tobytes()


def _read_failures(message: pb.Transition | pb.Returned) -> list[Failure]:
    if not message.failures:  # the usual case; the size takes a walk over everything
        return []
    return [_read_failure(failure) for failure in few(message.failures, message.ByteSize())]


def _read_failure(failure: pb.Failure) -> Failure:
    kinds = FailureKind._value2member_map_
    kind = FailureKind(failure.kind) if failure.kind in kinds else FailureKind.RAISED
    return Failure(failure.index, kind, failure.type, failure.message, failure.detail, failure.base)


def _read_bundle(bundle: pb.Bundle) -> Bundle:
    messages = list(bundle.messages)
    if not _CONTAINERS.isdisjoint([message[:1] for message in messages]):
        raise ProtocolError("a bundle holds fragments or bundles")
    return Bundle(messages)


# Client messages: dataclass -> field name and message, message -> dataclass.

_Pack = Callable[[Any], dict[str, Any]]
_Read = Callable[[Any], Any]

_PACK_CLIENT: dict[type[Any], _Pack] = {
    Open: lambda m: {
        "open": pb.Open(
            protocol_min=m.protocol_min,
            protocol_max=m.protocol_max,
            nonce=m.nonce,
            num_envs=m.num_envs,
            entrypoint_kwargs=m.entrypoint_kwargs,
            render_mode=encodable(m.render_mode or ""),
            autoreset_mode=_MODES[m.autoreset_mode],
            exact_types=m.exact_types,
            reply_early=m.reply_early,
            client_version=encodable(m.client_version),
            render_with_step=m.render_with_step,
            drop_unportable_infos=m.drop_unportable_infos,
            compression=encodable(m.compression or ""),
            observation_mode=_OBSERVATION_MODES[m.observation_mode],
            lease_seconds=m.lease_seconds,
            takes_draining=m.takes_draining,
            traceparent=m.traceparent,
            load_seconds=m.load_seconds,
        )
    },
    Attach: lambda m: {
        "attach": pb.Attach(
            session_id=m.session_id,
            token=m.token,
            server_epoch=m.server_epoch,
            protocol=m.protocol,
            missing=[pb.Attach.Missing(number=number, indices=indices or ()) for number, indices in m.missing],
            traceparent=m.traceparent,
        )
    },
    Reset: lambda m: {
        "reset": pb.Reset(
            number=m.number, indices=m.indices or (), seeds=m.seeds, options=m.options, traceparent=m.traceparent
        )
    },
    Step: lambda m: {
        "step": pb.Step(
            number=m.number,
            indices=m.indices or (),
            actions=[bytes(leaf) for leaf in m.actions],
            variable=m.variable,
            dtypes=m.dtypes,
            given=m.given,
            traceparent=m.traceparent,
        )
    },
    Call: lambda m: {
        "call": pb.Call(
            number=m.number,
            indices=m.indices or (),
            name=encodable(m.name),
            arguments=m.arguments,
            set=m.values is not None,
            values=m.values or b"",
            traceparent=m.traceparent,
        )
    },
    Render: lambda m: {"render": pb.Render(number=m.number, indices=m.indices or (), traceparent=m.traceparent)},
    Close: lambda m: {"close": pb.Close()},
    Fragment: lambda m: {"fragment": pb.Fragment(data=bytes(m.data), last=m.last, total_bytes=m.total_bytes)},
}

_READ_CLIENT: dict[str, _Read] = {
    "open": lambda m: Open(
        m.protocol_min,
        m.protocol_max,
        m.nonce,
        m.num_envs,
        m.entrypoint_kwargs,
        name(m.render_mode, "a render mode") or None,
        _MODE_NAMES.get(m.autoreset_mode, str(m.autoreset_mode)),
        m.exact_types,
        m.reply_early,
        m.client_version[:MAX_VERSION_CHARACTERS],
        m.render_with_step,
        m.drop_unportable_infos,
        name(m.compression, "the name of a compression") or None,
        _OBSERVATION_MODE_NAMES.get(m.observation_mode, str(m.observation_mode)),
        lease(m.lease_seconds),
        m.takes_draining,
        m.traceparent,
        seconds(m.load_seconds, "a time between loads"),
    ),
    "attach": lambda m: Attach(
        m.session_id,
        m.token,
        m.server_epoch,
        m.protocol,
        [(missing.number, _whose(missing.indices)) for missing in few(m.missing, m.ByteSize())],
        m.traceparent,
    ),
    "reset": lambda m: Reset(m.number, _whose(m.indices), m.seeds, m.options, m.traceparent),
    "step": lambda m: Step(
        m.number, _whose(m.indices), list(step_leaves(m.actions)), m.variable, m.dtypes, m.given, m.traceparent
    ),
    "call": lambda m: Call(
        m.number,
        _whose(m.indices),
        name(m.name, "an attribute's name"),
        m.arguments,
        m.values if m.set else None,
        m.traceparent,
    ),
    "render": lambda m: Render(m.number, _whose(m.indices), m.traceparent),
    "close": lambda m: Close(),
    "fragment": lambda m: Fragment(m.data, m.last, m.total_bytes),
}

_PACK_SERVER: dict[type[Any], _Pack] = {
    Opened: lambda m: {
        "opened": pb.Opened(
            protocol=m.protocol,
            session_id=m.session_id,
            token=m.token,
            server_epoch=m.server_epoch,
            lease_seconds=m.lease_seconds,
            observation_space=pack_space(m.observation_space),
            action_space=pack_space(m.action_space),
            spec_json=encodable(m.spec_json),
            metadata=m.metadata,
            render_mode=encodable(m.render_mode or ""),
            env_ids=m.env_ids,
            hosted_vector=m.hosted_vector,
            spec_kwargs=m.spec_kwargs,
            actions_as_given=m.actions_as_given,
            observation_spaces=map(pack_space, m.observation_spaces),
            kept_kwargs=map(encodable, m.kept_kwargs),
        )
    },
    Attached: lambda m: {"attached": pb.Attached(highest=m.highest, lease_seconds=m.lease_seconds)},
    Transition: lambda m: {
        "transition": pb.Transition(
            number=m.number,
            indices=m.indices or (),
            observations=[bytes(leaf) for leaf in m.observations],
            rewards=np.frombuffer(m.rewards, "<f8").tolist(),
            terminations=np.frombuffer(m.terminations, np.bool_).tolist(),
            truncations=np.frombuffer(m.truncations, np.bool_).tolist(),
            infos=[bytes(info) for info in m.infos],
            failures=[pack_failure(failure) for failure in m.failures],
        )
    },
    Refused: lambda m: {
        "refused": pb.Refused(
            number=m.number,
            limit=encodable(m.limit),
            message=encodable(m.message),
            failure=None if m.failure is None else pack_failure(m.failure),
        )
    },
    Load: lambda m: {"load": pb.Load(**vars(m))},
    Lost: lambda m: {"lost": pb.Lost(reason=encodable(m.reason), detail=encodable(m.detail))},
    Closed: lambda m: {"closed": pb.Closed()},
    Draining: lambda m: {"draining": pb.Draining(seconds=m.seconds)},
    Fragment: _PACK_CLIENT[Fragment],
    Bundle: lambda m: {"bundle": pb.Bundle(messages=m.messages)},
}


def _spaces_of_each(m: pb.Opened) -> tuple[SpaceData, ...]:
    """Return the observation space of each environment, if they differ; their number is looked at before they are."""
    if len(m.observation_spaces) not in (0, len(m.env_ids)):
        raise ProtocolError(f"told of {len(m.observation_spaces)} observation spaces of {len(m.env_ids)}")
    return read_spaces(m.observation_spaces)


_READ_SERVER: dict[str, _Read] = {
    "opened": lambda m: Opened(
        m.protocol,
        m.session_id,
        m.token,
        m.server_epoch,
        lease(m.lease_seconds),
        read_space(m.observation_space),
        read_space(m.action_space),
        m.spec_json,
        m.metadata,
        m.render_mode or None,
        list(m.env_ids),
        m.hosted_vector,
        m.spec_kwargs,
        m.actions_as_given,
        _spaces_of_each(m),
        tuple(m.kept_kwargs),
    ),
    "attached": lambda m: Attached(m.highest, lease(m.lease_seconds)),
    "transition": lambda m: Transition(
        m.number,
        _indices(m.indices),
        list(m.observations),
        np.array(m.rewards, "<f8").tobytes(),
        _flag_bytes(m.terminations),
        _flag_bytes(m.truncations),
        list(m.infos),
        _read_failures(m),
    ),
    "returned": lambda m: Returned(m.number, _indices(m.indices), list(m.values), _read_failures(m)),
    "refused": lambda m: Refused(
        m.number, m.limit, m.message, _read_failure(m.failure) if m.HasField("failure") else None
    ),
    "load": lambda m: Load(
        m.num_workers,
        m.envs,
        seconds(m.env_step_seconds, "a step's time"),
        seconds(m.step_seconds_p50, "a step's time"),
        seconds(m.step_seconds_p90, "a step's time"),
        seconds(m.step_seconds_p99, "a step's time"),
    ),
    "lost": lambda m: Lost(m.reason, m.detail),
    "closed": lambda m: Closed(),
    "draining": lambda m: Draining(lease(m.seconds)),
    "fragment": lambda m: Fragment(m.data, m.last, m.total_bytes),
    "bundle": lambda m: _read_bundle(m),
}


def pack_client(message: ClientMessage | Fragment) -> bytes:
    """Return `message` as a serialised ClientMessage."""
    if type(message) is Step:
        return frames.pack_step(message)
    return pb.ClientMessage(**_PACK_CLIENT[type(message)](message)).SerializeToString()


def pack_server(message: ServerMessage | Fragment | Bundle) -> bytes:
    """Return `message` as a serialised ServerMessage."""
    if type(message) is Transition:
        return frames.pack_transition(message)
    if type(message) is Returned:
        return frames.pack_returned(message)
    return pb.ServerMessage(**_PACK_SERVER[type(message)](message)).SerializeToString()


def read_client(data: bytes) -> ClientMessage | Fragment:
    """Return the message that a serialised ClientMessage holds.

    Raises:
        ProtocolError: This is no such message.
    """
    if data[:1] in _STEP:
        try:
            return frames.read_step(data)
        except frames.UnusualEncoding:
            pass
    return _read(pb.ClientMessage(), data, _READ_CLIENT)  # type: ignore[no-any-return]


def read_server(data: Buffer) -> ServerMessage | Fragment | Bundle:
    """Return the message that a serialised ServerMessage holds.

    Of a Transition the arrays look into `data`, and can be written if that can; all else is copied.

    Raises:
        ProtocolError: This is no such message.
    """
    if data[:1] == frames.TRANSITION_BYTE:  # the usual case
        try:
            return frames.read_transition(data)
        except frames.UnusualEncoding:
            pass
    return _read(pb.ServerMessage(), bytes(data), _READ_SERVER)  # type: ignore[no-any-return]


class OversizeError(ProtocolError):
    """A first message that is larger than one may be; it was not parsed."""


def begins_session(data: bytes) -> bool:
    """Return whether `data`, the first message of a stream, is an Open or an Attach."""
    return data[:1] in _BEGINNINGS


def read_first(data: bytes) -> Open | Attach:
    """Return the first message of a stream, looked at before anything is parsed.

    Raises:
        ProtocolError: This is neither Open nor Attach.
        OversizeError: It is larger than one may be.
    """
    if not begins_session(data):
        raise ProtocolError("a stream begins with Open or Attach")
    if len(data) > MAX_FIRST_BYTES:
        raise OversizeError(
            f"the first message of a stream takes {len(data):,} bytes, the limit is {MAX_FIRST_BYTES:,}: put large "
            f"keyword arguments in a file that the entrypoint reads"
        )
    return _read(pb.ClientMessage(), data, _READ_CLIENT)  # type: ignore[no-any-return]


def _tags(envelope: Any, *names: str) -> frozenset[bytes]:
    """Return the first bytes of messages of these kinds, or of all: their field's number, length-delimited."""
    fields = [field for field in envelope.DESCRIPTOR.fields if not names or field.name in names]
    return frozenset(bytes((field.number << 3 | 2,)) for field in fields)


_KINDS = {envelope: _tags(envelope) for envelope in (pb.ClientMessage, pb.ServerMessage)}
_BEGINNINGS = _tags(pb.ClientMessage, "open", "attach")
_STEP = _tags(pb.ClientMessage, "step")
_CONTAINERS = _tags(pb.ServerMessage, "fragment", "bundle")


def _read(envelope: Any, data: bytes, readers: dict[str, _Read]) -> Any:
    _check_envelope(data, _KINDS[type(envelope)])
    try:
        envelope.ParseFromString(data)
    except DecodeError as error:
        raise ProtocolError(f"malformed message: {error}") from None
    kind = envelope.WhichOneof("message")
    return readers[kind](getattr(envelope, kind))


def _check_envelope(data: bytes, kinds: frozenset[bytes]) -> None:
    """Check that `data` holds one field, of one of these kinds: its first byte then says what it is.

    Protobuf would take the last of many, and keep memory for each of them.

    Raises:
        ProtocolError: It does not.
    """
    if data[:1] not in kinds:
        raise ProtocolError(
            "a message that is malformed or of an unknown kind: if the peer is newer, upgrade this side"
        )
    try:
        length, at = read_varint(data, 1)
    except IndexError:
        raise ProtocolError("malformed message: it ends in the middle of a field") from None
    if at + length != len(data):
        raise ProtocolError("malformed message: its one field does not fill it")


def split(data: bytes, pack: Callable[[Fragment], bytes]) -> Iterator[bytes]:
    """Yield `data` as it is, or as fragments made by `pack` if it is too large for one message."""
    if len(data) <= FRAGMENT_BYTES:
        yield data
        return
    view = memoryview(data)
    for start in range(0, len(data), FRAGMENT_BYTES):
        piece = view[start : start + FRAGMENT_BYTES]
        yield pack(Fragment(piece, start + FRAGMENT_BYTES >= len(data), len(data)))


class Joiner:
    """Fragments -> whole messages, for one direction of one stream.

    Attributes:
        held_bytes: Of a message whose last piece has not come yet.
    """

    def __init__(self, read: Callable[[bytes], Any], max_bytes: int = MAX_WHOLE_BYTES) -> None:
        """Join what `read` returns as `Fragment`, up to messages of `max_bytes`."""
        self._read = read
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self.held_bytes = 0

    def feed(self, data: bytes) -> Any:
        """Return the message in `data`, or None if it was a fragment that is not the last.

        Raises:
            ProtocolError: The bytes are no message, or the fragments do not fit together.
        """
        return self.join(self._read(data))

    def join(self, message: Any) -> Any:
        """Do what `feed` does with a message that was read already."""
        if type(message) is not Fragment:
            if self._pieces:
                raise ProtocolError("a message came in between the fragments of another")
            return message
        self._take(message)
        if not message.last:
            return None
        whole, self._pieces, self.held_bytes = b"".join(self._pieces), [], 0
        inner = self._read(whole)
        if type(inner) is Fragment:
            raise ProtocolError("a fragment holds a fragment")
        return inner

    def _take(self, fragment: Fragment) -> None:
        size = self.held_bytes + len(fragment.data)
        if not fragment.data and not fragment.last:
            raise ProtocolError("a fragment is empty and not the last")
        if fragment.total_bytes > self._max_bytes or size > fragment.total_bytes:
            raise ProtocolError(f"a fragmented message is larger than it says or than {self._max_bytes} bytes")
        self._pieces.append(bytes(fragment.data))
        self.held_bytes = size


def pack_description(description: Description) -> bytes:
    """Return a serialised DescribeReply."""
    fields = {**vars(description), "version": encodable(description.version)}
    return pb.DescribeReply(**fields).SerializeToString()


def read_description(data: bytes) -> Description:
    """Return what a serialised DescribeReply says.

    Raises:
        ProtocolError: This is no such message.
    """
    reply = pb.DescribeReply()
    try:
        reply.ParseFromString(data)
    except DecodeError as error:
        raise ProtocolError(f"malformed message: {error}") from None
    fields = {field: getattr(reply, field) for field in Description.__dataclass_fields__}
    fields["env_step_seconds"] = seconds(reply.env_step_seconds, "a step's time")
    return Description(**{**fields, "version": reply.version[:MAX_VERSION_CHARACTERS]})


def common_protocol(theirs: tuple[int, int], peer: str, ours: tuple[int, int] = (PROTOCOL_MIN, PROTOCOL_MAX)) -> int:
    """Return the newest protocol version both sides speak.

    Args:
        theirs: Oldest and newest version of the peer.
        peer: ``"client"`` or ``"server"``: who the peer is.
        ours: Oldest and newest version of this side.

    Raises:
        ProtocolError: There is none; says which side to upgrade.
    """
    newest = min(theirs[1], ours[1])
    if newest >= max(theirs[0], ours[0]):
        return newest
    us = "server" if peer == "client" else "client"
    older = peer if theirs[1] < ours[0] else us
    raise ProtocolError(
        f"no common protocol version: the {peer} speaks {theirs[0]} to {theirs[1]}, the {us} {ours[0]} to {ours[1]}; "
        f"upgrade remote_gym on the {older}"
    )
