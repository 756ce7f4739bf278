"""What CQL adds to a critic (Kumar et al., 2020): a soft maximum over actions, and max backups."""

import chex
import jax
import jax.numpy as jnp
from jax import Array


def log_sum_exp(q: Array, temperature: float | Array = 1.0) -> Array:
    """T log sum_n exp(q_n / T) over candidate actions, `[..., N, B] -> [..., B]`.

    A sum, not a mean: N equal values c give c + T log N. At least float32.
    """
    full = q.astype(jnp.promote_types(q.dtype, jnp.float32))
    return temperature * jax.nn.logsumexp(full / temperature, axis=-2)


def min_of_max(q: Array) -> Array:
    """min_i max_n q over critics i and actions n, `[E, N, B] -> [B]`: the authors' max backup."""
    chex.assert_rank(q, 3)
    return q.max(1).min(0)


def max_of_min(q: Array) -> tuple[Array, Array]:
    """max_n min_i q over actions n and critics i, `[E, N, B] -> [B]`, and which n, `[B]`.

    The max backup of JaxCQL and CORL; never above `min_of_max`.
    """
    chex.assert_rank(q, 3)
    lower = q.min(0)
    return lower.max(0), lower.argmax(0)
