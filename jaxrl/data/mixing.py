"""Batches of two sources: rows of a dataset beside rows of replay."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrl.data.dataset import Dataset, sample
from jaxrl.errors import check_range
from jaxrl.types import Array, Key, PyTree, Transition

OFFLINE, ONLINE = range(2)  # names of the draws
UNKNOWN = {"weight": 1.0, "return_to_go": -jnp.inf}  # what a row of the other source has instead


def two_sources(
    share: float,
    draw: Callable[[Key, int], Transition],
    key: Key,
    batch_size: int,
    dataset: Dataset,
) -> Transition:
    """A batch `[B]` of which `share` is offline, in every block alike: offline rows come first.

    Args:
      share: rounded to whole rows of every block.
      draw: rows of the other source, from a key and their number.
    """
    blocks = dataset.blocks
    offline = offline_rows(share, batch_size, blocks)
    ours = sample(dataset, jax.random.fold_in(key, OFFLINE), offline)
    theirs = draw(jax.random.fold_in(key, ONLINE), batch_size - offline)
    return join(ours, theirs, blocks)


def offline_rows(share: float, batch_size: int, blocks: int) -> int:
    """How many rows of a batch are offline, the same number in every block."""
    check_range("offline_share", share, 0, 1)
    return round(share * batch_size / blocks) * blocks


def join(a: Transition, b: Transition, blocks: int) -> Transition:
    """Rows `[A]` and `[B]`, both in blocks, as one batch `[A + B]` in blocks."""
    for name, unknown in UNKNOWN.items():
        a, b = _filled(a, b, name, unknown), _filled(b, a, name, unknown)

    def leaf(x: Array, y: Array) -> Array:
        parts = [z.reshape((blocks, -1, *z.shape[1:])) for z in (x, y.astype(x.dtype))]
        return jnp.concatenate(parts, 1).reshape((-1, *x.shape[1:]))

    return jax.tree.map(leaf, a, b)


def _filled(batch: Transition, other: Transition, name: str, value: float) -> PyTree:
    """The batch with `value` in a field that only `other` has."""
    if getattr(batch, name) is not None or getattr(other, name) is None:
        return batch
    return batch._replace(**{name: jnp.full_like(batch.reward, value)})
