"""Every reader, on a few thousand mutated inputs, on the committed corpus, and on what fuzzing has found before."""

from __future__ import annotations

import pytest
from fuzz import makers, replay
from fuzz.hostile_client import attack_for
from fuzz.targets import HERE, TARGETS, Finding, Target

INPUTS = 2_500
SECONDS = 2.5
"""For each target: what a busy machine has not done by then is left to the long run."""
SEED = 20
REQUESTS = 2_000


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_mutated_inputs(target: Target) -> None:
    found = list(replay.run(target, SEED, INPUTS, SECONDS))
    assert not found, f"{len(found)} findings, the first: {found[0][1]}\n{found[0][0][:500].hex()}"


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_saved_inputs(target: Target) -> None:
    for path in (*target.saved("corpus"), *target.saved("findings")):
        try:
            target.run(path.read_bytes())
            target.weigh(path.read_bytes())
        except Finding as finding:
            pytest.fail(f"{path.relative_to(HERE)}: {finding}")


def test_every_folder_is_a_target_of_its_name() -> None:
    folders = {path.name for folder in ("corpus", "findings") for path in (HERE / folder).glob("*/")}
    assert folders <= {*TARGETS, "survey"}


def test_the_committed_corpus_is_small() -> None:
    files = [path for path in (HERE / "corpus").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_most_of_what_is_made_is_read(target: Target) -> None:
    """Else a target would only ever see its first check."""
    from random import Random

    chance, read = Random(1), 0
    for _ in range(100):
        try:
            target.read(makers.made(target.make, chance))
            read += 1
        except target.errors:
            continue
    assert read > 10


class _Broken:
    """Targets that show a fault, to see that it is found."""

    @staticmethod
    def raises(data: bytes) -> None:
        if data[3:4] == b"\x80":
            raise KeyError("a fault")

    @staticmethod
    def hoards(data: bytes) -> list[bytes]:
        return [bytes(500) for _ in data]

    @staticmethod
    def dawdles(data: bytes) -> int:
        return sum(a ^ b for a in data[:3_000] for b in data[:3_000])


def long(chance: object) -> bytes:
    return bytes(4_000)


@pytest.mark.parametrize(
    "target, message",
    [
        (Target("raises", _Broken.raises, (ValueError,), makers.client), "KeyError"),
        (Target("hoards", _Broken.hoards, (), long), "bytes of memory"),
        (Target("dawdles", _Broken.dawdles, (), long), "ms, more than"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_faults_are_found(target: Target, message: str) -> None:
    for _, finding in replay.run(target, 1, 5_000):
        assert message in str(finding)
        return
    pytest.fail("nothing was found")


def test_a_hostile_client_does_no_harm() -> None:
    said = attack_for(REQUESTS, SEED, seconds=15.0)
    print(said)
    assert "Opened" in said
    assert "Transition" in said
