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


def mean(function: Callable[..., Array], params: PyTree, *trees: PyTree, parts: int = 1) -> Array:
    """The mean of `function(params, *block)` over blocks of `trees`, leaves `[B, ...]`. []

    The gradient of a block is taken together with its value, so that nothing of a block is kept
    for later. It is with respect to `params` alone: the others count as constants.

    Args:
      function: the mean of something over its block. []
      parts: blocks of the batch that are done in turn, as in `apply`.
    """
    b = len(jax.tree.leaves(trees)[0])
    k = math.gcd(b, parts)
    blocks = jax.tree.map(lambda x: x.reshape(k, b // k, *x.shape[1:]), trees)

    @jax.custom_vjp
    def of(params: PyTree, blocks: PyTree) -> Array:
        return jax.lax.map(lambda block: function(params, *block), blocks).mean()

    def forward(params: PyTree, blocks: PyTree) -> tuple[Array, PyTree]:
        def add(total: PyTree, block: PyTree) -> tuple[PyTree, Array]:
            value, grad = jax.value_and_grad(function)(params, *block)
            return jax.tree.map(jnp.add, total, grad), value

        total, values = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), blocks)
        return values.mean(), total

    def backward(total: PyTree, cotangent: Array) -> tuple[PyTree, None]:
        return jax.tree.map(lambda grad: cotangent / k * grad, total), None

    of.defvjp(forward, backward)
    return of(params, blocks)
