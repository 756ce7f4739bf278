"""Running mean and variance of a pytree, merged exactly (Chan, Golub and LeVeque, 1979)."""

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

PyTree = Any


class Moments(NamedTuple):
    """Count, mean and summed squared deviation of everything seen, per element."""

    count: Array  # type: ignore[assignment]  # [], not the method of tuples
    mean: PyTree  # *shape
    squares: PyTree  # *shape, sum of (x - mean)^2


M = TypeVar("M", Moments, None)


def zeros(spec: PyTree) -> Moments:
    """Moments of nothing yet, for samples of the given shapes."""

    def blank() -> PyTree:
        return jax.tree.map(lambda s: jnp.zeros(s.shape), spec)

    return Moments(jnp.zeros(()), blank(), blank())


def update(moments: M, batch: PyTree) -> M:
    """Moments after a batch whose leaves carry any number of leading batch axes; or None."""
    if moments is None:
        return None
    leaf, mean = jax.tree.leaves(batch)[0], jax.tree.leaves(moments.mean)[0]
    n = jnp.asarray(leaf.size // mean.size, mean.dtype)
    count = moments.count + n

    def merge(old_mean: Array, old_squares: Array, x: Array) -> tuple[Array, Array]:
        lead = tuple(range(x.ndim - old_mean.ndim))  # not flattened, as they may be sharded
        x = x.astype(old_mean.dtype)
        new_mean = x.mean(lead)
        squares = jnp.square(x - jnp.expand_dims(new_mean, lead)).sum(lead)
        delta = new_mean - old_mean
        mean = old_mean + delta * (n / count)
        return mean, old_squares + squares + jnp.square(delta) * (moments.count * n / count)

    pairs = jax.tree.map(merge, moments.mean, moments.squares, batch)
    mean, squares = jax.tree.transpose(
        jax.tree.structure(moments.mean), jax.tree.structure((0, 0)), pairs
    )
    return Moments(count, mean, squares)


def std(moments: Moments, floor: float = 1e-6) -> PyTree:
    """Standard deviation (ddof 0), at least `floor`; one where nothing was seen yet. *shape"""
    count = jnp.maximum(moments.count, 1)

    def leaf(squares: Array) -> Array:
        return jnp.where(moments.count > 0, jnp.sqrt(squares / count).clip(floor), 1.0)

    return jax.tree.map(leaf, moments.squares)


def normalize(moments: Moments | None, x: PyTree, clip: float = 10.0) -> PyTree:
    """(x - mean) / std, clipped, per leaf of `x` `[..., *shape]`; `None` leaves `x` as it is."""
    if moments is None:
        return x

    def leaf(mean: Array, scale: Array, value: Array) -> Array:
        lead = (None,) * (value.ndim - mean.ndim)
        return ((value - mean[lead]) / scale[lead]).clip(-clip, clip)

    return jax.tree.map(leaf, moments.mean, std(moments), x)


def normalize_transitions(moments: Moments | None, batch: Any) -> Any:
    """A batch with `obs` and `next_obs` normalised; `None` leaves it as it is."""
    obs, next_obs = (normalize(moments, x) for x in (batch.obs, batch.next_obs))
    return batch._replace(obs=obs, next_obs=next_obs)
