"""Trainer process: render mode "human". Frames are made by the server and shown here, in Gymnasium's own window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil, sqrt
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import HumanRendering

from remote_gym.errors import MisuseError

DEFAULT_FPS = 30
"""Frames per second of a hosted environment whose metadata does not say; Gymnasium's usual number."""


MAX_PIXELS = 1600
"""Of a window that shows many environments, each way: what most screens have; beyond it, pixels are left out."""


class Window:
    """Shows the frame of a remote environment, or of many side by side. Opens with the first frame; needs pygame."""

    def __init__(self, fetch: Callable[[], Any], hosted_mode: str | None, metadata: Mapping[str, Any]) -> None:
        """Prepare; opens nothing yet.

        Args:
            fetch: Returns the hosted environment's rendered frame or, as a tuple, those of many.
            hosted_mode: The hosted environment's render mode.
            metadata: The hosted environment's; ``"render_fps"`` sets the pace.

        Raises:
            MisuseError: The hosted environment renders no frames that could be shown.
        """
        if hosted_mode not in HumanRendering.ACCEPTED_RENDER_MODES:
            raise MisuseError(
                f"render_mode='human' needs a hosted environment that renders frames, but its render mode is "
                f"{hosted_mode!r}: let the server's entrypoint make it with render_mode='rgb_array'"
            )
        self._rendering: Any = HumanRendering(_Frames(fetch, hosted_mode, metadata))  # Any: it is partly untyped

    def show(self) -> None:
        """Fetch the frame and show it; waits as the pace asks, as local environments do.

        Raises:
            gymnasium.error.DependencyNotInstalled: There is no pygame.
        """
        self._rendering.step(None)

    def close(self) -> None:
        """Close the window; may be called twice."""
        self._rendering.close()
        self._rendering.window = None  # else a second `close` would end pygame under somebody else's window


class _Frames(gymnasium.Env[Any, Any]):
    """What `HumanRendering` wraps: an environment that only renders."""

    def __init__(self, fetch: Callable[[], Any], render_mode: str, metadata: Mapping[str, Any]) -> None:
        self.metadata = {"render_modes": [], "render_fps": DEFAULT_FPS, **metadata}
        self.render_mode: str = render_mode
        self._fetch = fetch

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return None, 0.0, False, False, {}

    def render(self) -> Any:
        frames = self._fetch()
        if not isinstance(frames, tuple):
            return frames
        if self.render_mode.endswith("_list"):
            return [tiled([frame[-1] for frame in frames])]
        return tiled(frames)


def tiled(frames: Sequence[Any]) -> Any:
    """Return equally large images as one, row after row.

    Args:
        frames: (height, width, channels) uint8, each.

    Returns:
        image: (rows * height, columns * width, channels) uint8, or smaller: each way every k-th pixel of each frame.
    """
    columns = ceil(sqrt(len(frames)))
    rows = ceil(len(frames) / columns)
    height, width = frames[0].shape[:2]
    stride = ceil(max(rows * height, columns * width) / MAX_PIXELS)
    small = [frame[::stride, ::stride] for frame in frames]
    small += [np.zeros_like(small[0])] * (rows * columns - len(small))
    return np.concatenate([np.concatenate(small[row * columns :][:columns], axis=1) for row in range(rows)])
