"""Shuffling a rollout inside fixed blocks, so that no sample crosses devices.

A permutation over all of a sharded batch compiles to all-gathers and to many times the work per
device; inside `D` blocks it needs neither, and gives the same numbers on every mesh that divides D.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

PyTree = Any


def in_blocks(tree: PyTree, blocks: int) -> PyTree:
    """From `[T, N, ...]` to `[D, T N / D, ...]`: whole environments, in order along N."""

    def leaf(x: Array) -> Array:
        x = x.reshape(x.shape[0], blocks, -1, *x.shape[2:])
        return jnp.moveaxis(x, 0, 1).reshape(blocks, -1, *x.shape[3:])

    return jax.tree.map(leaf, tree)


def shuffle(tree: PyTree, minibatches: int, key: Array) -> PyTree:
    """From `[D, R, ...]` to `[M, D R / M, ...]`: each sample once, equal shares of every block.

    Blocks draw their permutations with `fold_in(key, block)`.
    """
    blocks, rows = jax.tree.leaves(tree)[0].shape[:2]

    def block(tree: PyTree, i: Array) -> PyTree:
        order = jax.random.permutation(jax.random.fold_in(key, i), rows)
        return jax.tree.map(lambda x: x[order], tree)

    def leaf(x: Array) -> Array:
        x = x.reshape(blocks, minibatches, -1, *x.shape[2:])
        return jnp.moveaxis(x, 1, 0).reshape(minibatches, -1, *x.shape[3:])

    return jax.tree.map(leaf, jax.vmap(block)(tree, jnp.arange(blocks)))
