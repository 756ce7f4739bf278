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

    The view is from the side, the y axis pointing away and up; it follows the body along x and y,
    and is as wide as the first pose needs.
    """
    import mujoco

    data = mujoco.MjData(model)
    frames, scene = [], None
    for pose in poses:
        data.qpos[:] = np.asarray(pose)
        mujoco.mj_kinematics(model, data)
        lines, radii = _bones(model, data)
        scene = scene or _scene(lines)
        frames.append(_frame(lines, radii, *scene))
    return drawing.save_gif(frames, path, fps)


def _bones(model: Any, data: Any) -> tuple[np.ndarray, np.ndarray]:
    """End points `[g, 2, 3]` and radii `[g]` of all that moves; only long shapes have length."""
    import mujoco

    moving = model.geom_bodyid != 0
    capsule, cylinder = mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER
    long = np.isin(model.geom_type[moving], [int(capsule), int(cylinder)])
    half = np.where(long, model.geom_size[moving, 1], 0.0)
    axis = data.geom_xmat[moving].reshape(-1, 3, 3)[:, :, 2] * half[:, None]
    centre = data.geom_xpos[moving]
    return np.stack([centre - axis, centre + axis], axis=1), model.geom_size[moving, 0]


def _scene(lines: np.ndarray) -> tuple[float, float]:
    """Height of the eye in metres, and pixels to the metre."""
    height = lines[..., 2].mean()
    reach = np.abs(lines - lines.mean((0, 1))).max()
    return height, 0.3 * HEIGHT / max(reach, 1e-3)


def _frame(lines: np.ndarray, radii: np.ndarray, height: float, scale: float) -> Any:
    image, draw = drawing.canvas(WIDTH, HEIGHT)
    eye = lines.mean((0, 1)) * [1, 1, 0] + [0, 0, height]
    _ground(draw, eye, scale)
    for ends, radius in zip(lines, radii * scale, strict=True):
        pixels = [tuple(end) for end in _project(ends, eye, scale)]
        draw.line(pixels, fill=drawing.BODY, width=max(2, int(2 * radius)))
        for x, y in pixels:
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=drawing.BODY)
    return image


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
