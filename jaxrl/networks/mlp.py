"""Multi-layer perceptrons, and how observations enter them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrl.errors import UserError
from jaxrl.types import Array, Key, PyTree, Spec

Initializer = Callable[..., Array]
Dtype = Any
Encoder = Callable[[PyTree], Array]
Steps = tuple[int | None, ...]  # arguments of a slice, which steps of a sequence are wanted
ALL: Steps = (None,)


def encoder(spec: Spec, keys: tuple[str, ...] = ()) -> Encoder:
    """A function from observations `[..., *shape]` to vectors `[..., F]`.

    Args:
      spec: says where batch axes end and which entries there are.
      keys: which entries of a dict observation to read; empty reads all of them.

    Raises:
      UserError: a key is not among the entries, or the observation is not a dict.
    """
    if keys and not isinstance(spec.obs, dict):
        raise UserError(f"observation keys {list(keys)} need a dict; the observation is not a dict")
    names = sorted(spec.obs) if isinstance(spec.obs, dict) else []
    if missing := [key for key in keys if key not in names]:
        raise UserError(f"observation keys {missing} are not among {names}")
    shapes = {key: spec.obs[key] for key in keys} if keys else spec.obs

    def flat(s: jax.ShapeDtypeStruct, x: Array) -> Array:
        lead = x.shape[: x.ndim - len(s.shape)]
        return x.reshape((*lead, -1)).astype(jnp.promote_types(x.dtype, jnp.float32))

    def encode(obs: PyTree) -> Array:
        chosen = {key: obs[key] for key in keys} if keys else obs
        return jnp.concatenate(jax.tree.leaves(jax.tree.map(flat, shapes, chosen)), -1)

    return encode


def dummy(spec: Spec) -> tuple[PyTree, Array]:
    """An observation and an action of batch size one, to initialise networks with."""

    def one(s: jax.ShapeDtypeStruct) -> Array:
        dtype = jax.dtypes.canonicalize_dtype(s.dtype)
        return jnp.zeros((1, *s.shape), dtype)

    return jax.tree.map(one, spec.obs), one(spec.action)


class RowDense(nn.Dense):
    """A dense layer over the rows of `[..., F]`, as a single product.

    The gradient of its kernel then contracts one axis. Where it contracts several, XLA on CPUs
    first copies an operand with its axes moved, which takes longer than the product itself.
    """

    def __call__(self, inputs: Array) -> Array:
        flat = super().__call__(inputs.reshape(-1, inputs.shape[-1]))
        return flat.reshape(*inputs.shape[:-1], self.features)


class MLP(nn.Module):
    """Dense layers; the last one is linear unless `activate_final`.

    `dtype` is what hidden layers compute in (`None`: the widest of inputs and parameters); outputs
    have the widest, since differences of values need it. Parameters are kept in JAX's default
    float type. `dropout` is the share of hidden units to drop, where `apply` is given
    `rngs={"dropout": key}` and nowhere else.
    """

    sizes: Sequence[int]
    activation: Callable[[Array], Array] = nn.relu
    activate_final: bool = False
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    final_init: Initializer | None = None
    dtype: Dtype = None
    dropout: float | Array | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i, size in enumerate(self.sizes):
            final = i == len(self.sizes) - 1
            init = self.final_init if final and self.final_init else self.kernel_init
            dtype = None if final and not self.activate_final else self.dtype
            x = nn.Dense(size, kernel_init=init, dtype=dtype, param_dtype=float)(x)
            if not final or self.activate_final:
                x = drop(self, self.activation(x), self.dropout)
        return x


def drop(module: nn.Module, x: Array, share: float | Array | None) -> Array:
    """`x` with some elements zeroed and the others scaled to keep the mean, if there is a key.

    `share` is rounded to a multiple of 2^-16.
    """
    if share is None or not module.has_rng("dropout"):
        return x
    cut = jnp.round(2**16 * jnp.asarray(share))
    keep = _bits16(module.make_rng("dropout"), x.shape) >= cut.astype(jnp.uint32)
    return jnp.where(keep, x / (1 - cut / 2**16).astype(x.dtype), 0)


def _bits16(key: Key, shape: tuple[int, ...]) -> Array:
    """Uniform integers below 2^16: two from each draw, which are most of what dropping costs."""
    *lead, last = shape
    bits = jax.random.bits(key, (*lead, -(-last // 2)), jnp.uint32)
    return jnp.concatenate([bits & 0xFFFF, bits >> 16], axis=-1)[..., :last]


class Scalar(nn.Module):
    """One learned number, such as a log-temperature."""

    value: float | Array = 0.0

    @nn.compact
    def __call__(self) -> Array:
        return self.param("value", lambda _: jnp.asarray(self.value, float))
