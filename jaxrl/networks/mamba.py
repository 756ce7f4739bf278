"""Mamba's selective state-space layer (Gu and Dao, 2023; arXiv:2312.00752), with padding."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrl.networks.mlp import ALL, Dtype, RowDense, Steps
from jaxrl.ops import state_space
from jaxrl.types import Array, Key, PyTree

UNDECAYED = ("a_log", "skip")  # parameters that weight decay must leave alone


class Mamba(nn.Module):
    """Mixes a sequence `[B, L, H]` in time by a recurrence of `state` numbers per channel.

    Steps that `mask` `[B, L]` hides are as if they were not there: they enter neither the
    convolution nor the state. The recurrence is at least float32, whatever `dtype` is.
    """

    state: int = 16  # numbers per channel, N
    expand: int = 2  # channels per input feature
    conv: int = 4  # steps that the convolution spans
    associative: bool = False  # how to scan
    dtype: Dtype = None
    read: Steps = ALL  # of the L steps, those to return

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        width, shown = x.shape[-1], mask[..., None]
        u, gate = jnp.split(self._dense(2 * self.expand * width, "in")(x), 2, -1)
        u = nn.silu(self._convolve(jnp.where(shown, u, 0)))
        rank = math.ceil(width / 16)
        selected = self._dense(rank + 2 * self.state, "select")(u)
        low, b, c = jnp.split(_full(selected), (rank, rank + self.state), -1)
        dt = jnp.where(shown, nn.softplus(self._step_size(u.shape[-1], rank)(low)), 0)
        read = slice(*self.read)
        y = self._recur(_full(u), dt, b, c)[:, read].astype(u.dtype)
        return self._dense(width, "out")(y * nn.silu(gate[:, read]))

    def _dense(self, size: int, name: str) -> nn.Module:
        init = nn.initializers.normal(0.02)
        return RowDense(size, False, self.dtype, param_dtype=float, kernel_init=init, name=name)

    def _convolve(self, u: Array) -> Array:
        channels = u.shape[-1]
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # of W taps
        kernel = self.param("conv", init, (self.conv, channels), float)
        bias = self.param("conv_bias", nn.initializers.zeros, (channels,), float)
        return state_space.causal_conv(u, kernel.astype(u.dtype)) + bias.astype(u.dtype)[None, None]

    def _step_size(self, channels: int, rank: int) -> nn.Module:
        kernel = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # +- rank^-1/2
        return nn.Dense(
            channels, kernel_init=kernel, bias_init=step_size_bias, param_dtype=float, name="dt"
        )

    def _recur(self, u: Array, dt: Array, b: Array, c: Array) -> Array:
        a_log = self.param("a_log", _rates, (u.shape[-1], self.state), float)
        skip = self.param("skip", nn.initializers.ones, u.shape[-1:], float)
        y = state_space.selective_scan(u, dt, -jnp.exp(a_log), b, c, self.associative)
        return y + skip[None, None] * u


def step_size_bias(key: Key, shape: tuple[int, ...], dtype: Dtype = float) -> Array:
    """Bias whose softplus is log-uniform in [1e-3, 0.1], the first step sizes."""
    low, high = math.log(1e-3), math.log(0.1)
    dt = jnp.exp(jax.random.uniform(key, shape, dtype, low, high))
    return dt + jnp.log(-jnp.expm1(-dt))


def decayed(params: PyTree) -> PyTree:
    """Which parameters weight decay may shrink: all but the recurrence's rates and skips."""

    def leaf(path: tuple, x: Array) -> bool:
        del x
        return path[-1].key not in UNDECAYED

    return jax.tree_util.tree_map_with_path(leaf, params)


def _rates(key: Key, shape: tuple[int, ...], dtype: Dtype) -> Array:
    """log 1 .. log N in every channel."""
    del key
    return jnp.broadcast_to(jnp.log(jnp.arange(1, shape[1] + 1, dtype=dtype))[None], shape)


def _full(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
