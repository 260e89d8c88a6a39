"""Trainer process: render mode "human". Frames are made by the server and shown here, in a window of pygame's."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium.error import DependencyNotInstalled

from remote_gym.errors import MisuseError, ProtocolError
from remote_gym.texts import printable

DEFAULT_FPS = 30
"""Frames per second of a hosted environment whose metadata does not say; Gymnasium's usual number."""

MIN_FPS, MAX_FPS = 0.1, 1_000.0
"""The slowest pace: showing a frame waits for it, and how long must not be a server's choice. And the fastest."""

MAX_SIDE = 16_384
"""Pixels of one image each way: what the largest windows have."""

GAP, BACKGROUND = 4, (64, 64, 64)
"""Pixels between two tiles, and the colour there: neither the black nor the white that most environments end with."""

SHARE_OF_SCREEN = 0.9
"""How much of the screen a new window may take, each way: titles and panels need the rest."""

UNSEEN = ("dummy", "offscreen")
"""Drivers of SDL that show nothing; it falls back to the second without a word where there is no screen."""

Size = tuple[int, int]
"""Width and height, pixels."""


class Window:
    """Shows the frame of a remote environment, or of many side by side. Opens with the first frame; needs pygame.

    Whoever sits before it may resize it, which scales the frames, and close it: the environments then go on unseen.
    pygame has one window in a process: it is of whoever showed something last.
    """

    _shown: ClassVar[Window | None] = None  # whose the window of this process is

    def __init__(
        self, fetch: Callable[[], Any], hosted_mode: str | None, metadata: Mapping[str, Any], title: str
    ) -> None:
        """Prepare; opens nothing yet.

        Args:
            fetch: Returns the hosted environment's rendered frame or, as a tuple, those of many.
            hosted_mode: The hosted environment's render mode.
            metadata: The hosted environment's; ``"render_fps"`` sets the pace.
            title: Of the window.

        Raises:
            MisuseError: The hosted environment renders no frames that could be shown.
        """
        if hosted_mode not in ("rgb_array", "rgb_array_list"):
            raise MisuseError(
                f"render_mode='human' needs a hosted environment that renders frames, but its render mode is "
                f"{hosted_mode!r}: let the server's entrypoint make it with render_mode='rgb_array'"
            )
        self._images = Images(fetch, hosted_mode)
        self._fps = pace(metadata.get("render_fps"))
        self._title = printable(title)
        self._pygame: Any = None  # the module; kept, for nothing can be imported while the interpreter ends
        self._clock: Any = None
        self._dismissed = False  # by the button that closes it

    def show(self) -> None:
        """Fetch the frame and show it; waits as the pace asks, as local environments do.

        Raises:
            gymnasium.error.DependencyNotInstalled: There is no pygame.
            MisuseError: There is no screen.
            ProtocolError: What came is no image.
        """
        images = self._images.fetch()  # also if nobody looks: lists of frames would grow where they are made
        if self._dismissed:
            return
        if self._pygame is None:
            self._pygame = import_pygame()
            self._clock = self._pygame.time.Clock()
        display = self._pygame.display
        grid = Grid(len(images), images[0].shape[1], images[0].shape[0])
        if Window._shown is not self or display.get_surface() is None:  # another's, or somebody has ended pygame
            self._open(grid)
        self._draw(images, grid)
        display.flip()
        self._clock.tick(self._fps)
        self._pygame.event.pump()
        if self._pygame.event.peek(self._pygame.QUIT):  # and stays in the queue, which is the script's to read
            self._dismissed = True
            display.set_mode((1, 1), self._pygame.HIDDEN)  # not `quit`: the script could not read it any more

    def _open(self, grid: Grid) -> None:
        display = self._pygame.display
        start(self._pygame)
        width, height = display.get_desktop_sizes()[0]
        size = grid.window((int(width * SHARE_OF_SCREEN), int(height * SHARE_OF_SCREEN)))
        display.set_caption(self._title)
        display.set_mode(size, self._pygame.RESIZABLE)
        self._pygame.event.clear(self._pygame.QUIT)  # of a window before this one
        Window._shown = self

    def _draw(self, images: tuple[Any, ...], grid: Grid) -> None:
        surface = self._pygame.display.get_surface()
        surface.fill(BACKGROUND)
        tile, corners = grid.fit(surface.get_size())
        for image, corner in zip(images, corners, strict=True):
            picture = self._pygame.image.frombuffer(image, (grid.width, grid.height), "RGB")
            if picture.get_size() != tile:
                picture = self._pygame.transform.smoothscale(picture, tile)
            surface.blit(picture, corner)

    def close(self) -> None:
        """Close the window; may be called twice."""
        if Window._shown is self:
            Window._shown = None
            self._pygame.display.quit()


