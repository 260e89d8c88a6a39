"""`docs/reference/gymnasium-api.md` lists every public member of Gymnasium's classes, and says whether it is there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from remote_gym import RemoteEnvironment, RemoteVectorEnv

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "gymnasium-api.md").read_text()
ROW = re.compile(r"^\| (`.*?) \| (.*) \|$", re.MULTILINE)
OF_ITS_OWN_MAKING = {
    # How AsyncVectorEnv works, which is nobody's business
    "shared_memory", "context", "daemon", "worker", "max_concurrency", "observations", "parent_pipes", "processes",
    "error_queue",
}  # fmt: skip


def public(*kinds: type) -> set[str]:
    annotated = {name for kind in kinds for base in kind.__mro__ for name in inspect.get_annotations(base)}
    return {name for name in annotated.union(*map(dir, kinds)) if not name.startswith("_")}


def table(title: str) -> dict[str, str]:
    """Return member -> what is said about it, from the table whose head holds `title`."""
    start = PAGE.index(f"| member of {title}")
    rows = ROW.findall(PAGE[start : PAGE.index("\n\n", start)].partition("\n")[2])
    return {name: said for names, said in rows for name in re.findall(r"`(\w+)", names)}


ENV = table("`Env`")
VECTOR = table("`VectorEnv`")
EXTRAS = table("`SyncVectorEnv`")


@pytest.mark.parametrize(
    "said, members",
    [
        (ENV, public(gym.Env)),
        (VECTOR, public(VectorEnv)),
        (EXTRAS, public(SyncVectorEnv, AsyncVectorEnv) - public(VectorEnv) - OF_ITS_OWN_MAKING),
    ],
)
def test_every_member_is_listed(said: dict[str, str], members: set[str]) -> None:
    assert set(said) == members


@pytest.mark.parametrize("kind, said", [(RemoteEnvironment, ENV), (RemoteVectorEnv, {**VECTOR, **EXTRAS})])
def test_what_is_there_is_there(kind: Any, said: dict[str, str]) -> None:
    instance = {"num_envs", "autoreset_mode", "observation_mode"}
    for name, words in said.items():
        absent = words.startswith(("Not there", "Not an attribute"))
        assert (hasattr(kind, name) or name in instance) is not absent, name


@pytest.mark.parametrize("kind", [RemoteEnvironment, RemoteVectorEnv])
def test_signatures_are_as_written(kind: Any) -> None:
    section = PAGE[PAGE.index(f"## {kind.__name__}\n") :].partition("\n## ")[0]
    for name, parameters in re.findall(r"^\| `(\w+)\((.*?)\)` \|", section, re.MULTILINE):
        if callable(function := getattr(kind, name, None)):
            written = {parameter.strip(" *") for parameter in parameters.split(",")} - {""}
            assert set(inspect.signature(function).parameters) - {"self"} == written, name
