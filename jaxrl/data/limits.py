"""The range of a dataset's observations and actions, for agents that work in [-1, 1]."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.dataset import Dataset
from jaxrl.ops.limits import Limits, Ranges
from jaxrl.types import Array, PyTree


def ranges(dataset: Dataset) -> Ranges:
    """Lowest and highest observation that is acted on, and action, per element."""
    acted = ~np.asarray(dataset.steps.last)

    def of(tree: PyTree) -> Limits:
        rows = [np.asarray(x)[acted] for x in jax.tree.leaves(tree)]
        low, high = (_leaves(tree, [f(x, axis=0) for x in rows]) for f in (np.min, np.max))
        return Limits(low, high)

    return Ranges(of(dataset.steps.obs), of(dataset.steps.action))


def _leaves(tree: PyTree, leaves: list[np.ndarray]) -> PyTree:
    arrays: list[Array] = [jnp.asarray(x) for x in leaves]
    return jax.tree.unflatten(jax.tree.structure(tree), arrays)
