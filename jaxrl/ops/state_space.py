"""Selective state spaces (Gu and Dao, 2023; arXiv:2312.00752): a linear recurrence in time."""

import functools

import chex
import jax
import jax.numpy as jnp
from jax import Array


def selective_scan(
    u: Array, dt: Array, a: Array, b: Array, c: Array, associative: bool = False
) -> Array:
    """y_t = <c_t, h_t> for h_t = exp(dt_t a) h_{t-1} + dt_t b_t u_t and h_{-1} = 0. [B, L, D]

    Where `dt` is 0 the state passes unchanged. Step by step, or by an associative scan, which has
    fewer steps in sequence and keeps L states at once (on a TPU seven times the memory).

    Args:
      u: inputs [B, L, D].
      dt: step sizes [B, L, D], not negative.
      a: rates [D, N], negative.
      b: input weights [B, L, N].
      c: output weights [B, L, N].
    """
    chex.assert_equal_shape([u, dt])
    chex.assert_equal_shape([b, c])
    if associative:
        return _associative(u, dt, a, b, c)

    def step(h: Array, at: tuple[Array, ...]) -> tuple[Array, Array]:
        u, dt, b, c = at
        h = _decay(dt, a) * h + _input(u, dt, b)
        return h, _read(h, c)

    first = jnp.zeros((len(u), *a.shape), jnp.result_type(u, dt, a, b))
    step = jax.checkpoint(step, prevent_cse=False)  # cheaper to repeat than to keep
    _, y = jax.lax.scan(step, first, jax.tree.map(lambda x: x.swapaxes(0, 1), (u, dt, b, c)))
    return y.swapaxes(0, 1)


def _associative(u: Array, dt: Array, a: Array, b: Array, c: Array) -> Array:
    def combine(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
        return left[0] * right[0], right[0] * left[1] + right[1]

    _, h = jax.lax.associative_scan(combine, (_decay(dt, a), _input(u, dt, b)), axis=1)
    return _read(h, c)


def _decay(dt: Array, a: Array) -> Array:
    """[..., D, N]"""
    return jnp.exp(dt[..., None] * jnp.expand_dims(a, tuple(range(dt.ndim - 1))))


def _input(u: Array, dt: Array, b: Array) -> Array:
    """[..., D, N]"""
    return (dt * u)[..., None] * b[..., None, :]


def _read(h: Array, c: Array) -> Array:
    """[..., D]"""
    return (h * c[..., None, :]).sum(-1)


def causal_conv(u: Array, kernel: Array) -> Array:
    """sum_i kernel_i u_{t - W + 1 + i} in every channel, with zeros before the start. [B, L, D]

    Args:
      u: inputs [B, L, D].
      kernel: [W, D], the present step last.
    """
    width, length = len(kernel), u.shape[1]
    padded = jnp.pad(u, ((0, 0), (width - 1, 0), (0, 0)))
    taps = [padded[:, i : i + length] * kernel[i][None, None] for i in range(width)]
    return functools.reduce(jnp.add, taps)
