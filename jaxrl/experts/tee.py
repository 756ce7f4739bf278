"""Geometry of Push-T: the block's outline, where to push it, and ways around it. In pixels.

A pose `[3]` is a position and an angle; points in the block's frame are `[..., 2]`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse import csgraph

OUTLINE = np.array(  # of the block, in order
    [(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)], float
)
GOAL = np.array([256, 256, np.pi / 4])
AGENT = 15.0  # radius of the disc that pushes
ARENA = 10.0, 502.0  # where the disc's centre may be
SPACING = 15.0  # between two places to push
LEANS = np.deg2rad([-25, 0, 25])  # of a push, from the normal of its edge
GAP = 8.0  # between block and disc where a push begins, and on the way around

Free = Callable[[np.ndarray, np.ndarray], bool]  # whether the disc can go from one to the other


class Pushes(NamedTuple):
    """Straight pushes."""

    start: np.ndarray  # [N, 2] of the disc's centre
    direction: np.ndarray  # [N, 2] unit vectors

    def at(self, pose: np.ndarray) -> "Pushes":
        """Pushes of a block at the origin, for one at `pose`."""
        return Pushes(to_world(pose, self.start), self.direction @ rotation(pose[2]).T)


def rotation(angle: float) -> np.ndarray:
    """The matrix that turns by an angle. [2, 2]"""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def to_world(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where points of the block are. [..., 2]"""
    return points @ rotation(pose[2]).T + pose[:2]


def errors(poses: np.ndarray) -> np.ndarray:
    """Mean distance of the block's corners from where they should be. [N, 3] -> [N]"""
    corners = np.stack([to_world(pose, OUTLINE) for pose in poses])
    return np.linalg.norm(corners - to_world(GOAL, OUTLINE)[None], axis=-1).mean(-1)


def pushes() -> Pushes:
    """Pushes of a block at the origin: places along all edges, each in a few directions."""
    starts, directions = [], []
    for a, b in zip(OUTLINE, np.roll(OUTLINE, -1, 0), strict=True):
        length = np.linalg.norm(b - a)
        inward = rotation(np.pi / 2) @ (b - a) / length
        places = np.linspace(a, b, 2 * int(length // SPACING) + 1)[1::2]
        for lean in LEANS:
            direction = rotation(lean) @ inward
            starts.append(places - (AGENT + GAP) * direction)
            directions.append(np.broadcast_to(direction, places.shape))
    return Pushes(np.concatenate(starts), np.concatenate(directions))


def around() -> np.ndarray:
    """Corners of ways around a block at the origin. [8, 2]"""
    edge = np.roll(OUTLINE, -1, 0) - OUTLINE
    outward = edge @ rotation(np.pi / 2) / np.linalg.norm(edge, axis=1, keepdims=True)
    return OUTLINE + (AGENT + GAP) * (outward + np.roll(outward, 1, 0))


def inside(points: np.ndarray) -> np.ndarray:
    """Whether points are in the arena. [..., 2] -> [...]"""
    return np.all((points >= ARENA[0]) & (points <= ARENA[1]), axis=-1)


def route(start: np.ndarray, end: np.ndarray, corners: np.ndarray, free: Free) -> np.ndarray:
    """The shortest way from start to end by some of the corners `[N, 2]`, or straight without one.

    Returns:
      Its points `[M, 2]`, both ends included.
    """
    points = np.concatenate([[start], corners[inside(corners)], [end]])
    length = np.zeros((len(points), len(points)))  # zero where the disc cannot go
    for i, j in np.ndindex(*length.shape):
        if j < i and free(points[i], points[j]):
            length[i, j] = np.linalg.norm(points[i] - points[j]) + 1e-6
    cost, before = csgraph.dijkstra(length, directed=False, indices=0, return_predecessors=True)
    if np.isinf(cost[-1]):
        return points[[0, -1]]
    way = [len(points) - 1]
    while way[-1]:
        way.append(int(before[way[-1]]))
    return points[way[::-1]]


def paced(way: np.ndarray, pace: float) -> np.ndarray:
    """Points along a way, at most `pace` apart, without its start and with its end. [T, 2]"""
    lengths = np.linalg.norm(np.diff(way, axis=0), axis=1)
    passed = np.concatenate([[0.0], np.cumsum(lengths)])
    at = np.linspace(0, passed[-1], max(1, int(np.ceil(passed[-1] / pace))) + 1)[1:]
    return np.stack([np.interp(at, passed, way[:, k]) for k in range(2)], 1)
