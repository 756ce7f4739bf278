"""Several rows per element of a batch, such as candidate actions of a state."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

PyTree = Any


def repeat(tree: PyTree, n: int) -> PyTree:
    """Every leaf `[B, ...]` as `[B, n, ...]`."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (len(x), n, *x.shape[1:])), tree)


def flat(tree: PyTree) -> PyTree:
    """Every leaf `[B, n, ...]` as `[B n, ...]`, rows in order."""
    return jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), tree)


def apply(function: Callable[..., Array], *trees: PyTree, parts: int = 1) -> Array:
    """`function` on leaves `[B, N, ...]` as if on one flat batch: `[E, B N]` becomes `[E, B, N]`.

    Args:
      parts: blocks of the batch that are done in turn, at most, so that intermediate results stay
        in a CPU's cache; their number is the greatest divisor that `parts` shares with B.
    """
    b, n = jax.tree.leaves(trees)[0].shape[:2]
    k = math.gcd(b, parts)
    blocks = jax.tree.map(lambda x: x.reshape(k, b // k * n, *x.shape[2:]), trees)
    out = jax.lax.map(lambda block: function(*block), blocks)  # [k, E, B N / k]
    return out.swapaxes(0, 1).reshape(-1, b, n)
