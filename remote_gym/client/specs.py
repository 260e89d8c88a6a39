"""Trainer process, no I/O: `env.spec` from what a server says. A server names no code: that is this side's registry's.

`EnvSpec.make` imports and calls whatever `entry_point`, `vector_entry_point` and the wrappers of a spec name, and
`gymnasium.make` imports what stands before a colon in an id (``gymnasium/envs/registration.py``, 1.1 to 1.4). So of
what a server says these are kept only where the registry of this process has the very same for the same id. All else is
data: numbers, flags and keyword arguments.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, WrapperSpec

from remote_gym import values
from remote_gym.errors import ProtocolError
from remote_gym.texts import MAX_NAME_BYTES

MAX_SPEC_CHARACTERS = 4 * 2**20
"""Of one spec as JSON. Real ones have hundreds; a list in JSON takes 2 characters here and 56 bytes in memory."""

RELAYS = frozenset({"GymV21Environment-v0", "GymV26Environment-v0", "remote_gym/Remote-v0"})
"""Registered ids whose keyword arguments name what is run: another id, with a module to import before its colon (the
first two, of shimmy), or a server to dial. A peer's arguments must not reach them."""

_scalar = (int, float, bool, str, type(None))  # nobody checks these where a spec is registered: they are data
_FIELDS: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "entry_point": (str, type(None)),
    "vector_entry_point": (str, type(None)),
    "reward_threshold": _scalar,
    "nondeterministic": _scalar,
    "max_episode_steps": _scalar,
    "order_enforce": _scalar,
    "disable_env_checker": _scalar,
    "kwargs": (dict,),
}
"""What a spec is made of; what a newer Gymnasium adds to it is left out."""

_WRAPPER_FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "entry_point": (str,),
    "kwargs": (dict, type(None)),
}


def read_spec(text: str, packed_kwargs: bytes) -> EnvSpec:
    """Return the spec that a server has sent, without any code that this process has not registered itself.

    Args:
        text: `EnvSpec.to_json()` of the hosted environment.
        packed_kwargs: Its keyword arguments and those of its wrappers, with their own types; empty: as in `text`.

    Raises:
        ProtocolError, CodecError, gymnasium.error.Error, ValueError, RecursionError: This is no spec.
    """
    if len(text) > MAX_SPEC_CHARACTERS:
        raise ProtocolError(f"a spec of {len(text):,} characters")
    said = json.loads(text)
    if type(said) is not dict:
        raise ProtocolError("a spec must be a JSON object")
    wrappers = said.pop("additional_wrappers", [])
    if type(wrappers) is not list:
        raise ProtocolError("a spec's additional_wrappers must be a list")
    fields = _checked(said, _FIELDS, "id")
    fields["id"] = _plain_id(fields["id"])
    spec = EnvSpec(**fields)
    spec.additional_wrappers = tuple(
        WrapperSpec(**_checked(one, _WRAPPER_FIELDS, *_WRAPPER_FIELDS)) for one in wrappers
    )
    if packed_kwargs:
        _take_kwargs(spec, values.unpack(packed_kwargs, "spec"))
    _forget_code(spec)
    return spec


def _checked(said: Any, fields: dict[str, tuple[type, ...]], *needed: str) -> dict[str, Any]:
    """Return the known fields of `said`, which must be of their types."""
    if type(said) is not dict or not said.keys() >= set(needed):
        raise ProtocolError(f"a spec lacks one of {', '.join(needed)}")
    for name, kinds in fields.items():
        if name in said and type(said[name]) not in kinds:
            raise ProtocolError(f"a spec whose {name} is of type {type(said[name]).__name__}")
    return {name: said[name] for name in fields if name in said}


def _plain_id(text: str) -> str:
    """Return the id without a module before a colon: users hand ids to `gymnasium.make`, which would import that."""
    if len(text) > MAX_NAME_BYTES:
        raise ProtocolError(f"a spec whose id has {len(text):,} characters")
    return text.rpartition(":")[2]


def _take_kwargs(spec: EnvSpec, said: Any) -> None:
    """Put in the keyword arguments with their own types."""
    if type(said) is not list or len(said) != 2 or type(said[1]) is not list:
        raise ProtocolError("a spec's keyword arguments must be those of the environment and a list of its wrappers'")
    kwargs, of_wrappers = said
    if type(kwargs) is not dict or not {dict, type(None)}.issuperset(map(type, of_wrappers)):
        raise ProtocolError("a spec's keyword arguments must be dicts")
    spec.kwargs = kwargs
    spec.additional_wrappers = tuple(
        replace(wrapper, kwargs=kwargs) for wrapper, kwargs in zip(spec.additional_wrappers, of_wrappers, strict=True)
    )


def _forget_code(spec: EnvSpec) -> None:
    """Take out every entry point that is not this process's own for this id."""
    ours = None if spec.id in RELAYS else gymnasium.registry.get(spec.id)
    if ours is None or spec.entry_point != ours.entry_point:
        spec.entry_point = None
    if ours is None or spec.vector_entry_point != ours.vector_entry_point:
        spec.vector_entry_point = None
    known = () if ours is None else ours.additional_wrappers
    spec.additional_wrappers = tuple(
        wrapper
        for wrapper in spec.additional_wrappers
        if any((wrapper.name, wrapper.entry_point) == (one.name, one.entry_point) for one in known)
    )
