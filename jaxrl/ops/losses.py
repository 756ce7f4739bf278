"""Losses and the one way in which a batch is averaged."""

import chex
import jax
import jax.numpy as jnp
from jax import Array


def mean(x: Array, weight: Array | None = None) -> Array:
    """Average over the batch, the last axis of `x`; `weight` `[B]` has mean one. Scalar."""
    if weight is None:
        return x.mean()
    chex.assert_shape(weight, x.shape[-1:])
    return (x * jnp.broadcast_to(weight, x.shape)).mean()


def masked_mean(x: Array, mask: Array, weight: Array | None = None) -> Array:
    """Average of `x` `[B, K]` over the steps where `mask` `[B, K]` is True; 0 if it never is.

    Every such step counts alike, however many its window has, or by `weight` `[B]`.
    """
    chex.assert_rank([x, mask], 2)
    chex.assert_equal_shape([x, mask])
    share = mask.astype(x.dtype)
    if weight is not None:
        share = share * weight[:, None]
    total = share.sum()
    return (jnp.where(mask, x, 0) * share).sum() / jnp.where(total > 0, total, 1)


def expectile(error: Array, tau: float | Array) -> Array:
    """|tau - 1(u < 0)| u^2 per element for u = target - estimate; IQL, Eq. 5. [...]"""
    return jnp.where(error > 0, tau, 1 - tau) * jnp.square(error)


def advantage_weight(advantage: Array, beta: float | Array, cap: float | Array) -> Array:
    """min(exp(beta A), cap), a likelihood's weight in AWR and IQL; carries no gradient. [...]

    `beta` is an inverse temperature: 0 weighs all alike. At least float32; never overflows.
    """
    full = advantage.astype(jnp.promote_types(advantage.dtype, jnp.float32))
    power, bound = beta * full, jnp.log(cap)
    weight = jnp.where(power < bound, jnp.exp(jnp.minimum(power, bound)), cap)
    return jax.lax.stop_gradient(weight)


def standardize(x: Array, weight: Array | None = None) -> Array:
    """`x` with mean 0 and deviation 1 (ddof 0) over the whole batch, on all devices. [B]"""
    centred = x - mean(x, weight)
    return centred / (jnp.sqrt(mean(jnp.square(centred), weight)) + 1e-8)
