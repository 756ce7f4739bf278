"""Flow matching along straight paths (Lipman et al., 2022; Liu et al., 2022).

x_t = (1 - t) z + t x_1: noise z at t = 0, data at t = 1, and the velocity to learn is x_1 - z.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrl.ops import sampling
from jaxrl.ops.sampling import Denoise, Network, Noisy, Path, Process

TICKS = 100.0  # what networks are told is t times this, the range of a diffusion's time


class Row(NamedTuple):
    """One Euler step."""

    time: Any  # t
    share: Any  # of the way that is left: dt / (1 - t)


def corrupt(data: Array, noise: Array, time: Array) -> Noisy:
    """A point on the straight path, and the velocity along it."""
    t = sampling.column(time, data)
    return Noisy((1 - t) * noise + t * data, TICKS * time, data - noise)


def clean(network: Network, x: Array, time: Array) -> Array:
    """Where the velocity leads by t = 1: x + (1 - t) v(x, t). [B, ...]"""
    return x + (1 - sampling.column(time, x)) * network(x, TICKS * time)


def euler(denoise: Denoise, path: Path, row: Row, key: Array) -> Path:
    """x + dt v, written as a share of the way to where the velocity leads."""
    del key
    estimate = denoise(path.x, row.time)
    return Path(path.x + row.share * (estimate - path.x), estimate)


def process(sample_steps: int = 10, clip: float | None = None) -> Process:
    """Flow matching, sampled by `sample_steps` Euler steps of equal length.

    Args:
      clip: bound of the estimates of the data; usually only the last is clipped, after the chain.
    """
    index = np.arange(sample_steps)
    return Process(
        times=lambda key, n: jax.random.uniform(key, (n,), jnp.result_type(float)),
        corrupt=corrupt,
        clean=clean,
        step=euler,
        grid=Row(index / sample_steps, 1 / (sample_steps - index)),
        clip=clip,
    )
