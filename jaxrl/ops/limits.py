"""The range of data, and the map from it to [-1, 1], per element."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

PyTree = Any
MIN_RANGE = 1e-4  # a narrower range is only centred: a constant would be blown up


class Limits(NamedTuple):
    """Lowest and highest value of every element."""

    low: PyTree  # *shape
    high: PyTree  # *shape


class Ranges(NamedTuple):
    """Limits of observations and of actions, and of goals where there are any."""

    obs: Limits
    action: Limits
    goal: Limits | None = None


def unit(spec: PyTree) -> Limits:
    """Limits that change nothing, for samples of the given shapes."""

    def full(value: float) -> PyTree:
        return jax.tree.map(lambda s: jnp.full(s.shape, value, _dtype(s)), spec)

    return Limits(full(-1.0), full(1.0))


def _dtype(s: jax.ShapeDtypeStruct) -> Any:
    return jax.dtypes.canonicalize_dtype(jnp.promote_types(s.dtype, jnp.float32))


def normalize(limits: Limits, x: PyTree) -> PyTree:
    """`x` `[..., *shape]` with the limits at -1 and 1, and a constant at 0."""

    def leaf(low: Array, high: Array, value: Array) -> Array:
        centre, half = _affine(low, high, value.ndim)
        return (value - centre) / half

    return jax.tree.map(leaf, limits.low, limits.high, x)


def unnormalize(limits: Limits, x: PyTree) -> PyTree:
    """The inverse of `normalize`. [..., *shape]"""

    def leaf(low: Array, high: Array, value: Array) -> Array:
        centre, half = _affine(low, high, value.ndim)
        return value * half + centre

    return jax.tree.map(leaf, limits.low, limits.high, x)


def _affine(low: Array, high: Array, rank: int) -> tuple[Array, Array]:
    """Centre and half of the range, with leading axes up to `rank`."""
    lead = (None,) * (rank - low.ndim)
    half = jnp.where(high - low < MIN_RANGE, 1, (high - low) / 2)
    return ((low + high) / 2)[lead], half[lead]
