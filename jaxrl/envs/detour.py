"""Detour: cross a square from left to right around a round obstacle, above it or below.

Straight ahead is the mean of the two ways, and hits. An embedded task for policies with several
modes; the return of an episode is 1 where the far side is reached, and 0 elsewhere.
"""

from pathlib import Path

import jax
import jax.numpy as jnp

from jaxrl.envs import drawing
from jaxrl.envs.base import Env, auto_reset
from jaxrl.types import Array, Key, Spec

TIME_LIMIT = 40
SPEED = 0.15  # distance per step and axis, at an action of 1
RADIUS = 0.66  # of the obstacle, which is at the origin
START = 0.02  # the start is at x = -1, with |y| at most this
WALL = 1.2  # where positions are clipped


def make() -> Env:
    """The environment: observation `[2]`, the position; action `[2]` in [-1, 1], the velocity."""
    dtype = jnp.result_type(float)
    spec = Spec(jax.ShapeDtypeStruct((2,), dtype), jax.ShapeDtypeStruct((2,), dtype))
    return auto_reset(spec, reset, dynamics, TIME_LIMIT, render)


def reset(key: Key) -> tuple[Array, Array]:
    """The left side, near the middle."""
    position = jnp.stack([-1.0, jax.random.uniform(key, minval=-START, maxval=START)])
    return position, position


def dynamics(position: Array, action: Array, key: Key) -> tuple[Array, Array, Array, Array]:
    """One step; the episode ends at the far side, x = 1, with reward 1, or in the obstacle."""
    del key  # deterministic
    position = jnp.clip(position + SPEED * jnp.clip(action, -1, 1), -WALL, WALL)
    hit = jnp.square(position).sum() < RADIUS**2
    arrived = position[0] >= 1
    return position, position, arrived.astype(position.dtype), arrived | hit


def render(states: list[Array], path: str | Path) -> Path:
    """Write a GIF of one episode to `path` with the suffix `.gif`."""
    points = [tuple(100 + 80 * float(x) for x in state) for state in states]
    return drawing.save_gif([_frame(points[: i + 1]) for i in range(len(points))], path, 10)


def _frame(points: list[tuple[float, ...]]):
    image, draw = drawing.canvas(200, 200)
    size = 80 * RADIUS
    draw.ellipse([(100 - size, 100 - size), (100 + size, 100 + size)], fill=drawing.INK)
    for x, y in points:
        draw.ellipse([(x - 3, y - 3), (x + 3, y + 3)], fill=drawing.BODY)
    return image
