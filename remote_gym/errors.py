"""No I/O: every error a user of the package can meet, as one tree.

::

    RemoteGymError
    ├── ConnectError          could not reach a server at host:port; lists the likely causes
    ├── RefusedError          the server answered no; `limit` names which of its limits or rules
    ├── EnvironmentRaised     an environment raised; env index and remote traceback (also what it has raised, see below)
    │   └── EnvironmentNeedsReset   (also gymnasium.error.ResetNeeded)
    ├── EnvironmentLost       the worker of an environment died or hung; exit code or signal, stderr tail
    ├── SessionLost           the server no longer holds this session; `reason` says why
    ├── ProtocolError         the peer sent something the contract does not allow (a bug, or another version)
    ├── TimedOut              not here in time, still pending (also a TimeoutError, and multiprocessing's)
    └── MisuseError           the caller passed something wrong (also a ValueError)
        └── CodecError        a value that cannot travel, named by its path

What is caught locally is caught here: an environment's ``KeyError`` is raised as an error that is an
``EnvironmentRaised`` and a ``KeyError``, and one of its own type as the nearest types of Python and Gymnasium that it
is derived from: NumPy's ``AxisError`` is a ``ValueError`` and an ``IndexError``. `StopIteration` and what is no
`Exception`, as `SystemExit`, are an ``EnvironmentRaised`` alone. Likewise a misuse for which Gymnasium raises a
``TypeError``, ``AttributeError`` or ``RuntimeError`` is that and a ``MisuseError``.

Where Gymnasium has an error of its own for a misuse (``AlreadyPendingCallError``, ``NoAsyncCallError``,
``ClosedEnvironmentError``, ``ResetNeeded``), that one is raised. The first two do not pickle by themselves: with this
module they do.

All of them pickle, with their attributes and notes, and with what they were raised from: that error itself if it
pickles, else a `RemoteGymError` with its type and text. Who has only the type and the error, as Gymnasium's
`AsyncVectorEnv` in the parent, may call the one with the other: that is the same error again.
"""

from __future__ import annotations

import builtins
import contextlib
import copyreg
import multiprocessing
import pickle
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

from remote_gym.gym import ResetNeeded, error

_BUILTIN = """
    ArithmeticError AssertionError AttributeError BlockingIOError BrokenPipeError BufferError BytesWarning
    ChildProcessError ConnectionAbortedError ConnectionError ConnectionRefusedError ConnectionResetError
    DeprecationWarning EOFError FileExistsError FileNotFoundError FloatingPointError FutureWarning ImportError
    ImportWarning IndentationError IndexError InterruptedError IsADirectoryError KeyError LookupError MemoryError
    ModuleNotFoundError NameError NotADirectoryError NotImplementedError OSError OverflowError
    PendingDeprecationWarning PermissionError ProcessLookupError RecursionError ReferenceError ResourceWarning
    RuntimeError RuntimeWarning SyntaxError SyntaxWarning SystemError TabError TimeoutError TypeError
    UnboundLocalError UnicodeDecodeError UnicodeEncodeError UnicodeError UnicodeTranslateError UnicodeWarning
    UserWarning ValueError Warning ZeroDivisionError
"""
_GYMNASIUM = """
    AlreadyPendingCallError ClosedEnvironmentError CustomSpaceError DependencyNotInstalled DeprecatedEnv
    DeprecatedWrapper Error InvalidAction InvalidBound InvalidMetadata InvalidProbability MissingArgument
    NameNotFound NamespaceNotFound NoAsyncCallError RegistrationError ResetNeeded UnregisteredEnv UnsupportedMode
    VersionNotFound
"""
_TYPES: dict[str, type[Exception]] = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module, names in ((builtins, _BUILTIN), (error, _GYMNASIUM))
    for name in names.split()
    if hasattr(module, name)  # not all of Gymnasium's are in its older versions
}
"""The types a remote exception can be, by the name that travels. Fixed: what a peer names is found here or nowhere.

Left out is what has a meaning of its own where it is raised: `StopIteration` ends a loop without a word.
"""

_OWN: tuple[tuple[type[Exception], dict[str, Any]], ...] = (
    (SyntaxError, {"msg": property(str)}),  # of which a traceback is made
    (ImportError, {"msg": property(str)}),
    (error.AlreadyPendingCallError, {"name": ""}),
    (error.NoAsyncCallError, {"name": ""}),
)
"""Attributes that the constructors of these types would set."""


