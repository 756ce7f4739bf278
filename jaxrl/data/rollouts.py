"""From rollouts and rings of replay to episodes."""

from collections.abc import Iterator

import jax
import numpy as np

from jaxrl.data.episodes import Episode
from jaxrl.types import PyTree, Transition


def episodes(rows: Transition) -> Iterator[Episode]:
    """The episodes in `rows` `[T, n, ...]`: T steps of n environments, in order.

    An episode is cut, as at a time limit, where the rows end, and where the observation after a
    step is not the next row's, as at a resume that could not restore the simulator.
    """
    for i in range(rows.reward.shape[1]):
        one = jax.tree.map(lambda x: np.asarray(x[:, i]), rows)  # noqa: B023
        ends = np.flatnonzero(_ends(one)) + 1
        for start, stop in zip(np.append(0, ends[:-1]), ends, strict=True):
            yield _episode(jax.tree.map(lambda x: x[start:stop], one))  # noqa: B023


def _ends(one: Transition) -> np.ndarray:
    """Which rows `[T]` are the last of their episode."""
    pairs = zip(jax.tree.leaves(one.next_obs), jax.tree.leaves(one.obs), strict=True)
    broken = [(x[:-1] != y[1:]).reshape(len(y) - 1, -1).any(1) for x, y in pairs]
    return np.append(one.last[:-1] | np.any(broken, 0), True)


def _episode(steps: Transition) -> Episode:
    def joined(obs: np.ndarray, next_obs: np.ndarray) -> np.ndarray:
        return np.concatenate([obs, next_obs[-1:]])

    obs: PyTree = jax.tree.map(joined, steps.obs, steps.next_obs)
    return Episode(obs, *(np.asarray(x) for x in (steps.action, steps.reward, steps.discount)))


def in_order(ring: Transition, count: int) -> Transition:
    """What a ring `[D, T, n, ...]` holds after `count` rows were added, oldest first. [H, D n, ...]

    The oldest episodes may lack their beginnings, which newer rows have replaced.
    """
    rows = ring.reward.shape[1]
    order = np.arange(max(0, count - rows), count) % rows

    def leaf(x: np.ndarray) -> np.ndarray:
        held = np.moveaxis(np.asarray(x)[:, order], 0, 1)
        return held.reshape(len(order), -1, *held.shape[3:])

    return jax.tree.map(leaf, ring)


def newest(rows: Transition, size: int) -> Transition:
    """The newest `size` transitions of `rows` `[T, n, ...]`, in whole rows, at least one."""
    kept = max(1, size // rows.reward.shape[1])
    return jax.tree.map(lambda x: x[-kept:], rows)