def import_pygame() -> Any:
    """Return pygame, which only windows need.

    Raises:
        gymnasium.error.DependencyNotInstalled: There is none; says how to install it.
    """
    try:
        import pygame
    except ImportError:
        raise DependencyNotInstalled(
            'render_mode="human" opens a window on this side, which needs pygame: pip install pygame'
        ) from None
    return pygame


def start(pygame: Any) -> None:
    """Start pygame's display.

    Raises:
        MisuseError: There is no screen, and nobody has said that none is wanted; says what to do.
    """
    # Else SDL takes SIGTERM from a process that has no handler for it, and `kill` would not end the trainer.
    os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")
    try:
        pygame.display.init()
        said = pygame.display.get_driver()
    except pygame.error as error:
        said = str(error)
    else:
        if said not in UNSEEN or os.environ.get("SDL_VIDEODRIVER") == said:
            return
        pygame.display.quit()
    raise MisuseError(
        f"render_mode='human' shows frames in a window on this side, and there is no screen here (SDL: {said}): set "
        f"DISPLAY, or use ssh -X; or use render_mode='rgb_array' with gymnasium.wrappers.RecordVideo, or Xvfb, or "
        f"SDL_VIDEODRIVER=dummy, which shows nothing"
    )


class Images:
    """What environments have rendered, which is a server's word: it is looked at."""

    def __init__(self, fetch: Callable[[], Any], hosted_mode: str) -> None:
        """Prepare; see `Window`."""
        self._fetch = fetch
        self._lists = hosted_mode.endswith("_list")
        self._shape: tuple[int, ...] | None = None  # of the images so far

    def fetch(self) -> tuple[Any, ...]:
        """Return one image of each environment: (height, width, 3) uint8, contiguous, all of one shape.

        Raises:
            ProtocolError: There is none.
        """
        rendered = self._fetch()
        frames = rendered if isinstance(rendered, tuple) else (rendered,)
        if not frames:
            raise ProtocolError("no images to show")
        return tuple(map(self._image, frames))

    def _image(self, rendered: Any) -> Any:
        if self._lists:
            rendered = rendered[-1] if isinstance(rendered, list) and rendered else None
        image = check_image(rendered)
        if self._shape not in (None, image.shape):
            raise ProtocolError(f"the window shows images of shape {self._shape}, and now comes {image.shape}")
        self._shape = image.shape
        return image


def check_image(rendered: Any) -> Any:
    """Return what was rendered: (height, width, 3) uint8, contiguous.

    Raises:
        ProtocolError: It is no image, or too large to be shown.
    """
    if not isinstance(rendered, np.ndarray) or rendered.ndim != 3 or rendered.dtype.kind not in "iu":
        raise ProtocolError(f"no image to show, but {type(rendered).__name__}: expected (height, width, 3) uint8")
    height, width, channels = rendered.shape
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and channels == 3):
        raise ProtocolError(f"an image of shape {rendered.shape} cannot be shown")
    return np.ascontiguousarray(rendered, np.uint8)


def pace(said: Any) -> float:
    """Return frames per second, out of what metadata say."""
    if isinstance(said, (int, float, np.integer, np.floating)) and 0 < said < math.inf:
        return max(MIN_FPS, float(min(said, MAX_FPS)))
    return DEFAULT_FPS


@dataclass(frozen=True)
class Grid:
    """Where `count` equally large images lie: row after row, with gaps between them; the last row may be short.

    Attributes:
        count: How many.
        width: Of one, pixels.
        height: Of one, pixels.
    """

    count: int
    width: int
    height: int

    @property
    def columns(self) -> int:
        """About as many as rows."""
        return math.ceil(math.sqrt(self.count))

    @property
    def rows(self) -> int:
        """As many as are needed."""
        return math.ceil(self.count / self.columns)

    def window(self, most: Size) -> Size:
        """Return how large a window shows all images pixel by pixel or, if that is more than `most`, scaled down."""
        width, height = whole = self._size((self.width, self.height))
        return whole if width <= most[0] and height <= most[1] else self._size(self._tile(most))

    def fit(self, room: Size) -> tuple[Size, list[Size]]:
        """Return a tile's size, in a window of size `room`, and each one's left upper corner; proportions are kept."""
        tile = self._tile(room)
        size = self._size(tile)
        left, top = ((room[axis] - size[axis]) // 2 for axis in (0, 1))
        places = (divmod(index, self.columns) for index in range(self.count))
        return tile, [(left + column * (tile[0] + GAP), top + row * (tile[1] + GAP)) for row, column in places]

    def _tile(self, room: Size) -> Size:
        width = max(1, (room[0] + GAP) // self.columns - GAP)
        height = max(1, (room[1] + GAP) // self.rows - GAP)
        if width * self.height > height * self.width:  # there is more room than needed beside the images
            return max(1, height * self.width // self.height), height
        return width, max(1, width * self.height // self.width)

    def _size(self, tile: Size) -> Size:
        return self.columns * (tile[0] + GAP) - GAP, self.rows * (tile[1] + GAP) - GAP
