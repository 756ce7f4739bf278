"""Denoising diffusion in discrete time (Ho et al., 2020; arXiv:2006.11239), T steps t = 0 .. T-1.

x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, where abar_t is the product of 1 - beta up to t, and
abar_{-1} = 1. Schedules are computed once, in double precision.
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrl.ops import sampling
from jaxrl.ops.sampling import Denoise, Network, Noisy, Path, Process, Step

Prediction = Literal["epsilon", "sample", "v"]
Sampler = Literal["ddpm", "ddim", "idql"]


class Row(NamedTuple):
    """One step of a chain, from `abar` to `following`."""

    time: Any  # int32
    abar: Any
    following: Any  # abar of the next step, 1 at the end


def cosine(steps: int) -> np.ndarray:
    """Betas of the squared cosine schedule (Nichol and Dhariwal, 2021, Eq. 17). [T]"""
    grid = np.arange(steps + 1) / steps
    level = np.cos((grid + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - level[1:] / level[:-1], 0.999)


def variance_preserving(steps: int) -> np.ndarray:
    """Betas of Diffusion-QL and IDQL: the last abar is .0064, whatever the number of steps. [T]"""
    t = np.arange(1, steps + 1)
    return 1 - np.exp(-0.1 / steps - 0.5 * 9.9 * (2 * t - 1) / steps**2)


SCHEDULES = {"cosine": cosine, "vp": variance_preserving}


def corrupt(abar: np.ndarray, kind: Prediction, x0: Array, noise: Array, time: Array) -> Noisy:
    """x_t and what the network should say of it: eps, x_0, or v (Salimans and Ho, 2022)."""
    signal = jnp.sqrt(sampling.at(abar, time, x0))
    spread = jnp.sqrt(sampling.at(1 - abar, time, x0))
    x = signal * x0 + spread * noise
    target = {"epsilon": noise, "sample": x0, "v": signal * noise - spread * x0}[kind]
    return Noisy(x, time.astype(x.dtype), target)


def clean(abar: np.ndarray, kind: Prediction, network: Network, x: Array, time: Array) -> Array:
    """The estimate of x_0 that follows from the network's prediction at x_t. [B, ...]"""
    signal = jnp.sqrt(sampling.at(abar, time, x))
    spread = jnp.sqrt(sampling.at(1 - abar, time, x))
    predicted = network(x, time.astype(x.dtype))
    if kind == "epsilon":
        return (x - spread * predicted) / signal
    return predicted if kind == "sample" else signal * x - spread * predicted


def coefficients(abar: Array, following: Array) -> tuple[Array, Array, Array]:
    """Those of x_0 and of x_t in the posterior mean, and the posterior's variance, Eq. 7."""
    kept = abar / following  # 1 - beta, of a step over several where the grid is coarse
    of_clean = jnp.sqrt(following) * (1 - kept) / (1 - abar)
    of_x = jnp.sqrt(kept) * (1 - following) / (1 - abar)
    return of_clean, of_x, (1 - kept) * (1 - following) / (1 - abar)


def ddpm_step(denoise: Denoise, path: Path, row: Row, key: Array) -> Path:
    """A sample of q(x_{t-1} | x_t, x_0), with its own ("fixed small") variance, Eq. 6."""
    estimate = denoise(path.x, row.time)
    of_clean, of_x, variance = coefficients(row.abar, row.following)
    noise = jax.random.normal(key, path.x.shape, path.x.dtype)
    x = of_clean * estimate + of_x * path.x + jnp.sqrt(variance) * noise
    return Path(x, estimate)


def ddim_step(eta: float | Array, denoise: Denoise, path: Path, row: Row, key: Array) -> Path:
    """DDIM (Song et al., 2020; arXiv:2010.02502), Eq. 12 and 16: eta 0 is an ODE, 1 is DDPM.

    The noise is the one that belongs to the estimate, after guiding and clipping it.
    """
    estimate = denoise(path.x, row.time)
    predicted = (path.x - jnp.sqrt(row.abar) * estimate) / jnp.sqrt(1 - row.abar)
    variance = jnp.square(eta) * coefficients(row.abar, row.following)[2]
    direction = jnp.sqrt((1 - row.following - variance).clip(0))
    noise = jax.random.normal(key, path.x.shape, path.x.dtype)
    x = jnp.sqrt(row.following) * estimate + direction * predicted
    return Path(x + jnp.sqrt(variance) * noise, estimate)


def idql_step(denoise: Denoise, path: Path, row: Row, key: Array) -> Path:
    """IDQL's chain: variance beta_t ("fixed large"), and x itself is clipped to [-1, 1]."""
    estimate = denoise(path.x, row.time)
    of_clean, of_x, _ = coefficients(row.abar, row.following)
    variance = jnp.where(row.following < 1, 1 - row.abar / row.following, 0)
    noise = jax.random.normal(key, path.x.shape, path.x.dtype)
    x = of_clean * estimate + of_x * path.x + jnp.sqrt(variance) * noise
    return Path(x.clip(-1, 1), estimate)


def grid(abar: np.ndarray, steps: int) -> Row:
    """Times 0, T // K, 2 (T // K), ... backwards, for K = `steps`; all of them where K is T."""
    time = np.arange(steps)[::-1] * (len(abar) // steps)
    return Row(time, abar[time], np.append(abar[time[1:]], 1.0))


def process(
    beta: np.ndarray,
    prediction: Prediction = "epsilon",
    sampler: Sampler = "ddpm",
    sample_steps: int = 0,
    eta: float | Array = 0.0,
    clip: float | None = 1.0,
) -> Process:
    """Diffusion with the schedule `beta` `[T]`.

    Args:
      sampler: DDPM, DDIM, or IDQL's variant of DDPM, which clips x and not the estimate.
      sample_steps: length of the chain, at most T; 0 means T.
      eta: share of DDPM's noise in DDIM.
      clip: bound of the estimates of x_0.
    """
    abar = np.cumprod(1 - beta)
    steps: dict[str, Step] = {"ddpm": ddpm_step, "ddim": partial(ddim_step, eta), "idql": idql_step}
    return Process(
        times=lambda key, n: jax.random.randint(key, (n,), 0, len(abar)),
        corrupt=partial(corrupt, abar, prediction),
        clean=partial(clean, abar, prediction),
        step=steps[sampler],
        grid=grid(abar, sample_steps or len(abar)),
        clip=None if sampler == "idql" else clip,
    )


def ema_decay(count: Array, power: float | Array = 0.75, cap: float | Array = 0.9999) -> Array:
    """Decay of the weights' average at call `count` = 0, 1, ...: 1 - count^-power, at first 0. []

    Diffusion Policy's: the first two calls copy the weights.
    """
    count = count.astype(jnp.result_type(float))
    return jnp.clip(1 - jnp.maximum(count, 1) ** -power, 0, cap)


def ema_warmup(count: Array, cap: float | Array = 0.999) -> Array:
    """BESO's decay at call `count` = 0, 1, ...: min(cap, (1 + n) / (10 + n)). []"""
    return jnp.minimum(cap, (1 + count) / (10 + count))
