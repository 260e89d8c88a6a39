"""Trainer process: frames in the output of a notebook's cell, which follow what is stepped.

There is no thread and no widget: whoever steps brings the picture up to date when that is due, in the environments' own
session. IPython is imported for who watches, by nobody else.
"""

from __future__ import annotations

import base64
import html
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from remote_gym.client.rendering import BACKGROUND, Grid, check_image
from remote_gym.client.settings import Settings
from remote_gym.errors import (
    EnvironmentLost,
    EnvironmentNeedsReset,
    MisuseError,
    ProtocolError,
    RemoteGymError,
    SessionLost,
)
from remote_gym.png import Pixels, encode_png, shrunk
from remote_gym.texts import printable

MAX_SIZE = 960, 720
"""Width and height of the whole picture, pixels: what a cell shows without scrolling; smaller ones stay as they are."""

MAX_FPS = 60.0
"""Pictures per second that may be asked for."""

MAX_SHARE = 0.5
"""Of the time: frames that take longer than that come less often."""

Fetch = Callable[[Sequence[int]], Mapping[int, Any]]
"""Env indices -> what is rendered of those that have something to show now."""


class Inline:
    """The frames of some environments, side by side in the cell that asked for them.

    Attributes:
        rows: Env indices of those that are shown, in this order.
        shown: How many pictures there were.
        stopped: Whether it was stopped.
    """

    def __init__(self, fetch: Fetch, rows: Sequence[int], fps: float, title: str) -> None:
        """Prepare; `begin` makes a place for it.

        Raises:
            MisuseError: No notebook runs this code.
        """
        self._ipython = notebook()
        self._fetch = fetch
        self._least_seconds = 1.0 / fps
        self._title = printable(title)
        self._images: dict[int, Pixels] = {}
        self._output: Any = None  # IPython's handle, once there is something to see
        self._due = 0.0  # on the monotonic clock
        self.rows = tuple(rows)
        self.shown = 0
        self.stopped = False

    def begin(self) -> None:
        """Show what there is, here."""
        self.show()
        if self._output is None:
            self._show({"text/plain": f"{self._text()}: no frames yet, a reset brings the first"}, {})

    def show(self) -> None:
        """Fetch the frames that there are and show them, if that is due; what cannot be shown ends it, and says why."""
        began = time.monotonic()
        if self.stopped or began < self._due:
            return
        try:
            if not (fetched := self._fetch(self.rows)):
                return
            self._images.update((row, check_image(image)) for row, image in fetched.items())
            self._put(picture(self._images, self.rows))
        except (EnvironmentLost, EnvironmentNeedsReset, SessionLost):
            pass  # whoever steps is told, and goes on or not; frames come again with what is built or begun anew
        except RemoteGymError as error:
            self._end(f"no frames any more: {error}")
        ended = time.monotonic()
        self._due = max(began + self._least_seconds, ended + (ended - began) * (1.0 / MAX_SHARE - 1.0))

    def _put(self, image: Pixels) -> None:
        height, width, _ = image.shape
        data = {"image/png": base64.b64encode(encode_png(image)).decode(), "text/plain": self._text()}
        metadata = {"image/png": {"alt": self._text(), "width": width, "height": height}}
        self.shown += 1
        self._show(data, metadata)

    def _show(self, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        if self._output is None:
            self._output = self._ipython.display(data, metadata=metadata, raw=True, display_id=True)
        else:
            self._output.update(data, metadata=metadata, raw=True)

    def _text(self) -> str:
        first, last = self.rows[0], self.rows[-1]
        which = f"env {first}" if len(self.rows) == 1 else f"{len(self.rows)} envs, {first} to {last}"
        return f"frames of {self._title}: {which}"

    def _end(self, why: str) -> None:
        self.stopped = True
        said = printable(why, 400)
        self._show({"text/plain": said, "text/html": f"<em>{html.escape(said)}</em>"}, {})

    def stop(self) -> None:
        """Fetch no frames any more; the last picture stays. May be called twice."""
        self.stopped = True

    def _ipython_display_(self) -> None:
        """Show nothing as the value of a cell: it is there already."""

    def __repr__(self) -> str:
        """Return what is shown, and how often it was."""
        return f"<{self._text()}; {self.shown} pictures{', stopped' if self.stopped else ''}>"


def notebook() -> Any:
    """Return ``IPython.display`` of the notebook that runs this.

    Raises:
        MisuseError: There is none.
    """
    try:
        from IPython import display, get_ipython
    except ImportError:
        raise _nowhere("IPython is not installed") from None
    shell = get_ipython()
    if shell is None:
        raise _nowhere("this is none")
    if not shell.has_trait("kernel"):
        raise _nowhere("this is a terminal")
    return display


def _nowhere(why: str) -> MisuseError:
    return MisuseError(
        f"watch() shows frames in the output of a notebook's cell, and {why}: use render_mode='human' for a window, or "
        f"`remote-gym top` for figures in a terminal"
    )


def check_fps(fps: Any) -> float:
    """Return the argument `fps`.

    Raises:
        MisuseError: It is no number of pictures per second.
    """
    if not isinstance(fps, (int, float, np.integer, np.floating)) or not 0.0 < fps <= MAX_FPS:
        raise MisuseError(f"fps must be above 0 and at most {MAX_FPS:g}, got {fps!r:.80}")
    return float(fps)


def check_watchable(hosted_mode: str | None, settings: Settings) -> None:
    """Refuse environments that give no frames, or whose frames are the user's to fetch, or never while nothing runs.

    Raises:
        MisuseError: Says what to pass.
    """
    if hosted_mode != "rgb_array":
        raise MisuseError(
            f"watch() needs hosted environments that render a frame when they are asked to, and their render mode is "
            f"{hosted_mode!r:.80}: make them with render_mode='rgb_array'"
        )
    if settings.size < settings.num_envs and not settings.opening.render_with_step:
        raise MisuseError("watch() with a batch_size, where some environments always run, needs render_with_step=True")


def picture(images: Mapping[int, Pixels], rows: Sequence[int]) -> Pixels:
    """Return all images in one, in the order of `rows`, at most `MAX_SIZE`; the place of one that is missing is empty.

    Raises:
        ProtocolError: They differ in shape.
    """
    shapes = {image.shape for image in images.values()}
    if len(shapes) > 1:
        raise ProtocolError(f"images of different shapes cannot be shown side by side: {sorted(shapes)}")
    ((height, width, _),) = shapes
    grid = Grid(len(rows), width, height)
    size = grid.window(MAX_SIZE)
    tile, corners = grid.fit(size)
    whole = np.empty((size[1], size[0], 3), np.uint8)
    whole[:] = BACKGROUND
    for row, (left, top) in zip(rows, corners, strict=True):
        if row in images:
            whole[top : top + tile[1], left : left + tile[0]] = shrunk(images[row], *tile)
    return whole


def rows_to_show(rows: Any, num_envs: int) -> Sequence[int]:
    """Return the env indices that the argument `rows` means: the first so many, or those it names.

    Raises:
        MisuseError: They are none, or not among `num_envs`.
    """
    if isinstance(rows, (int, np.integer)) and not isinstance(rows, bool):
        if rows > 0:
            return range(min(int(rows), num_envs))
    else:
        try:
            named = [int(row) for row in rows]
        except (TypeError, ValueError):
            named = []
        if named and len(set(named)) == len(named) and {*named} <= {*range(num_envs)}:
            return named
    raise MisuseError(
        f"rows must be how many environments to show, or which, distinct and from 0 to {num_envs - 1}; got {rows!r:.80}"
    )
