"""Notebooks, in a real kernel: what cells show, that a picture follows what later cells step, and what is refused."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
cv2 = pytest.importorskip("cv2")
pytest.importorskip("pygame")  # CartPole draws with it

from remote_gym import RemoteEnvironmentServer, create_remote_environment_server  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # Jupyter's own deprecations are none of ours

BEGIN = """
import numpy as np
from remote_gym import RemoteEnvironment, RemoteVectorEnv
envs = RemoteVectorEnv("{address}", num_envs=6, render_mode="rgb_array", autoreset_mode="SameStep")
"""

STEP = """
envs.reset(seed=1)
for _ in range(5):
    envs.step(np.ones(6, np.int64))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RemoteEnvironmentServer]:
    with create_remote_environment_server({"entrypoint": "CartPole-v1"}, port=0, num_workers=2) as server:
        yield server


def run(server: RemoteEnvironmentServer, *cells: str) -> list[list[Any]]:
    """Run `cells`, after one that makes `envs`, and return the outputs of each."""
    sources = [BEGIN.format(address=server.address), *cells]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbclient.NotebookClient(notebook, timeout=100, kernel_name="python3", allow_errors=True).execute()
    assert notebook.cells[0].outputs == []
    return [cell.outputs for cell in notebook.cells[1:]]


def pixels(output: Any) -> Any:
    data = base64.b64decode(output["data"]["image/png"])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def html(output: Any) -> str:
    return str(output["data"]["text/html"])


def test_values_of_cells(server: RemoteEnvironmentServer) -> None:
    before, _, after, fleet, single = run(
        server, "envs", STEP, "envs", "envs.fleet", f"RemoteEnvironment('{server.address}')"
    )
    assert "not dialled yet" in html(before[0])
    assert "there" in html(after[0]) and ">30<" in html(after[0])
    assert server.address in html(fleet[0])
    assert "not dialled yet" in html(single[0])
    assert all(len(outputs) == 1 and "text/plain" in outputs[0]["data"] for outputs in (before, after, fleet, single))


def test_a_picture_follows_what_later_cells_step(server: RemoteEnvironmentServer) -> None:
    """One environment is shown pixel by pixel, so that it can be compared with what `render` gives."""
    watching, stepping, told = run(
        server,
        "watching = envs.watch(rows=[5], fps=60)\nwatching",
        "envs.reset(seed=1)\nwhile watching.shown < 4:\n    envs.step(np.ones(6, np.int64))",
        "import hashlib\nprint(hashlib.sha256(envs.render()[5].tobytes()).hexdigest(), watching.shown)",
    )
    assert stepping == []
    (output,) = watching
    assert output["output_type"] == "display_data"
    frame, count = told[0]["text"].split()
    assert hashlib.sha256(pixels(output).tobytes()).hexdigest() == frame
    assert int(count) == 4, "rendering it for the test is none of them"


def test_many_are_tiled(server: RemoteEnvironmentServer) -> None:
    (watching,) = run(server, "envs.reset(seed=1)\nenvs.watch(rows=4)")
    shown = pixels(watching[0])
    assert shown.shape == (640, 960, 3)
    tiles = [shown[top : top + 318, left : left + 478] for top in (0, 322) for left in (0, 482)]
    assert all((tile == 255).mean() > 0.9 for tile in tiles)
    assert len({tile.tobytes() for tile in tiles}) == 4
    assert watching[0]["metadata"]["image/png"]["alt"].endswith("4 envs, 0 to 3")


def test_until_something_is_reset_there_is_a_place_for_it(server: RemoteEnvironmentServer) -> None:
    (watching,) = run(server, "envs.watch()")
    assert "no frames yet" in watching[0]["data"]["text/plain"]


def test_what_is_refused_is_an_error_of_the_cell(server: RemoteEnvironmentServer) -> None:
    address = server.address
    no_mode, no_rows = run(server, f"RemoteVectorEnv('{address}').watch()", "envs.watch(rows=[6])")
    assert "render mode is None: make them with render_mode='rgb_array'" in no_mode[0]["evalue"]
    assert no_rows[0]["ename"] == "MisuseError"


def test_a_single_environment_and_the_end(server: RemoteEnvironmentServer) -> None:
    watching, closing = run(
        server,
        f"env = RemoteEnvironment('{server.address}', render_mode='rgb_array')\nenv.reset()\nwatched = env.watch()",
        "env.close()\nwatched",
    )
    assert pixels(watching[0]).shape == (400, 600, 3)
    assert closing == []
