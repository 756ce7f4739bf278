"""Learning a return's normal distribution: twin critics, gradients of their two outputs."""

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxrl.ops import losses

HUBER = 50.0  # where the loss of 2025 turns linear
RATIO = 0.1, 10.0  # bounds of that loss's gradient scale


def lowest(mean: Array, std: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the critic with the lower mean. `[E, B]` to `[B]`"""
    chosen = jnp.arange(len(mean))[:, None] == mean.argmin(0)[None]
    return mean.min(0), jnp.where(chosen, std, 0).sum(0)


def running_spread(spread: Array, std: Array, weight: Array | None, tau: float) -> Array:
    """Running mean over batches of standard deviations `[E, B]`; 0 before the first. [E]"""
    now = jax.vmap(losses.mean, (0, None))(std, weight)
    return jnp.where(spread > 0, (1 - tau) * spread + tau * now, now)


def paper_gradients(
    std: Array, error: Array, clipped: Array, scale: Array, bias: float
) -> tuple[Array, Array]:
    """dL/dQ and dL/dsigma of DSAC-T's loss (arXiv:2310.05858): a scaled Gaussian likelihood.

    Args:
      std: sigma of every critic and sample. [E, B]
      error: target of the mean less the mean. [E, B]
      clipped: sampled target less the mean, clipped. [E, B]
      scale: omega. [E, 1]
      bias: keeps divisions by sigma finite.
    """
    d_mean = -scale * error / (std**2 + bias)
    d_std = -scale * (clipped**2 - std**2) / (std**3 + bias)
    return d_mean, d_std


def huber_gradients(
    std: Array, error: Array, clipped: Array, scale: Array, bias: float
) -> tuple[Array, Array]:
    """The same of the authors' code since July 2025. The Huber loss's 1/2 halves the variance."""
    ratio = jnp.clip(scale / (std**2 + bias), *RATIO)
    d_mean = -ratio * error.clip(-HUBER, HUBER)
    d_std = ratio * (std**2 - optax.huber_loss(clipped, delta=HUBER)) / (std + bias)
    return d_mean, d_std
