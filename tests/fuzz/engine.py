"""One target under atheris, in a process of its own: ``engine.py TARGET FINDINGS CORPUS... [-flags of libFuzzer]``.

What raises is noted in the folder of findings and fuzzing goes on; what kills the process (a signal, memory, a hang) is
written there by libFuzzer, and `run.py` starts a process anew.
"""

from __future__ import annotations

import hashlib
import re
import resource
import sys
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["remote_gym"]):
    import remote_gym.client.failures
    import remote_gym.info_blocks
    import remote_gym.spaces
    import remote_gym.values
    import remote_gym.wire.codec  # noqa: F401 - all of them are to be instrumented

from costs import allowed_bytes, allowed_seconds, cpu_seconds
from fuzz import makers, mutating
from fuzz.targets import TARGETS, Finding

WEIGHED = 64
"""One input in this many is read for its memory; more are where the process has grown."""


class Fuzzer:
    """Feeds one target and notes what it finds, one input for each kind of finding."""

    def __init__(self, target: str, findings: Path) -> None:
        """Fuzz the target of this name; write into `findings`."""
        self._target = TARGETS[target]
        self._findings = findings
        self._known: set[str] = set()
        self._done = 0
        self._high = 0

    def one(self, data: bytes) -> None:
        """Read one input."""
        self._done += 1
        try:
            self._target.run(data)
            if self._done % WEIGHED == 0 or self._is_dear(data):
                self._target.weigh(data)
        except Finding as finding:
            self._note(data, finding)

    def _is_dear(self, data: bytes) -> bool:
        """A first look, nearly free: whether the process has just grown, or took long the second time."""
        high = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024
        grown, self._high = high - self._high, high
        return grown > allowed_bytes(len(data)) or (
            len(data) > 1_000 and cpu_seconds(self._target.read_quietly, data) > allowed_seconds(len(data))
        )

    def _note(self, data: bytes, finding: Finding) -> None:
        kind = re.sub(r"[0-9a-f]{6,}|[\d,.]+|'[^']*'", "*", str(finding))[:80]
        if kind in self._known:
            return
        self._known.add(kind)
        name = hashlib.sha1(data).hexdigest()[:12]
        (self._findings / name).write_bytes(data)
        print(f"FINDING {name} {str(finding)[:500]}", flush=True)

    def mutate(self, data: bytes, max_size: int, seed: int) -> bytes:
        """Libfuzzer's changes mostly; else ours, which know how long things repeat, or something made anew."""
        chance = Random(seed)
        kind = chance.random()
        if kind < 0.1:
            return makers.made(self._target.make, chance)[:max_size]
        if kind < 0.3:
            return mutating.mutate(data, chance, max_size)
        return atheris.Mutate(data, max_size)  # type: ignore[no-any-return]


def main() -> None:
    """Fuzz until a flag of libFuzzer ends it."""
    target, findings, *rest = sys.argv[1:]
    fuzzer = Fuzzer(target, Path(findings))
    flags = [
        f"-max_len={mutating.MAX_BYTES}",
        f"-artifact_prefix={findings}/",
        "-print_final_stats=1",
        "-len_control=20",
    ]
    flags += ["-timeout=20", "-rss_limit_mb=2048", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *flags, *rest], fuzzer.one, custom_mutator=fuzzer.mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
