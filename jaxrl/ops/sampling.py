"""From noise to data: the one loop in which diffusion, EDM and flow-matching policies sample.

A `Process` says how data are corrupted, what a network learns to predict from them, and how a chain
steps back. Every chain moves by an estimate of the clean data, so a `guide`, which may change that
estimate, works with all of them: adding (1 - abar) / sqrt(abar) grad log p(y|x) to it is classifier
guidance (Dhariwal and Nichol, 2021), overwriting a part of it is inpainting.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

Network = Callable[[Array, Array], Array]  # x [B, ...], what it is told of the time [B]
Denoise = Callable[[Array, Array], Array]  # x [B, ...], time [] -> estimate of the data
Guide = Callable[[Array, Array, Array], Array]  # estimate, x, time [] -> estimate


class Noisy(NamedTuple):
    """What a network is trained on."""

    x: Array  # [B, ...] its input
    time: Array  # [B] what it is told of the time
    target: Array  # [B, ...] what it should predict


class Path(NamedTuple):
    """A chain on its way to the data."""

    x: Array  # [B, ...]
    clean: Array  # [B, ...] the latest estimate of the data, zero before the first


Step = Callable[[Denoise, Path, Any, Array], Path]  # denoise, path, row of the grid, key


class Process(NamedTuple):
    """How data become noise and noise becomes data; times are in the process's own units."""

    times: Callable[[Array, int], Array]  # key, n -> times to train at [n]
    corrupt: Callable[[Array, Array, Array], Noisy]  # data, standard noise, times [B]
    clean: Callable[[Network, Array, Array], Array]  # network, x, times [B] -> estimate
    step: Step
    grid: Any  # a row for each step of the chain, leaves [K]
    scale: float | Array = 1.0  # standard deviation of the noise that a chain starts from
    clip: float | None = None  # bound of the estimate, before it is used


def error(process: Process, network: Network, data: Array, noise: Array, times: Array) -> Array:
    """(prediction - target)^2, averaged over all axes but the first. [B]"""
    noisy = process.corrupt(data, noise, times)
    squares = jnp.square(network(noisy.x, noisy.time) - noisy.target)
    return squares.mean(tuple(range(1, squares.ndim)))


def estimate(
    process: Process, network: Network, guide: Guide | None, x: Array, time: Array
) -> Array:
    """The clean data that `x` at `time` `[]` may have come from, guided, then clipped. [B, ...]"""
    clean = process.clean(network, x, jnp.broadcast_to(time, x.shape[:1]))
    clean = clean if guide is None else guide(clean, x, time)
    return clean if process.clip is None else clean.clip(-process.clip, process.clip)


def sample(
    process: Process, network: Network, noise: Array, key: Array, guide: Guide | None = None
) -> Array:
    """Data from standard normal `noise`, by one scan over the process's grid. [B, ...]

    Args:
      key: of the noise that steps add, where the chain is stochastic.
    """
    grid = jax.tree.map(lambda x: cast(x, noise.dtype), process.grid)
    count = len(jax.tree.leaves(grid)[0])

    def body(path: Path, now: tuple[Array, Any]) -> tuple[Path, None]:
        index, row = now

        def denoise(x: Array, time: Array) -> Array:
            return estimate(process, network, guide, x, time)

        return process.step(denoise, path, row, jax.random.fold_in(key, index)), None

    start = Path(process.scale * noise, jnp.zeros_like(noise))
    return jax.lax.scan(body, start, (jnp.arange(count), grid))[0].x


def cast(x: Any, dtype: Any) -> Array:
    """A table as an array: floats in `dtype`, integers as they are."""
    return jnp.asarray(x, dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.int32)


def at(table: Any, index: Array, like: Array) -> Array:
    """Entries of a table for every row of `like`, ready to be multiplied with it. [B, 1, ...]"""
    return column(cast(table, like.dtype)[index], like)


def column(x: Array, like: Array) -> Array:
    """`x` `[B]` with as many axes as `like` `[B, ...]`, in its type. [B, 1, ...]"""
    return x.reshape(x.shape + (1,) * (like.ndim - x.ndim)).astype(like.dtype)


def toward(conditional: Array, unconditional: Array, scale: float | Array) -> Array:
    """u + scale (c - u), classifier-free guidance: 0 ignores the condition, 1 is the conditional.

    Ho and Salimans (2022; arXiv:2207.12598), whose w is `scale` - 1. [...]
    """
    return unconditional + scale * (conditional - unconditional)


def dropped(condition: Array, rate: float | Array, key: Array) -> Array:
    """`condition` `[B, ...]`, all of it zero in a share `rate` of the samples."""
    keep = jax.random.bernoulli(key, 1 - rate, condition.shape[:1])
    return condition * column(keep, condition)
