"""No I/O: what may be said about the environments to host, by the server's owner and by a client."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypedDict

from remote_gym.errors import MisuseError


class RemoteArgs(TypedDict, total=False):
    """What to host. A plain dict will do.

    Keys:
        entrypoint: A Gymnasium id, ``"module:Id-v0"``, ``"module:function"`` or ``"file.py"`` (with
            `create_environment`), also as a path. Required on the server, refused from a client.
        entrypoint_kwargs: Keyword arguments for it; a client's are merged over the server's.
        vectorization_mode: ``"vector_entry_point"``: host the id's own vector environment, or the file's
            `create_vector_environment`. Refused from a client.
        repo: Reserved.
        reference: Reserved.
    """

    entrypoint: str | os.PathLike[str]
    entrypoint_kwargs: dict[str, Any]
    vectorization_mode: str | None
    repo: str
    reference: str


def check_args(args: Mapping[str, Any] | None, where: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    """Return `args` as a dict after looking at its keys and types.

    Raises:
        MisuseError: A key is unknown, reserved or of the wrong type; names it.
    """
    if args is None:
        return {}
    if not isinstance(args, Mapping):
        raise MisuseError(f"{where} must be a dict, got {type(args).__name__}")
    for key, value in args.items():
        if key in ("repo", "reference") and value:
            raise MisuseError(
                f"{where}[{key!r}] is reserved: fetch the repository yourself and name its entrypoint file"
            )
        if key not in allowed and key not in ("repo", "reference"):
            raise MisuseError(f"{where} has the unknown or forbidden key {key!r}; allowed: {', '.join(allowed)}")
    kwargs = args.get("entrypoint_kwargs")
    if kwargs is not None and not (isinstance(kwargs, Mapping) and all(isinstance(key, str) for key in kwargs)):
        raise MisuseError(f"{where}['entrypoint_kwargs'] must be a dict with string keys, got {kwargs!r}")
    return dict(args)


def check_settled(options: Mapping[str, Any], settled: Mapping[str, str], module: str) -> None:
    """Refuse, among the `options` of an adapter in `module`, the names that it has `settled`, each with why.

    Raises:
        MisuseError: One of them is there.
    """
    for name in options:
        if name in settled:
            raise MisuseError(f"{name} is not for the user of {module} to set: {settled[name]}")


OF_THE_SERVER = {
    "env_id": "the server numbers its environments itself",
    "enable_rendering": "it follows from the render mode, which is an argument of its own: render_mode=",
    "render_mode": "it is an argument of its own: render_mode=",
}
"""Keyword arguments that an entrypoint gets from the server, and why they are not for clients to give among others."""


def kwargs_remedy(name: str) -> str:
    """Return who can do something about a keyword argument that a client may not give."""
    return (
        f"Its owner can allow it with --allow-kwargs {name} (allow_client_kwargs=[{name!r}]), all of them with '*', or "
        f"give it itself; over its own unix socket, and with RemoteVectorEnv.local, all are free"
    )
