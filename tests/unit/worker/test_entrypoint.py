"""All forms of an entrypoint, and what of the server's own arguments a function gets."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import toys

from remote_gym.errors import MisuseError
from remote_gym.worker.entrypoint import Recipe, resolve


@pytest.fixture(autouse=True)
def fresh_imports() -> Iterator[None]:
    modules, path = set(sys.modules), list(sys.path)
    yield
    resolve.cache_clear()
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(code: str, name: str = "some_entrypoint.py") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(code))
        return path

    return write


GIVEN: list[Any] = []


class Recorder(toys.FunctionEnv):
    """What the toy factories below return."""


def record(given: Any) -> Recorder:
    GIVEN[:] = [given]
    return Recorder()


def takes_env_id(env_id: int) -> Recorder:
    return record(env_id)


def takes_all(enable_rendering: bool, env_id: int, render_mode: str | None, **kwargs: Any) -> Recorder:
    return record((enable_rendering, env_id, render_mode, kwargs))


def takes_anything(**kwargs: Any) -> Recorder:
    return record(kwargs)


def takes_nothing() -> Recorder:
    return record(None)


def takes_keyword_only(*, goal: str = "x", env_id: int) -> Recorder:
    return record((goal, env_id))


def takes_positional_only(env_id: int = 5, /) -> Recorder:
    return record(env_id)


def seed_example(enable_rendering: bool, env_id: int, **kwargs: Any) -> Recorder:
    return record((enable_rendering, env_id, kwargs))


def takes_enable_rendering_only(enable_rendering: bool) -> Recorder:
    return record(enable_rendering)


HERE = sys.modules[__name__]


@pytest.mark.parametrize(
    "name, kwargs, render_mode, given",
    [
        ("takes_env_id", {}, None, 7),
        ("takes_all", {"goal": 1}, None, (False, 7, None, {"goal": 1})),
        ("takes_all", {}, "rgb_array", (True, 7, "rgb_array", {})),
        ("takes_all", {"render_mode": "ansi"}, "rgb_array", (True, 7, "ansi", {})),
        ("takes_anything", {"a": 2}, None, {"a": 2, "env_id": 7, "render_mode": None, "enable_rendering": False}),
        ("takes_nothing", {}, "rgb_array", None),
        ("takes_keyword_only", {"goal": "y"}, None, ("y", 7)),
        ("takes_positional_only", {}, None, 5),
        ("takes_env_id", {"env_id": 3}, None, 3),
        ("seed_example", {"goal": 1}, "rgb_array", (True, 7, {"goal": 1, "render_mode": "rgb_array"})),
        ("takes_enable_rendering_only", {"render_mode": "rgb_array"}, None, True),
    ],
)
def test_a_function_gets_what_its_signature_takes(
    monkeypatch: pytest.MonkeyPatch, name: str, kwargs: Any, render_mode: str | None, given: Any
) -> None:
    monkeypatch.setitem(sys.modules, "factories", HERE)
    env = Recipe(f"factories:{name}", kwargs, render_mode).build(7)
    assert isinstance(env, Recorder)
    assert [given] == GIVEN


def passes_on(**kwargs: Any) -> Any:
    return gym.make("CartPole-v1", **kwargs)


def passes_on_what_it_does_not_name(env_id: Any = None, enable_rendering: Any = None, **kwargs: Any) -> Any:
    return gym.make("CartPole-v1", **kwargs)


def passes_many_on(num_envs: int, **kwargs: Any) -> Any:
    return gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1", **kwargs)] * num_envs)


def raises_of_its_own(**kwargs: Any) -> Any:
    return gym.make("CartPole-v1", goal=3)


def test_who_passes_the_servers_own_arguments_on_is_told_how_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "factories", HERE)
    said = r"unexpected keyword argument 'env_id'.*The server itself adds env_id, render_mode, enable_rendering.*"
    with pytest.raises(
        TypeError, match=said + r"def passes_on\(env_id=None, enable_rendering=None, \*\*kwargs\)"
    ) as error:
        Recipe("factories:passes_on", {}, None).build(7)
    assert isinstance(error.value.__cause__, TypeError)
    made = Recipe("factories:passes_on_what_it_does_not_name", {"sutton_barto_reward": True}, "rgb_array").build(7)
    assert made.render_mode == "rgb_array"
    made.close()
    monkeypatch.setattr(HERE, "create_vector_environment", passes_many_on, raising=False)
    with pytest.raises(TypeError, match=said + r"\(num_envs, env_id=None, enable_rendering=None, \*\*kwargs\)"):
        Recipe("factories:create_vector_environment", {}, None).build_vector(2, 7)


def test_a_callable_without_a_name_is_told_so_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "factories", HERE)
    monkeypatch.setattr(HERE, "partly", functools.partial(passes_on, disable_env_checker=True), raising=False)
    with pytest.raises(TypeError, match=r"def create_environment\(env_id=None"):
        Recipe("factories:partly", {}, None).build(7)


@pytest.mark.parametrize("kwargs", [{"env_id": 3}, {}])
def test_nobody_else_is_told_so(monkeypatch: pytest.MonkeyPatch, kwargs: Any) -> None:
    """The owner's own argument, or one of the function's own making, is theirs to mend."""
    monkeypatch.setitem(sys.modules, "factories", HERE)
    name = "passes_on_what_it_does_not_name" if kwargs else "raises_of_its_own"
    with pytest.raises(TypeError, match="unexpected keyword argument") as error:
        Recipe(f"factories:{name}", {**kwargs, "goal": 1} if kwargs else {}, None).build(7)
    assert "The server itself" not in str(error.value)


def test_unknown_keyword_arguments_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "factories", HERE)
    with pytest.raises(TypeError, match="goal"):
        Recipe("factories:takes_nothing", {"goal": 1}, None).build(0)


def test_a_file(write: Callable[..., Path]) -> None:
    write("WHERE = 'beside'", "its_neighbour.py")
    path = write(
        """
        import its_neighbour
        from toys import FunctionEnv

        class Mine(FunctionEnv):
            where = its_neighbour.WHERE

        def create_environment(env_id, **kwargs):
            env = Mine()
            env.given = (env_id, kwargs)
            return env
        """
    )
    env = Recipe(str(path), {"goal": 2}, None).build(3)
    assert env.where == "beside"
    assert env.given == (3, {"goal": 2, "render_mode": None, "enable_rendering": False})
    assert sys.path[0] == str(path.parent)
    assert sys.modules[type(env).__module__].Mine is type(env)


def test_a_file_is_imported_once(write: Callable[..., Path]) -> None:
    path = write(
        """
        from toys import FunctionEnv
        made = []

        def create_environment():
            made.append(FunctionEnv())
            made[-1].made = made
            return made[-1]
        """
    )
    recipe = Recipe(str(path), {}, None)
    assert recipe.build(0).made is recipe.build(1).made


def test_a_relative_file(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("from toys import FunctionEnv as create_environment")
    monkeypatch.chdir(path.parent)
    assert type(Recipe(path.name, {}, None).build(0)) is toys.FunctionEnv


def test_a_dotted_module() -> None:
    assert resolve("os.path:join")[0] == "function"


def test_a_registered_id() -> None:
    env = Recipe("CartPole-v1", {"max_episode_steps": 7}, None).build(0)
    assert env.spec.id == "CartPole-v1"
    assert env.spec.max_episode_steps == 7
    assert env.render_mode is None


@pytest.mark.parametrize(
    "kwargs, asked, made", [({}, "rgb_array", "rgb_array"), ({"render_mode": "ansi"}, "rgb_array", "ansi")]
)
def test_render_mode_of_an_id(kwargs: Any, asked: str, made: str) -> None:
    assert Recipe("FrozenLake-v1", kwargs, asked).build(0).render_mode == made


def test_an_id_whose_module_registers_it(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(
        """
        import gymnasium
        gymnasium.register("Registered/Here-v3", "toys:FunctionEnv")
        """,
        "registering_module.py",
    )
    monkeypatch.syspath_prepend(path.parent)
    try:
        env = Recipe("registering_module:Registered/Here-v3", {"render_mode": "rgb_array"}, None).build(0)
        assert type(env.unwrapped) is toys.FunctionEnv
        assert env.render_mode == "rgb_array"
    finally:
        gym.registry.pop("Registered/Here-v3", None)


@pytest.mark.parametrize(
    "entrypoint, message",
    [
        ("nowhere.py", "does not exist"),
        ("nowhere:create", "no module 'nowhere'"),
        ("toys.nowhere:create", "toys"),
        ("toys:SPACES", "no function 'SPACES'"),
        ("toys:nowhere", "no function 'nowhere'"),
    ],
)
def test_what_is_not_there(entrypoint: str, message: str) -> None:
    with pytest.raises(MisuseError, match=message):
        Recipe(entrypoint, {}, None).build(0)


def test_what_a_module_fails_to_import_is_not_hidden(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("import not_there_at_all", "importing_module.py")
    monkeypatch.syspath_prepend(path.parent)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        Recipe("importing_module:create", {}, None).build(0)


def test_what_is_no_env() -> None:
    with pytest.raises(MisuseError, match=r"'os:getcwd' returned builtins\.str, which is no gymnasium\.Env"):
        Recipe("os:getcwd", {}, None).build(0)


SCRIPT = """
import os, sys
{before}
import gymnasium as gym
from remote_gym import RemoteEnvironment, create_remote_environment_server

