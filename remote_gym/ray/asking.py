"""Any process that is connected to Ray: asks a farm's keeper, and hands on where its servers are.

What is here pickles, and is small: a name, and the addresses that were known. Keys are in none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import ray
from ray.exceptions import GetTimeoutError, RayError

from remote_gym.errors import ConnectError
from remote_gym.ray.names import NAMESPACE, keeper_of

ASK_SECONDS = 2.0
"""How long an answer may take, of an actor that may be being started anew: who asks has something else to try."""


class Line:
    """The way to a farm's keeper; finds it again when it was lost."""

    def __init__(self, farm: str) -> None:
        """Ask nobody yet."""
        self._farm = farm
        self._keeper: Any = None

    def ask(self, method: str, *arguments: Any, timeout_seconds: float = ASK_SECONDS) -> Any:
        """Call a method of the keeper.

        Raises:
            ConnectError: There is none, it does not answer in time, or this process is not connected to Ray.
        """
        try:
            if not ray.is_initialized():  # else Ray would start a cluster of its own
                raise ConnectError(f"farm {self._farm}", "this process is not connected to a Ray cluster")
            if self._keeper is None:
                self._keeper = ray.get_actor(keeper_of(self._farm), NAMESPACE)
            return ray.get(getattr(self._keeper, method).remote(*arguments), timeout=timeout_seconds)
        except BaseException as error:
            self._keeper = None
            if isinstance(error, GetTimeoutError):
                said = f"its keeper did not answer within {timeout_seconds:g} s"
            elif isinstance(error, ValueError):  # what `get_actor` raises
                said = "there is no such farm on this Ray cluster, or it has ended"
            elif isinstance(error, RayError):
                said = f"its keeper cannot be asked: {type(error).__name__}: {error}"
            else:
                raise
            raise ConnectError(f"farm {self._farm}", said) from error

    def __reduce__(self) -> Any:
        """Carry the name."""
        return Line, (self._farm,)


class FarmAddresses:
    """What a client takes as `url`: where the servers are now.

    While the keeper cannot be asked, and where this process is not connected to Ray, it gives what was known last.

    Attributes:
        farm: What is to live as long as this does, in this process alone.
    """

    def __init__(self, farm: str, known: Sequence[str] = (), is_own: bool = False) -> None:
        """Begin with what is `known`; `is_own`: give each process a server of its own, and not all of them."""
        self._farm, self._known, self._is_own = farm, list(known), is_own
        self._line = Line(farm)
        self.farm: object = None

    def addresses(self) -> list[str]:
        """Return the addresses of the servers; the one server's that is this process's own.

        Raises:
            ConnectError: Nobody can say, and nothing is known.
        """
        try:
            known = self._line.ask("addresses_for", *_here()) if self._is_own else self._line.ask("addresses")
        except ConnectError:
            if not self._known:
                raise
            return list(self._known)
        self._known = known or self._known  # a keeper that was started anew knows nothing for a second
        return self._known[:1] if self._is_own else list(self._known)

    def __reduce__(self) -> Any:
        """Carry the farm's name, and what is known."""
        return FarmAddresses, (self._farm, self._known, self._is_own)

    def __repr__(self) -> str:
        """Return which farm it is."""
        return f"FarmAddresses({self._farm!r})"


def _here() -> tuple[str, str]:
    """Return Ray's ids of this process and of its node."""
    context = ray.get_runtime_context()
    return context.get_worker_id(), context.get_node_id()


class FarmCredentials(Sequence[bytes]):
    """What a client takes as `client_credentials_paths`, fetched from the keeper where it is used.

    So configurations that hold it, which trainers like to write to disk, hold no key.
    """

    def __init__(self, farm: str) -> None:
        """Fetch nothing yet."""
        self._farm = farm
        self._pem: tuple[bytes, ...] | None = None

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        """Return the PEM bytes of the authority, the client's certificate, and its key.

        Raises:
            ConnectError: The keeper cannot be asked.
        """
        if self._pem is None:
            self._pem = Line(self._farm).ask("client_credentials", timeout_seconds=10 * ASK_SECONDS)
        return self._pem[index]

    def __len__(self) -> int:
        """Return 3."""
        return 3

    def __reduce__(self) -> Any:
        """Carry the farm's name alone."""
        return FarmCredentials, (self._farm,)

    def __repr__(self) -> str:
        """Return which farm it is."""
        return f"FarmCredentials({self._farm!r})"
