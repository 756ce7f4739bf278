"""What CQL adds to a critic (Kumar et al., 2020): a soft maximum over actions, and max backups."""

import chex
import jax
import jax.numpy as jnp
from jax import Array


def log_sum_exp(q: Array, temperature: float | Array = 1.0) -> Array:
    """T log sum_n exp(q_n / T) over candidate actions, `[..., N] -> [...]`.

    A sum, not a mean: N equal values c give c + T log N. At least float32.
    """
    full = q.astype(jnp.promote_types(q.dtype, jnp.float32))
    return temperature * jax.nn.logsumexp(full / temperature, axis=-1)


def gap(
    q: Array, q_data: Array, log_density: Array | None, temperature: float | Array = 1.0
) -> Array:
    """Soft maximum of Q over candidate actions, minus Q of the data's action. [E, B]

    Args:
      q: values of M candidates. [E, B, M]
      q_data: values of the data's actions. [E, B]
      log_density: of the candidates under what drew them, for an importance-weighted sum (the
        authors' version 3); `None` adds the data's action to an unweighted one (version 2). [B, M]
    """
    chex.assert_equal_shape([q[..., 0], q_data])
    if log_density is None:
        values = jnp.concatenate([q, q_data[..., None]], -1)
    else:
        chex.assert_equal_shape([q[0], log_density])
        values = q - jax.lax.stop_gradient(log_density)[None]
    return log_sum_exp(values, temperature) - q_data


def calibrated(q: Array, bound: Array, uniform: int) -> Array:
    """max(Q, bound) for the policy's candidates, so that no lower value is pressed further down.

    Cal-QL (Nakamoto et al., 2023; arXiv:2303.05479), Eq. 3, as in the authors' code.

    Args:
      q: values of M candidates, of which the first `uniform` are not the policy's. [E, B, M]
      bound: return-to-go of the data, -inf where it is unknown. [B]
    """
    if bound is None:
        raise ValueError("calibrated: the batch has no return_to_go")
    chex.assert_equal_shape([q[0, :, 0], bound])
    of_policy = jnp.maximum(q[..., uniform:], bound[None, :, None])
    return jnp.concatenate([q[..., :uniform], of_policy], -1)


def min_of_max(q: Array) -> Array:
    """min_i max_n q over critics i and actions n, `[E, B, N] -> [B]`: the authors' max backup."""
    chex.assert_rank(q, 3)
    return q.max(-1).min(0)


def max_of_min(q: Array) -> tuple[Array, Array]:
    """max_n min_i q over actions n and critics i, `[E, B, N] -> [B]`, and which n, `[B]`.

    The max backup of JaxCQL and CORL; never above `min_of_max`.
    """
    chex.assert_rank(q, 3)
    lower = q.min(0)
    return lower.max(-1), lower.argmax(-1)