class _OfAnError(type):
    """Makes an error out of nothing but one of its very type: the same again, with text and attributes."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs and type(args[0]) is cls:
            return _again(cls, args[0].args, args[0].__dict__, args[0].__cause__)
        return super().__call__(*args, **kwargs)


class RemoteGymError(Exception, metaclass=_OfAnError):
    """Base of every error this package raises on purpose."""

    # A subclass may be a builtin type as well (see `also`), whose constructor, text and pickling are not ours.

    def __init__(self, text: str = "") -> None:
        """State what happened."""
        Exception.__init__(self, text)

    def __str__(self) -> str:
        """Return the text as it is: of a `KeyError` it would be the repr."""
        return Exception.__str__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to make the same error again: with its text and attributes, not by its constructor."""
        return _again, (type(self), self.args, self.__dict__, _portable(self.__cause__))


def _portable(cause: BaseException | None) -> BaseException | None:
    """Return what an error was raised from, or what stands for it where it does not pickle."""
    if cause is None:
        return None
    try:
        pickle.loads(pickle.dumps(cause))
        return cause
    except Exception:  # whatever an error's own pickling may raise
        return RemoteGymError(f"{_full_name(type(cause))}: {cause}")


def _again(
    kind: type[RemoteGymError],
    args: tuple[Any, ...],
    attributes: dict[str, Any],
    cause: BaseException | None = None,
) -> RemoteGymError:
    layout: Any = kind
    while layout.__module__ != builtins.__name__:  # whose constructor is the one that may make it
        layout = layout.__base__
    again: RemoteGymError = layout.__new__(kind)
    again.args = args
    again.__dict__.update(attributes)
    again.__cause__ = cause
    return again


class ConnectError(RemoteGymError):
    """The server could not be reached, or the TLS handshake with it failed.

    Attributes:
        address: ``host:port`` that was tried.
        causes: Likely causes, most likely first.
    """

    def __init__(self, address: str, summary: str, causes: Sequence[str] = ()) -> None:
        """State the address, what happened and what to look at."""
        self.address = address
        self.summary = summary
        self.causes = tuple(causes)
        lines = [f"cannot connect to {address}: {summary}"]
        lines += [f"  - {cause}" for cause in self.causes]
        super().__init__("\n".join(lines))


class RefusedError(RemoteGymError):
    """The server refused a request; nothing was executed and the session, if there was one, goes on.

    Attributes:
        limit: Name of the limit or rule that refused, e.g. ``"max_envs"``, ``"row_memory"`` or ``"draining"``.
    """

    def __init__(self, message: str, limit: str = "") -> None:
        """State what was refused and by which limit."""
        self.limit = limit
        super().__init__(message)


class EnvironmentRaised(RemoteGymError):
    """An environment raised an exception in its worker; the worker and all other environments go on.

    It is also an instance of what was raised: of the nearest type of Python or Gymnasium.

    Attributes:
        env_index: Row of the environment in the client's batch.
        remote_type: Qualified name of the exception type, e.g. ``"builtins.ZeroDivisionError"``.
        remote_traceback: The traceback as the worker printed it.
    """

    def __init__(self, message: str, env_index: int = 0, remote_type: str = "", remote_traceback: str = "") -> None:
        """State what the environment raised, where, and the remote traceback."""
        self.env_index = env_index
        self.remote_type = remote_type
        self.remote_traceback = remote_traceback
        super().__init__(f"{message}\n\nRemote traceback:\n{remote_traceback}" if remote_traceback else message)


class EnvironmentNeedsReset(EnvironmentRaised, ResetNeeded):
    """An environment was stepped or rendered before the reset it needs."""


class EnvironmentLost(RemoteGymError):
    """The worker process of an environment died or was killed for hanging.

    Attributes:
        env_index: Row of the environment in the client's batch.
        reason: Exit code or signal, e.g. ``"killed by SIGKILL"``, ``"exit code 3"``, ``"hung in step"``.
        stderr_tail: The last lines the worker wrote, oldest first.
    """

    def __init__(self, message: str, env_index: int = 0, reason: str = "", stderr_tail: str = "") -> None:
        """State which environment was lost, how its worker ended and what it last said."""
        self.env_index = env_index
        self.reason = reason
        self.stderr_tail = stderr_tail
        super().__init__(f"{message}\n\nLast output of the worker:\n{stderr_tail}" if stderr_tail else message)


