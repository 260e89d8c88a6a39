"""The user's terminal: ``remote-gym check``. Is the user's own environment the same through the wire as without it?"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remote_gym.cli.entrypoints import add_entrypoint, check_file
from remote_gym.cli.kinds import COUNT, integer
from remote_gym.cli.terminal import GREEN, RED, YELLOW, paint
from remote_gym.errors import MisuseError, RemoteGymError

if TYPE_CHECKING:
    from remote_gym.testing import Record
    from remote_gym.worker.entrypoint import Recipe

DESCRIPTION = (
    "Serve an environment here, over TLS where `cryptography` is installed, and compare it step by step with the same "
    "environment made locally. One line per rule; exit code 0 if every rule holds, or differs only as is documented, "
    "else 1."
)

LOCAL_ENV_IDS = 1_000_000
"""The first env_id of local environments: far above any of the server, so that ports and displays do not collide."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_entrypoint(parser)
    for flag, default, told in (
        ("--num-envs", 3, "environments in the vector"),
        ("--steps", 100, "steps in each run"),
        ("--num-workers", 2, "worker processes"),
    ):
        parser.add_argument(
            flag, type=COUNT.argument, default=default, metavar=COUNT.metavar, help=f"{told} (default: %(default)s)"
        )
    parser.add_argument(
        "--seed", type=integer(0).argument, default=42, metavar="N", help="of resets and actions (default: %(default)s)"
    )
    parser.add_argument("--render-mode", default=None, metavar="MODE", help="compare frames too, e.g. rgb_array")


def run(arguments: argparse.Namespace) -> int:
    """Compare, print the report, and return the exit code."""
    check_file(arguments.entrypoint, "ENTRYPOINT")
    from remote_gym.worker.entrypoint import Recipe

    began = time.perf_counter()
    local = _Local(Recipe(arguments.entrypoint, arguments.entrypoint_kwargs, arguments.render_mode))
    print(f"{arguments.entrypoint}: {arguments.num_envs} environments, {arguments.steps} steps in each run")
    if not _is_deterministic(local, arguments):
        return 1
    with _serve(arguments) as (address, credentials):
        way = "loopback without TLS (no `cryptography`)" if credentials is None else "TLS"
        print(f"served over {way} by {arguments.num_workers} workers")
        remote = _Remote(address, credentials, arguments.render_mode)
        records = _compare(remote, local, arguments)
    for title, record in records.items():
        _print_record(title, record)
    return _print_summary(list(records.values()), time.perf_counter() - began)


@dataclass
class _Local:
    """Makes local environments from the entrypoint that is served."""

    recipe: Recipe

    def __post_init__(self) -> None:
        self._env_ids = itertools.count(LOCAL_ENV_IDS)
        if getattr(self.recipe, "is_vector", False):
            raise MisuseError(
                f"{self.recipe.entrypoint!r} hosts a vector environment, which has no local twin to compare with: "
                f"use remote_gym.testing.check_vector_env with factories of your own"
            )

    def single(self) -> Any:
        return self.recipe.build(next(self._env_ids))

    def vector(self, num_envs: int, autoreset_mode: Any, copy: bool) -> Any:
        from gymnasium.vector import SyncVectorEnv

        from remote_gym.testing import OwnResults

        return SyncVectorEnv([lambda: OwnResults(self.single())] * num_envs, copy=copy, autoreset_mode=autoreset_mode)


@dataclass
class _Remote:
    """Makes clients of the server."""

    address: str
    credentials: tuple[Path] | None
    render_mode: str | None

    def single(self) -> Any:
        from remote_gym import RemoteEnvironment

        return RemoteEnvironment(
            self.address, client_credentials_paths=self.credentials, render_mode=self.render_mode
        )  # fmt: skip

    def vector(self, num_envs: int, autoreset_mode: Any, copy: bool) -> Any:
        from remote_gym import RemoteVectorEnv

        return RemoteVectorEnv(
            self.address, num_envs=num_envs, client_credentials_paths=self.credentials, render_mode=self.render_mode,
            autoreset_mode=autoreset_mode, copy=copy,
        )  # fmt: skip


