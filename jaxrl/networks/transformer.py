"""Layers of residual blocks over a sequence, mixed by causal attention or by something else."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrl.networks.mlp import ALL, Dtype, Initializer, RowDense, Steps, drop
from jaxrl.networks.placement import rows
from jaxrl.types import Array

NORMAL = nn.initializers.normal(0.02)  # of GPT-2

Mixer = Callable[..., nn.Module]  # read=Steps -> module of ([B, L, H], mask [B, L]) -> [B, R, H]


class Attention(nn.Module):
    """Multi-head self-attention (GPT-2's, without dropout of the weights).

    A query sees the keys up to its own, or all if not `causal`, except those that `mask` hides. One
    that would see none sees all of them alike: what it gives is finite, and no other step reads it.
    """

    heads: int = 1
    causal: bool = True
    dtype: Dtype = None
    read: Steps = ALL  # of the L steps, those to return

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        """`x` is `[B, L, H]`, `mask` `[B, L]` bool."""
        length, width = x.shape[1:]
        qkv = _dense(3 * width, self.dtype, "qkv")(x)
        q, k, v = jnp.split(qkv.reshape(*x.shape[:2], self.heads, -1), 3, -1)  # heads stay whole
        seen = jnp.broadcast_to(mask[:, None, None], (len(x), 1, length, length))
        if self.causal:
            seen = seen & jnp.tri(length, dtype=bool)[None, None]
        read = slice(*self.read)
        mixed = jax.nn.dot_product_attention(q[:, read], k, v, mask=seen[:, :, read])
        return _dense(width, self.dtype, "out")(mixed.reshape(len(x), -1, width))


class Block(nn.Module):
    """x + mix(norm(x)), then x + MLP(norm(x)): a pre-norm block."""

    mixer: Mixer
    activation: Callable[[Array], Array] = nn.relu
    dropout: float | Array | None = None
    dtype: Dtype = None
    read: Steps = ALL  # of the L steps, those to return

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> tuple[Array, None]:
        x, width = rows(x), x.shape[-1]
        mixed = self.mixer(read=self.read)(norm(self.dtype)(x), mask)
        x = x[:, slice(*self.read)] + drop(self, mixed, self.dropout)
        hidden = self.activation(_dense(4 * width, self.dtype, "up")(norm(self.dtype)(x)))
        x = x + drop(self, _dense(width, self.dtype, "down")(hidden), self.dropout)
        return x, None


class Backbone(nn.Module):
    """Equal blocks one after another, and a norm: `[B, L, H]` and mask `[B, L]` to `[B, R, H]`.

    All layers but the last are scanned: their parameters have a leading axis `[layers - 1]`, and
    compiling many takes as long as compiling one; with `unroll` the scan is written out. The last
    stands apart, since it works out only what is read. `remat` computes a block's insides again in
    the gradient, instead of keeping them. `dtype` is what blocks compute in (`None`: the widest of
    inputs and parameters).
    """

    mixer: Mixer
    layers: int = 3
    activation: Callable[[Array], Array] = nn.relu
    dropout: float | Array | None = None
    remat: bool = False
    dtype: Dtype = None
    unroll: bool = False

    @nn.compact
    def __call__(self, x: Array, mask: Array, read: Steps = ALL) -> Array:
        """Outputs of the steps that `read` takes of the L, R of them."""
        block = nn.remat(Block, prevent_cse=False) if self.remat else Block
        settings = self.mixer, self.activation, self.dropout, self.dtype
        widest = jnp.promote_types(x.dtype, jax.dtypes.canonicalize_dtype(float))
        x = x.astype(self.dtype or widest)
        if self.layers > 1:
            stack = _stack(block, self.layers - 1, self.unroll)
            x, _ = stack(*settings, name="blocks")(x, mask)
        x, _ = block(*settings, read, name="last_block")(x, mask)
        return norm(self.dtype)(x)


def _stack(block: Callable[..., nn.Module], layers: int, unroll: bool) -> Callable[..., nn.Module]:
    """`layers` equal blocks in a scan."""
    return nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=nn.broadcast,
        length=layers,
        unroll=layers if unroll else 1,
    )


def norm(dtype: Dtype = None) -> nn.Module:
    """A layer norm whose statistics are at least float32."""
    return nn.LayerNorm(epsilon=1e-5, dtype=dtype, param_dtype=float)


def _dense(size: int, dtype: Dtype, name: str, init: Initializer = NORMAL) -> nn.Module:
    return RowDense(size, kernel_init=init, dtype=dtype, param_dtype=float, name=name)
