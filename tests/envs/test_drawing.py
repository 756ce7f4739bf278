"""GIFs: their speed, their size, their place."""

import pytest
from PIL import Image

from jaxrl.envs import drawing


def frames(count):
    for i in range(count):
        image, draw = drawing.canvas(120, 20)
        draw.line([(i % 100, 0), (i % 100, 20)], fill=drawing.BODY)
        yield image


@pytest.mark.parametrize("fps, milliseconds, shown", [(20, 50, 60), (50, 20, 60), (100, 20, 30)])
def test_time_runs_as_simulated(tmp_path, fps, milliseconds, shown):
    path = drawing.save_gif(list(frames(60)), tmp_path / "film", fps)
    with Image.open(path) as film:
        assert film.info["duration"] == milliseconds and film.n_frames == shown


def test_long_episodes_are_cut(tmp_path):
    path = drawing.save_gif(list(frames(1200)), tmp_path / "new" / "film", 50)
    with Image.open(path) as film:
        assert film.n_frames == drawing.MAX_FRAMES
