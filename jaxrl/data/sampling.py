"""Sampling probabilities: `probs(dataset) -> p` `[N]`, computed once, for `with_probabilities`.

Trajectory weighting is from Hong et al., 'Harnessing Mixed Offline Reinforcement Learning Datasets
via Trajectory Weighting' (2023; arXiv:2306.13085).
"""

from collections.abc import Callable

import jax
import numpy as np

from jaxrl.data.dataset import Dataset, extents, returns
from jaxrl.errors import check_range

Probabilities = Callable[[Dataset], np.ndarray]


def per_transition(dataset: Dataset, value: np.ndarray) -> np.ndarray:
    """Give every transition its episode's value, `[E]` in the order of `extents`. [N]"""
    return np.repeat(value, extents(dataset).length)


def uniform(dataset: Dataset) -> np.ndarray:
    """The same for every transition. [N]"""
    return np.full(dataset.size, 1 / dataset.size)


def return_weighted(dataset: Dataset, temperature: float = 0.1) -> np.ndarray:
    """exp(G / temperature) of the episode's return G, scaled to [0, 1] (RW). [N], sums to one

    As in the authors' code, every transition of an episode has the episode's weight, so long
    episodes are drawn in proportion to their length.
    """
    return _softmax(dataset, returns(dataset), temperature)


def advantage_weighted(dataset: Dataset, temperature: float = 0.1) -> np.ndarray:
    """exp(A / temperature) of A = G - V(s_0), scaled to [0, 1] (AW). [N], sums to one

    V is the least-squares fit of returns to first observations, with an intercept. Unlike RW it
    does not favour episodes for having started well.
    """
    value = returns(dataset)
    return _softmax(dataset, value - linear_fit(first_obs(dataset), value), temperature)


def first_obs(dataset: Dataset) -> np.ndarray:
    """First observation of every episode, its leaves flattened into one vector. [E, S] float64"""
    block, start, _ = extents(dataset)
    leaves = [np.asarray(x)[block, start] for x in jax.tree.leaves(dataset.steps.obs)]
    return np.concatenate([x.reshape(len(block), -1).astype(np.float64) for x in leaves], axis=1)


def linear_fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least-squares prediction of `y` `[E]` from `x` `[E, S]` and a constant. [E]"""
    design = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    return design @ np.linalg.lstsq(design, y, rcond=None)[0]


def _softmax(dataset: Dataset, score: np.ndarray, temperature: float) -> np.ndarray:
    check_range("temperature", temperature, 1e-6)
    spread, noise = np.ptp(score), 1e-9 * np.abs(returns(dataset)).max()  # what rounding leaves
    scaled = (score - score.max()) / spread if spread > noise else np.zeros_like(score)
    p = per_transition(dataset, np.exp(scaled / temperature))
    return p / p.sum()