@contextlib.contextmanager
def _serve(arguments: argparse.Namespace) -> Iterator[tuple[str, tuple[Path] | None]]:
    """Serve the entrypoint from this process; give the address and the client's credentials."""
    from remote_gym import create_remote_environment_server

    with tempfile.TemporaryDirectory(prefix="remote_gym-check-") as folder:
        directory = Path(folder)
        server_paths = client_paths = None
        if importlib.util.find_spec("cryptography") is not None:
            from remote_gym.cli.certificates import write_certificates

            write_certificates(directory)
            server_paths = (directory / "server.pem", directory / "server-key.pem")
            client_paths = (directory / "ca.pem",)
        args = {"entrypoint": arguments.entrypoint, "entrypoint_kwargs": arguments.entrypoint_kwargs}
        with create_remote_environment_server(
            args, port=0, server_credentials_paths=server_paths, num_workers=arguments.num_workers, allow_set="*",
            admin_socket=None,
        ) as server:  # fmt: skip
            yield server.address, client_paths


def _is_deterministic(local: _Local, arguments: argparse.Namespace) -> bool:
    """Compare the local environment with itself; without that, no comparison says anything."""
    from remote_gym.testing import compare_env

    try:
        record = compare_env(local.single, local.single, num_steps=arguments.steps, seed=arguments.seed)
    except Exception as error:
        raise RemoteGymError(f"the local environment itself fails: {type(error).__name__}: {error}") from error
    if record.holds:
        print(f"deterministic: the local environment equals itself ({sum(record.counts.values()):,} comparisons)")
        return True
    print(
        "NOT DETERMINISTIC: two local environments with the same seeds and actions differ from each other, so there is "
        "nothing to compare the remote one with. `remote` and `local` below are both local. Usual causes: a generator "
        "that `reset(seed=...)` does not seed, the clock, the order of a set, state shared between environments.\n"
    )
    for breach in record.broken.values():
        print(textwrap.indent(str(breach), "  "))
    return False


def _compare(remote: _Remote, local: _Local, arguments: argparse.Namespace) -> dict[str, Record]:
    from remote_gym.testing import compare_env, compare_vector_env

    steps_and_seed: dict[str, Any] = {"num_steps": arguments.steps, "seed": arguments.seed}
    comparisons: dict[str, Callable[[], Record]] = {
        "single environment": lambda: compare_env(remote.single, local.single, **steps_and_seed),
        "vector environment, in every autoreset mode, with copies and views": lambda: compare_vector_env(
            remote.vector, local.vector, num_envs=arguments.num_envs, **steps_and_seed
        ),
    }
    try:
        return {title: compare() for title, compare in comparisons.items()}
    except Exception as error:
        raise RemoteGymError(f"the local environment itself fails: {type(error).__name__}: {error}") from error


def _print_record(title: str, record: Record) -> None:
    from remote_gym.testing import Rule

    print(f"\n{title}")
    for rule in Rule:
        if breach := record.broken.get(rule):
            print(f"  {paint('BROKEN', RED, sys.stdout)}  {rule.value}")
            print(textwrap.indent(str(breach).partition("\n")[2], "        "))
        elif known := record.known.get(rule):
            print(f"  {paint('known', YELLOW, sys.stdout)}   {rule.value} ({record.counts[rule]:,}); documented:")
            print(textwrap.indent(str(known).partition("\n")[2], "        "))
        elif count := record.counts.get(rule, 0):
            print(f"  {paint('ok', GREEN, sys.stdout)}      {rule.value} ({count:,})")
        else:
            print(f"  -       {rule.value} (nothing to compare)")


def _print_summary(records: list[Record], seconds: float) -> int:
    comparisons = sum(sum(record.counts.values()) for record in records)
    broken = sum(len(record.broken) for record in records)
    known = {rule for record in records for rule in record.known}
    documented = f"but for {len(known)} that {'is' if len(known) == 1 else 'are'} documented, " if known else ""
    verdict = f"{broken} rules are broken" if broken else f"indistinguishable: {documented}no difference"
    print(f"\n{verdict} in {comparisons:,} comparisons, {seconds:.1f} s")
    return 1 if broken else 0
