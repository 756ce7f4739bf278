"""Diffusion in continuous noise levels sigma (EDM: Karras et al., 2022; arXiv:2206.00364).

x = x_0 + sigma eps. Few-step samplers and the noise distribution of BESO (Reuss et al., 2023;
arXiv:2304.02532). A time is a sigma.
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrl.ops import sampling
from jaxrl.ops.sampling import Denoise, Network, Noisy, Path, Process

Sampler = Literal["dpm1", "dpm2m", "heun"]
Spacing = Literal["exponential", "karras"]


class Preconditioning(NamedTuple):
    """c_skip, c_out, c_in and c_noise of EDM, Table 1. [...] each, as sigma."""

    skip: Array
    out: Array
    scale: Array
    noise: Array


class Row(NamedTuple):
    """One step of a chain."""

    time: Any  # sigma
    following: Any  # the next sigma, 0 at the end
    history: Any  # weight of the previous estimate in DPM-Solver++(2M)


def precondition(sigma: Array, sigma_data: float | Array) -> Preconditioning:
    """Coefficients that keep the network's inputs and targets at unit variance."""
    total = jnp.square(sigma) + sigma_data**2
    return Preconditioning(
        skip=sigma_data**2 / total,
        out=sigma * sigma_data / jnp.sqrt(total),
        scale=1 / jnp.sqrt(total),
        noise=jnp.log(sigma) / 4,
    )


def corrupt(sigma_data: float | Array, x0: Array, noise: Array, sigma: Array) -> Noisy:
    """c_in x, c_noise and (x_0 - c_skip x) / c_out, whose squared error is EDM's weighted one."""
    c = precondition(sampling.column(sigma, x0), sigma_data)
    x = x0 + sampling.column(sigma, x0) * noise
    return Noisy(c.scale * x, jnp.log(sigma) / 4, (x0 - c.skip * x) / c.out)


def clean(sigma_data: float | Array, network: Network, x: Array, sigma: Array) -> Array:
    """D(x; sigma) = c_skip x + c_out F(c_in x, c_noise), Eq. 7. [B, ...]"""
    c = precondition(sampling.column(sigma, x), sigma_data)
    return c.skip * x + c.out * network(c.scale * x, jnp.log(sigma) / 4)


def log_logistic(
    low: float | Array, high: float | Array, loc: Array, scale: float, key: Array, n: int
) -> Array:
    """Sigmas whose logarithm is logistic around `loc`, truncated to [low, high]. [n]"""
    bounds = jax.nn.sigmoid((jnp.log(jnp.array([low, high])) - loc) / scale)
    u = jax.random.uniform(key, (n,), bounds.dtype, bounds[0], bounds[1])
    return jnp.exp(loc + scale * jax.scipy.special.logit(u)).clip(low, high)


def multistep(denoise: Denoise, path: Path, row: Row, key: Array) -> Path:
    """DPM-Solver-1, that is Euler, and with `history` DPM-Solver++(2M) (Lu et al., 2022).

    At sigma 0 it lands on the estimate exactly.
    """
    del key
    estimate = denoise(path.x, row.time)
    extrapolated = estimate + row.history * (estimate - path.clean)
    ratio = row.following / row.time
    return Path(ratio * path.x + (1 - ratio) * extrapolated, estimate)


def heun(denoise: Denoise, path: Path, row: Row, key: Array) -> Path:
    """Heun's method, EDM's Algorithm 1; the step to sigma 0 is Euler's."""
    del key
    estimate = denoise(path.x, row.time)
    slope = (path.x - estimate) / row.time
    euler = path.x + (row.following - row.time) * slope

    def corrected(euler: Array) -> Array:
        there = (euler - denoise(euler, row.following)) / row.following
        return path.x + (row.following - row.time) * (slope + there) / 2

    return Path(jax.lax.cond(row.following > 0, corrected, lambda x: x, euler), estimate)


def sigmas(low: float | Array, high: float | Array, steps: int, spacing: Spacing) -> Array:
    """Noise levels of a chain of `steps` steps from `high` by `low` to 0. [steps + 1]

    Evenly spaced logarithms, or EDM's seventh roots, Eq. 5. A single step goes from `high` to 0.
    """
    share = jnp.linspace(0, 1, steps)
    if spacing == "exponential":
        levels = high * (low / high) ** share
    else:
        levels = (high ** (1 / 7) + share * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    return jnp.append(levels, 0.0)


def grid(levels: Array, second_order: bool) -> Row:
    """Rows of a chain through decreasing `levels` `[K + 1]`; the history is used at second order.

    Its weight is h_i / (2 h_{i-1}) for steps h of log sigma; the first and the step to 0 have none.
    """
    h = -jnp.diff(jnp.log(levels))
    history = jnp.append(0.0, jnp.where(jnp.isfinite(h[1:]), h[1:] / (2 * h[:-1]), 0))
    return Row(levels[:-1], levels[1:], history if second_order else jnp.zeros_like(history))


def process(
    sigma_data: float | Array = 0.5,
    sigma_min: float | Array = 0.005,
    sigma_max: float | Array = 1.0,
    sampler: Sampler = "dpm1",
    sample_steps: int = 3,
    spacing: Spacing = "exponential",
    clip: float | None = None,
) -> Process:
    """EDM with BESO's choices: log-logistic noise around `sigma_data`, three steps of DPM-Solver-1.

    Args:
      sigma_data: standard deviation of the data.
      sigma_min, sigma_max: range of noise levels; a chain starts at the highest.
      clip: bound of the estimates of the data.
    """

    def times(key: Array, n: int) -> Array:
        return log_logistic(sigma_min, sigma_max, jnp.log(sigma_data), 0.5, key, n)

    return Process(
        times=times,
        corrupt=partial(corrupt, sigma_data),
        clean=partial(clean, sigma_data),
        step=heun if sampler == "heun" else multistep,
        grid=grid(sigmas(sigma_min, sigma_max, sample_steps, spacing), sampler == "dpm2m"),
        scale=sigma_max,
        clip=clip,
    )
