"""Server process, no I/O: what a client may touch of environments that another has chosen: the owner's word decides.

There are two kinds of clients. The owner of the server, who is at the other end of its own unix-domain socket, may do
what it could do in a process of its own. All others, also those on loopback (which ssh, containers and other users
reach), may do what is listed: give keyword arguments, set attributes, and call and read public names.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from remote_gym.arguments import OF_THE_SERVER, kwargs_remedy
from remote_gym.errors import MisuseError
from remote_gym.server.refusals import RefusalError
from remote_gym.texts import REACHABLE, printable

EVERY = "*"
"""Stands for all names."""

Names = tuple[str, ...]


@dataclass(frozen=True)
class Permissions:
    """What a client may touch.

    Attributes:
        client_kwargs: Keyword arguments that it may give, over the owner's.
        calls: Patterns of public names that it may call and read; None: all, but those of wrappers that write files.
        sets: Patterns of public names that it may set.
        is_owner: Whether it is the server's owner, who may touch everything that is public.
        kept_kwargs: Names of keyword arguments that it has given, and which are set aside; it is told so.
    """

    client_kwargs: Names = ()
    calls: Names | None = None
    sets: Names = ()
    is_owner: bool = False
    kept_kwargs: Names = ()

    def sift_kwargs(self, names: Iterable[str], owners: Container[str]) -> Permissions:
        """Return the permissions of a client that gives the keyword arguments `names`, where the owner gives `owners`.

        Where the owner has a value of its own, that stands, unless the name is listed: the client's is among those that
        are set aside. So do `env_id` and what follows from the render mode, listed or not.

        Raises:
            RefusalError: One is not the client's to give; names it, and what the owner would have to say.
        """
        if self.is_owner:
            return self
        kept: dict[str, None] = {}
        for name in names:
            is_listed = EVERY in self.client_kwargs or name in self.client_kwargs
            if name in OF_THE_SERVER or (name in owners and not is_listed):
                kept[name] = None
            elif not is_listed:
                raise RefusalError("allow_client_kwargs", self._kwarg_refusal(name))
        return replace(self, kept_kwargs=tuple(kept)) if kept else self

    def _kwarg_refusal(self, name: str) -> str:
        allowed = ", ".join(self.client_kwargs)
        said = f"they may give {allowed}" if allowed else "they may give none"
        return (
            f"entrypoint_kwargs[{printable(name)!r}] is not for clients of this server to give: {said}. "
            f"{kwargs_remedy(printable(name))}"
        )

    def check_call(self, name: str) -> bool:
        """Refuse to call, or read, what is not listed.

        Returns:
            Whether workers must refuse what a wrapper has that writes files.

        Raises:
            RefusalError: It is not; says what the owner would have to say.
        """
        if self.is_owner:
            return False
        if self.calls is None:
            return True
        if not _matches(name, self.calls):
            raise RefusalError("allow_call", _refusal("called or read", name, self.calls, "allow-call", "allow_call"))
        return False

    def check_set(self, name: str) -> None:
        """Refuse to set what is not listed; the numbers of a `TimeLimit` that scripts set are always.

        Raises:
            RefusalError: It is not; says what the owner would have to say.
        """
        if not self.is_owner and name not in REACHABLE and not _matches(name, self.sets):
            raise RefusalError("allow_set", _refusal("set", name, self.sets, "allow-set", "allow_set"))


NOBODYS = Permissions()
"""What a client may do of whom the owner has said nothing."""

OWNER = Permissions(is_owner=True)
"""What the owner of a server may do."""


def _matches(name: str, patterns: Names) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _refusal(done: str, name: str, patterns: Names, flag: str, argument: str) -> str:
    shown = printable(name)
    allowed = f"only {', '.join(patterns)} can" if patterns else "no attribute can"
    return (
        f"{shown!r} cannot be {done} by clients of this server: {allowed}. Its owner can allow it with "
        f"--{flag} {shown} ({argument}=[{shown!r}]); over its own unix socket, and with RemoteVectorEnv.local, all "
        f"public names are free"
    )


def listed(given: object, argument: str) -> Names:
    """Return the names, or patterns of names, that an owner has listed.

    Args:
        given: Names; or a text of them with commas in between; ``"*"``, or True: all; None, or False: none.
        argument: Where they were given.

    Raises:
        MisuseError: These are no names.
    """
    if given is None or isinstance(given, bool):
        return (EVERY,) if given else ()
    if isinstance(given, str):
        given = [piece.strip() for piece in given.split(",")] if given else []
    names: list[object] = list(given) if isinstance(given, Iterable) and not isinstance(given, bytes) else [given]
    for name in names:
        if not isinstance(name, str) or not is_pattern(name):
            raise MisuseError(f'{argument} must be names, as in {argument}=["g", "task"], or "*", got {given!r}')
    return tuple(str(name) for name in names)


def is_pattern(name: str) -> bool:
    """Return whether `name` is one, but for ``*`` and ``?`` in it."""
    return name.replace("*", "x").replace("?", "x").isidentifier()


def permissions(client_kwargs: object, calls: object, sets: object) -> Permissions:
    """Return what clients may touch that are not the owner, as it was said to `create_remote_environment_server`.

    Raises:
        MisuseError: There is no name where one should be, or a name that is no client's.
    """
    kwargs = listed(client_kwargs, "allow_client_kwargs")
    for name in kwargs:
        if name in OF_THE_SERVER:
            raise MisuseError(f"allow_client_kwargs cannot hold {name!r}: {OF_THE_SERVER[name]}")
        if name != EVERY and not name.isidentifier():
            raise MisuseError(f'allow_client_kwargs takes whole names, or "*" for all, got {name!r}')
    return Permissions(kwargs, None if calls is None else listed(calls, "allow_call"), listed(sets, "allow_set"))
