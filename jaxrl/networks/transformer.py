"""Layers of residual blocks over a sequence, mixed by causal attention or by something else."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrl.networks.mlp import Dtype, Initializer, RowDense, drop
from jaxrl.networks.placement import rows
from jaxrl.types import Array

NORMAL = nn.initializers.normal(0.02)  # of GPT-2


class Attention(nn.Module):
    """Multi-head self-attention (GPT-2's, without dropout of the weights).

    A query sees the keys up to its own, or all if not `causal`, except those that `mask` hides. One
    that would see none sees all of them alike: what it gives is finite, and no other step reads it.
    """

    heads: int = 1
    causal: bool = True
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        """`x` is `[B, L, H]`, `mask` `[B, L]` bool."""
        length, width = x.shape[1:]
        qkv = _dense(3 * width, self.dtype, "qkv")(x)
        q, k, v = jnp.split(qkv.reshape(*x.shape[:2], self.heads, -1), 3, -1)  # heads stay whole
        seen = jnp.broadcast_to(mask[:, None, None], (len(x), 1, length, length))
        if self.causal:
            seen = seen & jnp.tri(length, dtype=bool)[None, None]
        mixed = jax.nn.dot_product_attention(q, k, v, mask=seen)
        return _dense(width, self.dtype, "out")(mixed.reshape(x.shape))


class Block(nn.Module):
    """x + mix(norm(x)), then x + MLP(norm(x)): a pre-norm block."""

    mixer: Callable[[], nn.Module]  # module of ([B, L, H], mask [B, L]) -> [B, L, H]
    activation: Callable[[Array], Array] = nn.relu
    dropout: float | Array | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> tuple[Array, None]:
        x, width = rows(x), x.shape[-1]
        mixed = self.mixer()(norm(self.dtype)(x), mask)
        x = x + drop(self, mixed, self.dropout)
        hidden = self.activation(_dense(4 * width, self.dtype, "up")(norm(self.dtype)(x)))
        x = x + drop(self, _dense(width, self.dtype, "down")(hidden), self.dropout)
        return x, None


class Backbone(nn.Module):
    """Equal blocks one after another, and a norm: `[B, L, H]` and mask `[B, L]` to `[B, L, H]`.

    Layers are scanned: parameters gain a leading axis `[layers]`, and compiling takes as long as
    for one. `remat` computes a block's insides again in the gradient, instead of keeping them.
    `dtype` is what blocks compute in (`None`: the widest of inputs and parameters).
    """

    mixer: Callable[[], nn.Module]
    layers: int = 3
    activation: Callable[[Array], Array] = nn.relu
    dropout: float | Array | None = None
    remat: bool = False
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        block = nn.remat(Block, prevent_cse=False) if self.remat else Block
        stack = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=self.layers,
        )
        widest = jnp.promote_types(x.dtype, jax.dtypes.canonicalize_dtype(float))
        blocks = stack(self.mixer, self.activation, self.dropout, self.dtype, name="blocks")
        x, _ = blocks(x.astype(self.dtype or widest), mask)
        return norm(self.dtype)(x)


def norm(dtype: Dtype = None) -> nn.Module:
    """A layer norm whose statistics are at least float32."""
    return nn.LayerNorm(epsilon=1e-5, dtype=dtype, param_dtype=float)


def _dense(size: int, dtype: Dtype, name: str, init: Initializer = NORMAL) -> nn.Module:
    return RowDense(size, kernel_init=init, dtype=dtype, param_dtype=float, name=name)
