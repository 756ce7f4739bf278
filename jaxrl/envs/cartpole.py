"""CartPole-v1 (Gymnasium 1.3): balance a pole on a cart that is pushed left or right."""

import math
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs import drawing
from jaxrl.envs.base import Env, auto_reset
from jaxrl.types import Array, Key, Spec

TIME_LIMIT = 500
GRAVITY = 9.8  # m/s^2
POLE_MASS = 0.1  # kg
TOTAL_MASS = 1.0 + POLE_MASS  # kg, cart and pole
HALF_LENGTH = 0.5  # m, from the pole's joint to its centre of mass
FORCE = 10.0  # N
DT = 0.02  # s
MAX_POSITION = 2.4  # m
MAX_ANGLE = 12 * math.pi / 180  # rad


class CartPole(NamedTuple):
    """State of cart and pole, which is also the observation."""

    position: Array  # [] m
    velocity: Array  # [] m/s
    angle: Array  # [] rad, 0 upright
    spin: Array  # [] rad/s


def make() -> Env:
    """The environment: observation `[4]`, actions 0 (push left) and 1 (push right)."""
    dtype = jnp.result_type(float)
    spec = Spec(jax.ShapeDtypeStruct((4,), dtype), jax.ShapeDtypeStruct((), jnp.int32), 2)
    return auto_reset(spec, reset, dynamics, TIME_LIMIT, render)


def reset(key: Key) -> tuple[CartPole, Array]:
    """Every variable uniform in [-0.05, 0.05]."""
    obs = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
    return CartPole(*obs), obs


def dynamics(state: CartPole, action: Array, key: Key) -> tuple[CartPole, Array, Array, Array]:
    """One explicit Euler step; the reward is 1, also on the step that ends the episode.

    Equations of motion of Florian (2007), "Correct equations for the dynamics of the cart-pole
    system", without friction.
    """
    del key  # deterministic
    position, velocity, angle, spin = state
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    lever = POLE_MASS * HALF_LENGTH
    push = (jnp.where(action == 1, FORCE, -FORCE) + lever * spin**2 * sin) / TOTAL_MASS
    inertia = HALF_LENGTH * (4 / 3 - POLE_MASS * cos**2 / TOTAL_MASS)
    spin_rate = (GRAVITY * sin - cos * push) / inertia
    acceleration = push - lever * spin_rate * cos / TOTAL_MASS
    position, velocity = position + DT * velocity, velocity + DT * acceleration
    angle, spin = angle + DT * spin, spin + DT * spin_rate
    terminal = (jnp.abs(position) > MAX_POSITION) | (jnp.abs(angle) > MAX_ANGLE)
    state = CartPole(position, velocity, angle, spin)
    obs = jnp.stack(state)
    return state, obs, jnp.ones((), obs.dtype), terminal


def render(states: list[CartPole], path: str | Path) -> Path:
    """Write a GIF of one episode to `path` with the suffix `.gif`."""
    frames = [_frame(float(state.position), float(state.angle)) for state in states]
    return drawing.save_gif(frames, path, 1 / DT)


def _frame(position: float, angle: float):
    image, draw = drawing.canvas(300, 160)
    x, y = 150 + 50 * position, 120  # 50 pixels to the metre
    draw.line([(0, 132), (300, 132)], fill=drawing.INK)
    draw.rectangle([(x - 20, y - 10), (x + 20, y + 10)], fill=drawing.INK)
    tip = (x + 90 * math.sin(angle), y - 90 * math.cos(angle))
    draw.line([(x, y), tip], fill=drawing.BODY, width=8)
    return image