class SessionLost(RemoteGymError):
    """The server no longer holds this session, so its environments are gone.

    Attributes:
        reason: ``"SERVER_RESTARTED"``, ``"EXPIRED"``, ``"GAVE_WAY"``, ``"FENCED"``, ``"CLOSED"``, ``"UNREACHABLE"``,
            ``"BROKEN"``, ``"ENDED"``: by the server's owner, or ``"REVOKED"``: the token or the certificate is valid no
            longer.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        """State the exact reason and what it means."""
        self.reason = reason
        super().__init__(f"session lost: {reason}" + (f" ({detail})" if detail else ""))


class ProtocolError(RemoteGymError):
    """The peer sent a message that the contract does not allow, or speaks no common protocol version."""


class TimedOut(RemoteGymError, TimeoutError, multiprocessing.TimeoutError):
    """What was waited for did not come in time. Nothing is lost: it is still pending, and the next wait gets it."""


class MisuseError(RemoteGymError, ValueError):
    """The caller passed something wrong; nothing was sent and the next good call works."""


class CodecError(MisuseError):
    """A value cannot travel.

    Attributes:
        path: Where the value sits, e.g. ``"info['contacts'][3]"``.
    """

    def __init__(self, message: str, path: str = "") -> None:
        """State where the value sits and why it cannot travel."""
        self.path = path
        super().__init__(f"{path}: {message}" if path else message)


Kind = TypeVar("Kind", bound=RemoteGymError)


def also(kind: type[Kind], *bases: type[Exception]) -> type[Kind]:
    """Return the type of errors that are of `kind` and of `bases`, types of Python's or Gymnasium's, alike.

    Raises:
        TypeError: Nothing can be of all of these.
    """
    more = {base for base in bases if not issubclass(kind, base)}
    nearest = [base for base in more if not any(issubclass(other, base) for other in more - {base})]
    if not nearest:
        return kind
    return _joined(kind, *sorted(nearest, key=_name))  # type: ignore[arg-type, return-value]


@lru_cache(maxsize=None)
def _joined(kind: type[RemoteGymError], *bases: type[Exception]) -> type[RemoteGymError]:
    attributes: dict[str, Any] = {"__doc__": kind.__doc__, "__module__": __name__}
    for of, own in _OWN:
        if any(issubclass(base, of) for base in bases):
            attributes.update(own)
    return type(f"{kind.__name__}[{', '.join(map(_name, bases))}]", (kind, *bases), attributes)


def _name(kind: type) -> str:
    return kind.__name__


def _reduced(one: Any) -> tuple[Any, ...]:
    """Return how to make one of Gymnasium's errors again whose constructors ask for a name; of them, not of ours."""
    return type(one), (str(one), one.name), one.__dict__


for _kind in (error.AlreadyPendingCallError, error.NoAsyncCallError):
    copyreg.pickle(_kind, _reduced)  # type: ignore[arg-type]


MAX_BASES = 3
"""Of what an environment has raised. Each set of them is a type that stays, and a server could go through all sets."""


def raised(names: str) -> type[EnvironmentRaised]:
    """Return the type of error for what an environment has raised; plain where nothing is known by these `names`."""
    bases = [_TYPES[name] for name in names.split(",", MAX_BASES)[:MAX_BASES] if name in _TYPES]
    kind = EnvironmentNeedsReset if ResetNeeded in bases else EnvironmentRaised
    try:
        return also(kind, *bases)
    except TypeError:  # no environment can have raised such a thing
        return kind


def known_names(error_type: type[BaseException]) -> str:
    """Return the names of the nearest types that `raised` knows, of `error_type` and those it is derived from."""
    nearest: list[type[Exception]] = []
    for base in error_type.__mro__:
        known = _TYPES.get(_full_name(base))
        if known is base and not any(issubclass(other, known) for other in nearest):
            nearest.append(known)
    return ",".join(map(_full_name, nearest[:MAX_BASES]))


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def __getattr__(name: str) -> Any:
    """Return a type that `also` has made, in this process or in another one: pickles name it so."""
    kind, _, bases = name.partition("[")
    known = {_name(one): one for one in _TYPES.values()}
    named = [known.get(base) for base in bases[:-1].split(", ")]
    own = globals().get(kind)
    if isinstance(own, type) and issubclass(own, RemoteGymError) and None not in named:
        with contextlib.suppress(TypeError):  # these have no type in common
            if (made := also(own, *named)).__name__ == name:  # type: ignore[arg-type]
                return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
