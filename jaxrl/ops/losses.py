"""Losses and the one way in which a batch is averaged."""

import chex
import jax.numpy as jnp
from jax import Array


def mean(x: Array, weight: Array | None = None) -> Array:
    """Average over the batch, the last axis of `x`; `weight` `[B]` has mean one. Scalar."""
    if weight is None:
        return x.mean()
    chex.assert_shape(weight, x.shape[-1:])
    return (x * jnp.broadcast_to(weight, x.shape)).mean()
