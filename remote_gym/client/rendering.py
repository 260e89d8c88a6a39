"""Trainer process: render mode "human". Frames are made by the server and shown here, in Gymnasium's own window."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import HumanRendering

from remote_gym.errors import MisuseError, ProtocolError

DEFAULT_FPS = 30
"""Frames per second of a hosted environment whose metadata does not say; Gymnasium's usual number."""

MIN_FPS, MAX_FPS = 0.1, 1_000.0
"""The slowest pace: showing a frame waits for it, and how long must not be a server's choice. And the fastest."""

MAX_SIDE = 16_384
"""Pixels of one image each way: what the largest windows have."""

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
        self.metadata = {"render_modes": [], "render_fps": _pace(metadata.get("render_fps"))}
        self.render_mode: str = render_mode
        self._fetch = fetch
        self._shape: tuple[int, ...] | None = None  # of the images so far

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return None, 0.0, False, False, {}

    def render(self) -> Any:
        frames = self._fetch()
        image = tiled([self._image(one) for one in frames]) if isinstance(frames, tuple) else self._image(frames)
        return [image] if self.render_mode.endswith("_list") else image

    def _image(self, rendered: Any) -> Any:
        """Return the image in what a hosted environment has rendered, which is a server's word: it is looked at."""
        if self.render_mode.endswith("_list"):
            rendered = rendered[-1] if isinstance(rendered, list) and rendered else None
        if not isinstance(rendered, np.ndarray) or rendered.ndim != 3 or rendered.dtype.kind not in "iu":
            raise ProtocolError(f"no image to show, but {type(rendered).__name__}: expected (height, width, 3) uint8")
        height, width, channels = rendered.shape
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and channels == 3):
            raise ProtocolError(f"an image of shape {rendered.shape} cannot be shown")
        if self._shape not in (None, rendered.shape):
            raise ProtocolError(f"the window shows images of shape {self._shape}, and now comes {rendered.shape}")
        self._shape = rendered.shape
        return rendered


def _pace(said: Any) -> float:
    """Return frames per second, out of what metadata say."""
    if isinstance(said, (int, float, np.integer, np.floating)) and 0 < said < math.inf:
        return max(MIN_FPS, float(min(said, MAX_FPS)))
    return DEFAULT_FPS


def tiled(frames: Sequence[Any]) -> Any:
    """Return equally large images as one, row after row.

    Args:
        frames: (height, width, channels) uint8, each.

    Returns:
        image: (rows * height, columns * width, channels) uint8, or smaller: each way every k-th pixel of each frame.
    """
    if not frames:
        raise ProtocolError("no images to show")
    columns = math.ceil(math.sqrt(len(frames)))
    rows = math.ceil(len(frames) / columns)
    height, width = frames[0].shape[:2]
    stride = math.ceil(max(rows * height, columns * width) / MAX_PIXELS)
    small = [frame[::stride, ::stride] for frame in frames]
    small += [np.zeros_like(small[0])] * (rows * columns - len(small))
    return np.concatenate([np.concatenate(small[row * columns :][:columns], axis=1) for row in range(rows)])
