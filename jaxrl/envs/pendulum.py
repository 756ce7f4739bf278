"""Pendulum-v1 (Gymnasium 1.3): swing a pendulum up and hold it, with too weak a motor."""

import math
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs import drawing
from jaxrl.envs.base import Env, auto_reset
from jaxrl.types import Array, Key, Spec

TIME_LIMIT = 200
GRAVITY = 10.0  # m/s^2; the rod has mass 1 kg and length 1 m
MAX_TORQUE = 2.0  # N m, at an action of 1
MAX_SPEED = 8.0  # rad/s
DT = 0.05  # s


class Pendulum(NamedTuple):
    """State of the rod."""

    angle: Array  # [] rad in [-pi, pi], 0 upright
    velocity: Array  # [] rad/s


def make() -> Env:
    """The environment: observation `[3]` (cos, sin, velocity), action `[1]` in [-1, 1].

    One step equals Gymnasium's. The angle is kept wrapped, which changes neither observations nor
    rewards and keeps float32 exact through an episode.
    """
    dtype = jnp.result_type(float)
    spec = Spec(jax.ShapeDtypeStruct((3,), dtype), jax.ShapeDtypeStruct((1,), dtype))
    return auto_reset(spec, reset, dynamics, TIME_LIMIT, render)


def reset(key: Key) -> tuple[Pendulum, Array]:
    """Any angle, and a velocity uniform in [-1, 1]."""
    angle, velocity = jax.random.uniform(key, (2,), minval=-1.0)
    state = Pendulum(jnp.pi * angle, velocity)
    return state, observe(state)


def dynamics(state: Pendulum, action: Array, key: Key) -> tuple[Pendulum, Array, Array, Array]:
    """One semi-implicit Euler step; the reward is of the state before it. Never terminal."""
    del key  # deterministic
    angle, velocity = state
    torque = MAX_TORQUE * jnp.clip(action[0], -1, 1)
    reward = -(angle**2 + 0.1 * velocity**2 + 0.001 * torque**2)
    acceleration = 1.5 * GRAVITY * jnp.sin(angle) + 3.0 * torque
    velocity = jnp.clip(velocity + acceleration * DT, -MAX_SPEED, MAX_SPEED)
    state = Pendulum(wrap(angle + velocity * DT), velocity)
    return state, observe(state), reward, jnp.array(False)


def observe(state: Pendulum) -> Array:
    """Observation `[3]`."""
    return jnp.stack([jnp.cos(state.angle), jnp.sin(state.angle), state.velocity])


def wrap(angle: Array) -> Array:
    """`angle` in [-pi, pi]; unchanged, to the bit, where it already is."""
    return angle - 2 * jnp.pi * jnp.round(angle / (2 * jnp.pi))


def render(states: list[Pendulum], path: str | Path) -> Path:
    """Write a GIF of one episode to `path` with the suffix `.gif`."""
    return drawing.save_gif([_frame(float(state.angle)) for state in states], path, 1 / DT)


def _frame(angle: float):
    image, draw = drawing.canvas(200, 200)
    tip = (100 + 80 * math.sin(angle), 100 - 80 * math.cos(angle))
    draw.line([(100, 100), tip], fill=drawing.BODY, width=14)
    draw.ellipse([(94, 94), (106, 106)], fill=drawing.INK)
    return image
