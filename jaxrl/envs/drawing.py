"""Small GIFs with pillow alone: no display, no GL, no video encoder."""

import math
from pathlib import Path
from typing import Any

PAPER, INK, BODY = range(3)  # indices into the palette
PALETTE = [255, 255, 255, 40, 40, 40, 40, 90, 160]
MAX_FPS = 50  # viewers play GIFs of shorter delays slowly
MAX_FRAMES = 1000


def canvas(width: int, height: int) -> tuple[Any, Any]:
    """A blank pillow image of `width` by `height` pixels, and what draws on it."""
    from PIL import Image, ImageDraw  # matplotlib brings it; needed for videos only

    image = Image.new("P", (width, height), PAPER)
    image.putpalette(PALETTE + [0] * (768 - len(PALETTE)))
    return image, ImageDraw.Draw(image)


def save_gif(frames: list, path: str | Path, fps: float) -> Path:
    """Write pillow images to `path` with the suffix `.gif`, at most the first 1000, looping.

    `fps` is the speed of the simulation: where that is beyond 50 frames a second, which viewers
    do not play, frames are skipped so that time still runs as it did.
    """
    stride = math.ceil(fps / MAX_FPS - 1e-6)
    frames = frames[::stride][:MAX_FRAMES]
    path = Path(f"{path}.gif")
    path.parent.mkdir(parents=True, exist_ok=True)
    delay = round(1000 * stride / fps)  # milliseconds
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=delay, loop=0)
    return path
