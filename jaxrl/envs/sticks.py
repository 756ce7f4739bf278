"""Stick figures of MuJoCo models: needs `mujoco` and pillow, no display and no GL."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.envs import drawing

WIDTH, HEIGHT = 320, 240  # pixels
DEPTH = np.array([0.35, 0.35])  # where the y axis points on screen: a cabinet projection


def render(model: Any, poses: Sequence, path: str | Path, fps: float) -> Path:
    """Write `poses`, joint positions `[nq]` of an `MjModel`, to `path` with the suffix `.gif`.

    The view is from the side, y pointing up and away, and follows the body along x and y.
    """
    import mujoco

    data = mujoco.MjData(model)
    frames = []
    for pose in poses:
        data.qpos[:] = np.asarray(pose)
        mujoco.mj_kinematics(model, data)
        frames.append(_frame(model, data))
    return drawing.save_gif(frames, path, fps)


def _frame(model: Any, data: Any) -> Any:
    image, draw = drawing.canvas(WIDTH, HEIGHT)
    moving = np.flatnonzero(model.geom_bodyid != 0)
    eye = data.geom_xpos[moving].mean(0) * [1, 1, 0] + model.stat.center * [0, 0, 1]
    scale = HEIGHT / 3 / model.stat.extent * 1.5
    _ground(draw, eye, scale)
    for geom in moving:
        ends = _project(_axis(model, data, geom), eye, scale)
        width = max(2, int(2 * model.geom_size[geom, 0] * scale))
        draw.line([tuple(end) for end in ends], fill=drawing.BODY, width=width)
        for x, y in ends:
            radius = width / 2
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=drawing.BODY)
    return image


def _axis(model: Any, data: Any, geom: int) -> np.ndarray:
    """End points `[2, 3]` of a capsule or cylinder; one point, twice, of anything else."""
    import mujoco

    long = (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER)
    half = model.geom_size[geom, 1] if model.geom_type[geom] in long else 0.0
    direction = data.geom_xmat[geom].reshape(3, 3)[:, 2] * half
    return data.geom_xpos[geom] + np.outer([-1, 1], direction)


def _project(points: np.ndarray, eye: np.ndarray, scale: float) -> np.ndarray:
    """Pixels `[n, 2]` of points `[n, 3]` in metres."""
    x, y, z = (points - eye).T
    across, up = x + DEPTH[0] * y, z + DEPTH[1] * y
    return np.stack([WIDTH / 2 + scale * across, HEIGHT / 2 - scale * up], axis=-1)


def _ground(draw: Any, eye: np.ndarray, scale: float) -> None:
    """The line z = 0 under the body, with a mark every metre so that motion shows."""
    metres = np.arange(np.floor(eye[0]) - 20, eye[0] + 20)
    points = np.stack([metres, np.full_like(metres, eye[1]), np.zeros_like(metres)], axis=-1)
    marks = _project(points, eye, scale)
    draw.line([tuple(marks[0]), tuple(marks[-1])], fill=drawing.INK)
    for x, y in marks:
        draw.line([(x, y), (x - 4, y + 6)], fill=drawing.INK)