with open({log!r}, "a") as file:
    file.write("run\\n")

def create_environment():
    return gym.make("CartPole-v1")

{guard}
"""
STARTS = """
server = create_remote_environment_server({"entrypoint": ENTRYPOINT}, port=0, num_workers=2, probe=PROBE)
with RemoteEnvironment(server.address) as env:
    env.reset(seed=1)
    print("STEPPED", env.step(0)[1])
server.stop()
"""


@pytest.mark.parametrize("probe", [True, False])
@pytest.mark.parametrize(
    "entrypoint", ["__file__", "os.path.basename(__file__)", "pathlib.Path(__file__)", "'train:create_environment'"]
)
@pytest.mark.parametrize("guarded", [True, False])
def test_a_script_may_be_its_own_entrypoint_behind_a_main_guard(
    tmp_path: Path, guarded: bool, entrypoint: str, probe: bool
) -> None:
    log = tmp_path / "log"
    starts = STARTS.replace("ENTRYPOINT", entrypoint).replace("PROBE", str(probe))
    if guarded:
        starts = "if __name__ == '__main__':" + starts.replace("\n", "\n    ")
    (tmp_path / "train.py").write_text(SCRIPT.format(before="import pathlib", log=str(log), guard=starts))
    done = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    if guarded:
        assert "STEPPED 1.0" in done.stdout, done.stderr
    else:
        assert done.returncode == 1
        assert "put what starts a server" in done.stderr.lower()
        assert 'if __name__ == "__main__":' in done.stderr
        assert 2 <= log.read_text().count("run") <= 3


def test_a_file_that_raises_is_imported_anew_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "raises_once.py"
    path.write_text(
        "import os\nif not os.path.exists(__file__ + '.mended'): raise OSError('not yet')\ncreate_environment = dict\n"
    )
    with pytest.raises(OSError, match="not yet"):
        resolve(str(path))
    assert "raises_once" not in sys.modules
    (tmp_path / "raises_once.py.mended").touch()
    assert resolve(str(path)) == ("function", dict)
