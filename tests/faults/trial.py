"""One trial: the same operations on remote hash chains, through a proxy, and on local ones; equal or it fails."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from faults.hash_chain import BUILD, CALL, CLOSE, RESET, SLEEP_FROM, STEP, HashChainEnv, read_journal
from faults.proxy import Proxy
from gymnasium.vector import SyncVectorEnv

from remote_gym import RemoteVectorEnv

HASH_CHAIN = Path(__file__).parent / "hash_chain.py"

_serial = itertools.count()


class Trial:
    """Remote and local environments, compared after each operation. A context manager.

    Attributes:
        remote: The client under test.
        proxy: What it goes through.
    """

    def __init__(
        self,
        proxy: Proxy,
        folder: Path,
        num_envs: int = 3,
        seed: int = 0,
        journal: bool = True,
        build_milliseconds: int = 0,
        **options: Any,
    ) -> None:
        self.proxy, self.num_envs = proxy, num_envs
        self.tag = 0
        self._random = random.Random(seed)
        serial = next(_serial)
        self._journals = [folder / f"{name}-{serial}" for name in ("remote", "local")]
        self._noted = journal
        kwargs = {"build_milliseconds": build_milliseconds, "journal": str(self._journals[0]) if journal else None}
        self.remote = RemoteVectorEnv(
            proxy.address, num_envs=num_envs, remote_args={"entrypoint_kwargs": kwargs}, **options
        )
        self.local = SyncVectorEnv([self._make_local(i) for i in range(num_envs)])

    def _make_local(self, index: int) -> Any:
        return lambda: HashChainEnv(index, str(self._journals[1]) if self._noted else None)

    def _next_tag(self) -> int:
        self.tag += 1
        return self.tag

    def reset(self, seed: int | None = None) -> None:
        options = {"tag": self._next_tag()}
        compare(self.remote.reset(seed=seed, options=options), self.local.reset(seed=seed, options=options))

    def actions(self, milliseconds: int = 0) -> Any:
        actions = np.empty((self.num_envs, 2), np.int64)
        actions[:, 0] = [self._random.randrange(100) for _ in range(self.num_envs)]
        if milliseconds:
            actions[:, 0] = SLEEP_FROM + milliseconds
        actions[:, 1] = self._next_tag()
        dtype = ("i8", "f8", "i4", "list")[self.tag % 4]
        return actions.tolist() if dtype == "list" else actions.astype(dtype)

    def step(self, milliseconds: int = 0) -> None:
        actions = self.actions(milliseconds)
        compare(self.remote.step(actions), self.local.step(actions))

    def call(self, milliseconds: int = 0) -> None:
        tag = self._next_tag()
        got, expected = self.remote.call("mix", tag, milliseconds), self.local.call("mix", tag, 0)
        assert got == expected

    def large(self, count: int) -> None:
        tag = self._next_tag()
        got, expected = self.remote.call("large", tag, count), self.local.call("large", tag, count)
        assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))

    def run(self, operation: str) -> None:
        {"reset": self.reset, "step": self.step, "call": self.call, "close": self.close}[operation]()

    def close(self) -> None:
        self.remote.close()
        self.local.close()

    def journal(self, which: int = 0) -> Counter[tuple[int, int, int]]:
        """How often (env index, operation, tag) was run: 0 remotely, 1 locally."""
        records = read_journal(self._journals[which])
        ids = sorted(set(records["env_id"].tolist()))
        index = {env_id: position for position, env_id in enumerate(ids)}
        kept = records[np.isin(records["operation"], (RESET, STEP, CALL))]
        columns = (kept[name].tolist() for name in ("env_id", "operation", "tag"))
        return Counter((index[env_id], operation, tag) for env_id, operation, tag in zip(*columns, strict=True))

    def check_journals(self) -> None:
        """Each operation has run as often as locally, which is once; resets at the ends of episodes bear no tag."""
        remote, local = self.journal(0), self.journal(1)
        assert remote == local
        assert {count for (_, _, tag), count in remote.items() if tag} <= {1}

    def closes(self) -> int:
        """How many environments were closed remotely."""
        return int((read_journal(self._journals[0])["operation"] == CLOSE).sum())

    def builds(self) -> int:
        """How many environments were built remotely."""
        return int((read_journal(self._journals[0])["operation"] == BUILD).sum())

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
        for journal in self._journals:
            journal.unlink(missing_ok=True)


def compare(got: Any, expected: Any) -> None:
    """Fail unless both are the same, bit for bit: arrays, and infos with their masks."""
    assert len(got) == len(expected)
    for one, other in zip(got[:-1], expected[:-1], strict=True):
        assert one.dtype == other.dtype and one.tobytes() == other.tobytes(), f"{one} is not {other}"
    assert got[-1].keys() == expected[-1].keys()
    for key, value in expected[-1].items():
        assert np.array_equal(got[-1][key], value), f"info {key!r}: {got[-1][key]} is not {value}"
