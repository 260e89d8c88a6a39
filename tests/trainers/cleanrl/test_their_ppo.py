"""CleanRL's own `ppo.py`, with the changes that the page names: the same over remote environments and local ones.

It is not shipped with this package: ``REMOTE_GYM_CLEANRL`` names one or two copies of it, separated like the folders of
a path: that of CleanRL's master (fe8d8a0, for Gymnasium 0.29) and that of its port to Gymnasium 1.1 (5dca27d).
"""

from __future__ import annotations

import os
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import Certificates, ServerFactory
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper
from repository.test_docs import BLOCK, DOCS

from remote_gym.infos import split

SCRIPTS = [Path(name) for name in os.environ.get("REMOTE_GYM_CLEANRL", "").split(os.pathsep) if name]
PAGE = (DOCS / "trainers" / "cleanrl.md").read_text(encoding="utf-8")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the script and what it imports
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:The field .* is annotated with type:UserWarning"),  # of its flags
    pytest.mark.timeout(600),
]

Result = tuple[float, list[str]]


@pytest.fixture
def script(request: pytest.FixtureRequest) -> str:
    """The text of the script of this kind."""
    for path in SCRIPTS:
        text = path.read_text(encoding="utf-8")
        if ('["_episode"]' in text) == (request.param == "port"):
            return text
    pytest.skip(f"REMOTE_GYM_CLEANRL names no ppo.py of CleanRL's {request.param}")


master = pytest.mark.parametrize("script", ["master"], indirect=True)
port = pytest.mark.parametrize("script", ["port"], indirect=True)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Run a script for three iterations; return the sum of parameters and the lines on episodes."""
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(text: str, *flags: str) -> Result:
        path = tmp_path / "ppo.py"
        path.write_text(text, encoding="utf-8")
        steps = ("--total-timesteps", str(3 * 8 * 128), "--num-envs", "8", "--no-cuda")
        monkeypatch.setattr(sys, "argv", ["ppo.py", *steps, *flags])
        agent = runpy.run_path(str(path), run_name="__main__")["agent"]
        said = re.findall(r"global_step=\d+, episodic_return=\S+", capsys.readouterr().out)
        return float(sum(parameter.detach().double().sum() for parameter in agent.parameters())), said

    yield run
    torch.set_num_threads(before)


@pytest.fixture
def address(serve: ServerFactory, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the page's `episodes.py` is served, over mutual TLS; the client's certificate is in the variables."""
    (source,) = (source for language, source in BLOCK.findall(PAGE) if source.startswith("# episodes.py"))
    (tmp_path / "episodes.py").write_text(source)
    server = serve(str(tmp_path / "episodes.py"), server_credentials_paths=certificates.server_mutual)
    for name, path in zip(
        ("ROOT_CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_PRIVATE_KEY"), certificates.client_mutual, strict=True
    ):
        monkeypatch.setenv(f"REMOTE_GYM_{name}", str(path))
    return str(server.address)


def change(text: str, *named: str) -> str:
    """Make those changes of the page in which these words are."""
    changes = [source for language, source in BLOCK.findall(PAGE) if language == "text"]
    for words in named:
        (wanted,) = (lines.splitlines() for lines in changes if words in lines)
        old = "\n".join(line[1:] for line in wanted if line[0] in " -")
        new = "\n".join(line[1:] for line in wanted if line[0] in " +")
        assert text.count(old) == 1, f"the script has not once:\n{old}"
        text = text.replace(old, new)
    return text


IMPORT, MAKE = "+from remote_gym", "+    envs = "
MASK, BATCHES, RETURNS = "+        b_inds", "array_split", "+                for info"


def make_local(monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any]) -> None:
    """Let scripts that make a `SyncVectorEnv` make that."""
    monkeypatch.setattr(gym.vector, "SyncVectorEnv", make)


class OldInfos(VectorWrapper):
    """What Gymnasium 0.29 had as ``final_info``: an array of dicts."""

    def step(self, actions: Any) -> Any:
        *transition, infos = self.env.step(actions)
        if "final_info" in infos:
            each = split(infos["final_info"], self.num_envs)
            told = [info if is_told else None for info, is_told in zip(each, infos["_final_info"], strict=True)]
            infos["final_info"] = np.array(told, object)
        return *transition, infos


@master
def test_same_step_with_the_keys_of_0_29(script: str, run: Any, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = run(change(script, IMPORT, MAKE).replace("farm.example:56765", address))
    make_local(monkeypatch, lambda fns: OldInfos(SyncVectorEnv(fns, autoreset_mode=AutoresetMode.SAME_STEP)))
    local = run(script)
    assert run(script) == local  # what repeats locally is compared bit for bit
    assert remote == local
    assert len(local[1]) > 50


@port
def test_same_step_with_todays_keys(script: str, run: Any, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    local = run(script)
    assert run(script) == local
    make_local(monkeypatch, lambda fns, autoreset_mode: remote_vector(address, len(fns), autoreset_mode))
    assert run(script) == local
    assert len(local[1]) > 50


def remote_vector(address: str, num_envs: int, autoreset_mode: Any = AutoresetMode.NEXT_STEP) -> Any:
    from remote_gym import RemoteVectorEnv

    return RemoteVectorEnv(address, num_envs=num_envs, autoreset_mode=autoreset_mode)


@master
def test_next_step_with_the_rows_that_only_reset_left_out(
    script: str, run: Any, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked = change(script, MASK, BATCHES, RETURNS).replace(
        "import tyro", "import tyro\nfrom remote_gym.infos import split"
    )
    local = run(masked)
    assert run(masked) == local
    unmasked = run(script)
    assert unmasked[1] == []  # it finds no key that it knows
    assert unmasked[0] != local[0]
    make_local(monkeypatch, lambda fns: remote_vector(address, len(fns)))
    assert run(masked) == local
    assert run(script) == unmasked
    assert len(local[1]) > 50


@master
@pytest.mark.timeout(3_600)
@pytest.mark.skipif("not config.getoption('--full')", reason="takes minutes: --full")
def test_until_it_is_solved(script: str, run: Any, address: str) -> None:
    """The script's own settings, 500,000 steps; writes the curve for the page."""
    text = change(script, IMPORT, MAKE).replace("farm.example:56765", address)
    _, said = run(text, "--total-timesteps", "500000", "--num-envs", "4")
    points = np.array([[float(number) for number in re.findall(r"=([\d.]+)", line)] for line in said])
    best = max(points[end - 100 : end, 1].mean() for end in range(100, len(points) + 1))
    draw(points, DOCS / "images" / "trainers" / "cleanrl.png")
    assert best >= 475.0  # Gymnasium's own threshold


def draw(points: np.ndarray[Any, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sums = np.concatenate([[0.0], np.cumsum(points[:, 1])])
    ends = np.arange(1, len(points) + 1)
    begins = np.maximum(ends - 100, 0)
    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    axes.plot(points[:, 0], points[:, 1], ".", markersize=2, alpha=0.3, label="episode")
    axes.plot(points[:, 0], (sums[ends] - sums[begins]) / (ends - begins), label="mean of the last 100")
    axes.axhline(475.0, color="black", linestyle=":", label="solved")
    axes.set(xlabel="environment steps", ylabel="return", title="CleanRL's ppo.py, CartPole-v1 over mutual TLS")
    axes.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
