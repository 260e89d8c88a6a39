"""The driver: a farm of servers on a Ray cluster, and the clients that use it."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from remote_gym import RemoteVectorEnv
from remote_gym.arguments import check_settled
from remote_gym.certificates import Authority
from remote_gym.errors import ConnectError, MisuseError, RefusedError
from remote_gym.ray.asking import FarmAddresses, FarmCredentials, Line
from remote_gym.ray.keeper import Plan, ServerStatus
from remote_gym.ray.names import NAMESPACE, TLS_NAME, Slot, checked, keeper_of, server_of, slot_of
from remote_gym.ray.placing import fitting_nodes, groups_of, release, reserve
from remote_gym.ray.server import Server
from remote_gym.ray.watching import WatchingKeeper

PER_NODE = "per-node"

GRACE_SECONDS = 10.0
"""How long a server lets running requests take when it ends, unless `grace_seconds` says otherwise."""

END_SECONDS = 5.0
"""Beyond that, to close environments and end workers, before its process is killed."""

SETTLED_BY_SERVERS = {
    "url": "each server listens on its node's address",
    "port": "each server takes any free one",
    "server_credentials_paths": "the farm makes certificates",
    "allow_insecure": "the farm makes certificates",
}
SETTLED_BY_CLIENTS = {
    "url": "the farm knows its servers",
    "port": "the farm knows its servers",
    "client_credentials_paths": "the farm makes certificates",
    "tls_name": "the farm makes certificates",
}


class Farm:
    """Servers on the nodes of a Ray cluster, with certificates of their own; Ray starts anew those that are lost.

    Connects to Ray as Ray's own calls do if that was not done yet: to the cluster that ``RAY_ADDRESS`` names, else to
    one that is started on this machine.

    Closing contract: `close` is bounded in time, may be called twice, and ends all servers with their environments; so
    do the end of a ``with`` block, `ray.shutdown` and the end of this process, however it ends. A farm that is
    `detached` goes on without its driver, and only `close` ends it.

    Attributes:
        name: By which other processes on the cluster find it.
    """

    def __init__(
        self,
        entrypoint: str | os.PathLike[str],
        servers: int | str = PER_NODE,
        *,
        entrypoint_kwargs: Mapping[str, Any] | None = None,
        vectorization_mode: str | None = None,
        num_cpus: float = 1,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        name: str | None = None,
        detached: bool = False,
        start_timeout_seconds: float = 120.0,
        **server_args: Any,
    ) -> None:
        """Start it; returns when all servers listen.

        Args:
            entrypoint: What to host, as for a server. A ``.py`` file is sent to the nodes, without what is beside it;
                where `runtime_env`, or that of the job, has a `working_dir`, a relative path is one of that folder.
            servers: ``"per-node"``: one on each node that has what one asks for. A number: so many, spread over the
                nodes as far as there are as many.
            entrypoint_kwargs: For the entrypoint.
            vectorization_mode: As in `RemoteArgs`.
            num_cpus: CPUs that Ray reserves for each server, which is also how many workers it has, unless
                `num_workers` says otherwise.
            resources: What else, by Ray's names: ``{"GPU": 1, "simulator-licence": 1}``.
            runtime_env: What servers and their environments need on the nodes, as actors of Ray take it:
                ``{"pip": [...]}``.
            name: Of the farm; None: a new one.
            detached: Whether the farm outlives this process: `attach` finds it, and `close` ends it.
            start_timeout_seconds: How long Ray may take to find room, and servers to listen.
            server_args: Other arguments of `create_remote_environment_server`.

        Raises:
            MisuseError: An argument is wrong, there is a farm of that name, or no node has what a server asks for.
            RefusedError: Ray has found no room in time; or an environment could not be built (`probe`).
            Exception: A server could not be started: why, as it was raised there.
        """
        check_settled(server_args, SETTLED_BY_SERVERS, "remote_gym.ray")
        _connect()
        text, source = _sent_along(entrypoint, runtime_env)
        bundle = {"CPU": num_cpus, **(resources or {})}
        bundle = {resource: amount for resource, amount in bundle.items() if amount}
        if not bundle or any(not amount > 0 for amount in bundle.values()):
            raise MisuseError(f"a server takes some of what nodes have: got num_cpus={num_cpus!r}, {resources!r:.200}")
        args = {"entrypoint_kwargs": dict(entrypoint_kwargs or {}), "vectorization_mode": vectorization_mode}
        own = {"num_workers": max(1, int(num_cpus)), "admin_socket": None, "probe": True, **server_args}
        args = {argument: value for argument, value in args.items() if value}
        plan = Plan(text, source, own, args, bundle, runtime_env, servers == PER_NODE, detached)
        self._take(checked(f"farm-{secrets.token_hex(4)}" if name is None else name), plan)
        count = self._count(servers)
        self._start_keeper()
        try:
            self._grow(count, start_timeout_seconds)
        except BaseException:
            self.close()
            raise

    @classmethod
    def attach(cls, name: str) -> Farm:
        """Return a farm that another process has started on this cluster; only `close` ends it, no ``with`` block.

        Raises:
            ConnectError: There is none of that name.
        """
        _connect()
        found = cls.__new__(cls)
        found._take(checked(name), Line(name).ask("plan", timeout_seconds=10.0))
        found._is_anothers = True
        found._find_servers()
        return found

    def _take(self, name: str, plan: Plan) -> None:
        self.name, self._plan = name, plan
        self._line = Line(name)
        self._servers: dict[Slot, Any] = {}
        self._keeper: Any = None
        self._client: tuple[bytes, ...] | None = None
        self._closed = self._is_anothers = False

    def _find_servers(self) -> None:
        """Look which servers there are: another process may have started some, or ended some.

        A handle that is there is kept: Ray ends an actor when nobody has the one any more that its start returned.
        """
        found: dict[Slot, Any] = {}
        for entry in ray.util.list_named_actors(all_namespaces=True):
            slot = slot_of(self.name, entry["name"]) if entry["namespace"] == NAMESPACE else None
            if slot is not None and (server := _actor(entry["name"])) is not None:
                ours = self._servers.get(slot)
                found[slot] = ours if ours == server else server
        self._servers = dict(sorted(found.items()))

    def _start_keeper(self) -> None:
        if _actor(keeper_of(self.name)) is not None:
            raise MisuseError(f"there is a farm {self.name!r} on this Ray cluster already")
        authority = Authority.new()
        # With the driver, whose end is the farm's; one that is detached is to outlive its node. (Where it takes no
        # CPU, Ray heeds only what is not soft.)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=self._plan.detached)
        keeper: Any = ray.remote(WatchingKeeper)
        self._keeper = keeper.options(
            name=keeper_of(self.name), num_cpus=0, max_task_retries=-1, max_concurrency=16,
            scheduling_strategy=here, **self._common,
        ).remote(self.name, self._plan, authority)  # fmt: skip

    @property
    def _common(self) -> dict[str, Any]:
        env = self._plan.runtime_env
        options = {"namespace": NAMESPACE, "max_restarts": -1, "runtime_env": None if env is None else dict(env)}
        return {**options, "lifetime": "detached"} if self._plan.detached else options

    # Using it

    def vector_env(self, num_envs: int = 1, **options: Any) -> RemoteVectorEnv:
        """Return `num_envs` environments, shared out among all servers; moved to others when one is lost.

        Args:
            num_envs: How many.
            options: Other arguments of `RemoteVectorEnv`; `on_session_lost` is ``"move"`` unless they say otherwise.

        Raises:
            MisuseError: An argument is wrong.
            ConnectError: The farm has ended.
        """
        check_settled(options, SETTLED_BY_CLIENTS, "remote_gym.ray")
        where = FarmAddresses(self.name, self.addresses())
        where.farm = self  # which ends with the last of its users
        arguments = {"client_credentials_paths": self.client_credentials(), **self._of_clients, **options}
        return RemoteVectorEnv(where, num_envs=num_envs, **arguments)

    def env_config(self, **options: Any) -> dict[str, Any]:
        """Return what RLlib takes as `env_config` for ``"remote_gym:remote_gym/Remote-v0"``.

        Each env runner gets a server of its own, as far as there are as many: the one with the fewest sessions, on its
        own node if that is one of them; another one when that is lost. There is no key in the result.

        Args:
            options: Other arguments of `RemoteVectorEnv`.

        Raises:
            MisuseError: An argument is wrong.
            ConnectError: The farm has ended.
        """
        check_settled(options, SETTLED_BY_CLIENTS, "remote_gym.ray")
        where = FarmAddresses(self.name, self.addresses(), is_own=True)
        return {"url": where, "client_credentials_paths": FarmCredentials(self.name), **self._of_clients, **options}

    @property
    def _of_clients(self) -> dict[str, Any]:
        return {"tls_name": TLS_NAME, "on_session_lost": "move"}

    def client_credentials(self) -> tuple[bytes, ...]:
        """Return what clients take as `client_credentials_paths`, as PEM bytes: for clients that are not Ray's.

        Their `tls_name` is ``"farm"``.

        Raises:
            ConnectError: The farm has ended.
        """
        if self._client is None:
            self._client = self._ask("client_credentials", timeout_seconds=10.0)
        return self._client

    def addresses(self) -> list[str]:
        """Return ``"host:port"`` of all servers that run now.

        Raises:
            ConnectError: The farm has ended.
        """
        return list(self._ask("addresses"))

    def status(self) -> list[ServerStatus]:
        """Return what is known of each server, at most a few seconds old.

        Raises:
            ConnectError: The farm has ended.
        """
        self._check_open()
        self._find_servers()
        return list(self._ask("status", list(self._servers)))

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectError(f"farm {self.name}", "it was closed")

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        self._check_open()
        return self._line.ask(method, *arguments, **options)

    # Growing and shrinking

    def scale(self, servers: int | str = PER_NODE, *, start_timeout_seconds: float = 120.0) -> None:
        """Start more servers, or end some, the newest first; returns when that is done.

        Those that end are drained: clients with ``on_session_lost="move"`` build what they had there on the others, and
        only its episodes end; with `handover_seconds`, not even those: rows leave when their episodes end. What ended
        servers have reserved is Ray's again once all of those have ended that were started together with them.

        Args:
            servers: How many, or ``"per-node"``: as many as nodes have what one asks for.
            start_timeout_seconds: How long more may take to listen.

        Raises:
            MisuseError: It is no such number.
            RefusedError: Ray has found no room in time; the farm is as it was before.
            ConnectError: The farm has ended.
        """
        self._ask("addresses")
        self._find_servers()
        count, slots = self._count(servers), sorted(self._servers)
        if count > len(slots):
            self._grow(count - len(slots), start_timeout_seconds)
        else:
            self._shrink(slots[count:], self._handover_seconds)

    def _count(self, servers: object) -> int:
        if servers == PER_NODE:
            return max(1, len(fitting_nodes(self._plan.bundle)))
        if isinstance(servers, bool) or not isinstance(servers, int) or servers < 1:
            raise MisuseError(f"servers must be a positive integer or {PER_NODE!r}, got {servers!r:.80}")
        return servers

    def _grow(self, count: int, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        before = dict(self._servers)
        try:
            groups = groups_of(self.name)
            free = [Slot(step, at) for step, (_, nodes) in groups.items() for at in range(len(nodes))]
            free = [slot for slot in free if slot not in before][:count]
            if count > len(free):
                step = max(groups, default=-1) + 1
                avoided = [node for _, nodes in groups.values() for node in nodes if node]
                left = max(0.0, deadline - time.monotonic())
                reserve(self.name, self._plan, step, count - len(free), avoided if self._plan.per_node else [], left)
                free += [Slot(step, at) for at in range(count - len(free))]
            groups = groups_of(self.name)
            for slot in free:
                self._servers[slot] = self._start(slot, groups[slot.step][0])
            self._wait_for([self._servers[slot] for slot in free], deadline)
        except BaseException:
            self._shrink([slot for slot in self._servers if slot not in before])
            raise

    def _start(self, slot: Slot, group: Any) -> Any:
        bundle = dict(self._plan.bundle)
        server: Any = ray.remote(Server)
        return server.options(
            name=server_of(self.name, slot), num_cpus=bundle.pop("CPU", 0), num_gpus=bundle.pop("GPU", 0),
            resources=bundle, max_concurrency=4, **self._common,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, slot.bundle),
        ).remote(self.name, slot)  # fmt: skip

    def _wait_for(self, servers: Sequence[Any], deadline: float) -> None:
        left = max(0.0, deadline - time.monotonic())
        try:
            ray.get([server.address.remote(left) for server in servers], timeout=left + 1.0)
        except RayTaskError as error:
            raise error.cause from error
        except GetTimeoutError:
            raise RefusedError("the servers' processes have not been started by Ray in time", "placement") from None

    @property
    def _handover_seconds(self) -> float:
        return float(self._plan.server_args.get("handover_seconds") or 0.0)

    def _shrink(self, slots: Sequence[Slot], handover_seconds: float = 0.0) -> None:
        """End servers, whose sessions may go on for so long before; also what is not there any more."""
        slots = list(slots)
        self._tell("retire", slots)
        stopped = [self._servers[slot].stop.remote(handover_seconds) for slot in slots]
        grace = float(self._plan.server_args.get("grace_seconds", GRACE_SECONDS))
        try:
            if stopped:
                ray.wait(stopped, num_returns=len(stopped), timeout=handover_seconds + grace + END_SECONDS)
        finally:  # also if somebody does not want to wait
            self._kill(slots)

    def _kill(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            ray.kill(self._servers.pop(slot))
        deadline = time.monotonic() + END_SECONDS
        while any(_actor(server_of(self.name, slot)) for slot in slots) and time.monotonic() < deadline:
            time.sleep(0.05)  # until their names are free for others
        self._tell("forget", list(slots))
        for step, (group, _) in groups_of(self.name).items():
            if not any(slot.step == step for slot in self._servers):
                release(group)

    def _tell(self, method: str, slots: list[Slot]) -> None:
        with contextlib.suppress(ConnectError):  # then nobody is sent there anyway
            self._line.ask(method, slots)

    def close(self) -> None:
        """End all servers, and the farm."""
        if self._closed:
            return
        self._closed = True
        if not ray.is_initialized():
            return
        try:
            self._find_servers()
            self._shrink(sorted(self._servers))
        finally:
            keeper = self._keeper or _actor(keeper_of(self.name))
            if keeper is not None:
                ray.kill(keeper)

    def __enter__(self) -> Farm:
        """Return self."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close, unless it is detached, or was started by another process."""
        if not (self._plan.detached or self._is_anothers):
            self.close()

    def __repr__(self) -> str:
        """Return name, what is hosted, and how many servers there are."""
        state = ", closed" if self._closed else ""
        return f"<Farm {self.name} [{self._plan.entrypoint}, {len(self._servers)} servers{state}]>"


def _connect() -> None:
    if not ray.is_initialized():
        ray.init()


def _actor(name: str) -> Any:
    try:
        return ray.get_actor(name, NAMESPACE)
    except (ValueError, RayError):
        return None


def _sent_along(entrypoint: str | os.PathLike[str], runtime_env: Mapping[str, Any] | None) -> tuple[str, bytes | None]:
    """Return an entrypoint, and what is in its file if that is to be sent to the nodes.

    Raises:
        MisuseError: There is no such file, or it cannot be read.
    """
    text = os.fspath(entrypoint)
    if not isinstance(text, str) or not text.endswith(".py"):
        return text, None
    has_folder = "working_dir" in (runtime_env or {}) or ray.get_runtime_context().runtime_env.get("working_dir")
    if has_folder and not os.path.isabs(text):
        return text, None
    try:
        return os.path.basename(text), Path(text).read_bytes()
    except OSError as error:
        raise MisuseError(f"the entrypoint file {os.path.abspath(text)!r} cannot be read: {error.strerror}") from error
