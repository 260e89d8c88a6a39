"""Trainer process: render mode "human". Frames are made by the server and shown here, in Gymnasium's own window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium.wrappers import HumanRendering

from remote_gym.errors import MisuseError

DEFAULT_FPS = 30
"""Frames per second of a hosted environment whose metadata does not say; Gymnasium's usual number."""


class Window:
    """Shows the frame of a remote environment. Opens with the first frame; needs pygame."""

    def __init__(self, fetch: Callable[[], Any], hosted_mode: str | None, metadata: Mapping[str, Any]) -> None:
        """Prepare; opens nothing yet.

        Args:
            fetch: Returns the hosted environment's rendered frame.
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
        self.render_mode = render_mode
        self._fetch = fetch

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return None, 0.0, False, False, {}

    def render(self) -> Any:
        return self._fetch()
