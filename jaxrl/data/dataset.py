"""Offline data on the device: whole episodes in the run's fixed blocks, and batches drawn from it.

Leaves are `[D, R, ...]`: D blocks of R rows. A block holds whole episodes one after another, each
with one row more than it has transitions, so `next_obs` is the next row and is not stored twice.
Rows after a block's last episode are padding and are marked `last`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import UserError, check_divides
from jaxrl.types import Array, Key, PyTree, Spec, Transition

HIGHEST = 2**32 - 1  # what the cumulative table calls probability one


class Steps(NamedTuple):
    """Rows of episodes: T + 1 observations for T transitions. Leading axes `[D, R]`."""

    obs: PyTree  # [D, R, *obs_shape]
    action: Array  # [D, R, A] in [-1, 1], or [D, R] integers; zero in the row of the final obs
    reward: Array  # [D, R]
    discount: Array  # [D, R], 0 where the MDP ended, 1 otherwise (time limits included)
    last: Array  # [D, R] bool, the row holds an episode's final observation, or is padding


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dataset:
    """Episodes in memory, a pytree of arrays, and which of their rows start a transition."""

    steps: Steps
    valid: Array  # [D, V] int32, rows that start a transition; the first `count` of each block
    count: Array  # [D] int32
    weight: Array | None = None  # [D], corrects equal shares of unequal blocks; None where equal
    table: Array | None = None  # [D, V] uint32, cumulative probabilities; None draws uniformly
    return_to_go: Array | None = None  # [D, R] of discounted rewards; None where nobody asks
    num_actions: int | None = field(default=None, metadata={"static": True})  # if discrete

    @property
    def blocks(self) -> int:
        return self.steps.reward.shape[0]

    @property
    def size(self) -> int:
        """Number of transitions."""
        return int(self.count.sum())

    @property
    def spec(self) -> Spec:
        """What agents are made for."""

        def struct(x: Array) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(x.shape[2:], x.dtype)

        obs = jax.tree.map(struct, self.steps.obs)
        return Spec(obs, struct(self.steps.action), self.num_actions)


def sample(dataset: Dataset, key: Key, batch: int) -> Transition:
    """A batch `[B]`, the same share from every block, each drawn with `fold_in(key, block)`.

    Uniform over transitions, or by the probabilities of `with_probabilities`; where blocks differ
    in what they should contribute, `weight` says by how much.

    Raises:
      UserError: as `by_block`.
    """
    return by_block(_sample_block, dataset, key, batch)


def by_block(draw: Callable[[Any, Key, int], PyTree], data: Any, key: Key, batch: int) -> PyTree:
    """`draw(block, fold_in(key, number), batch / D)` from each block of `data` `[D, ...]`. [B]

    Raises:
      UserError: D does not divide the batch.
    """
    blocks = len(jax.tree.leaves(data)[0])
    check_divides("blocks", blocks, batch, "samples of a batch")

    def block(part: Any, number: Array) -> PyTree:
        return draw(part, jax.random.fold_in(key, number), batch // blocks)

    parts = jax.vmap(block)(data, jnp.arange(blocks))
    return jax.tree.map(lambda x: x.reshape((batch, *x.shape[2:])), parts)


def _sample_block(part: Dataset, key: Key, batch: int) -> Transition:
    """`batch` transitions of one block, whose leaves are `[R, ...]`."""
    steps, row = part.steps, part.valid[positions(part, key, batch)]
    return Transition(
        obs=jax.tree.map(lambda x: x[row], steps.obs),
        action=steps.action[row],
        reward=steps.reward[row],
        discount=steps.discount[row],
        next_obs=jax.tree.map(lambda x: x[row + 1], steps.obs),
        last=steps.last[row + 1],
        weight=None if part.weight is None else jnp.full(batch, part.weight),
        return_to_go=None if part.return_to_go is None else part.return_to_go[row],
    )


def positions(part: Any, key: Key, batch: int) -> Array:
    """Which of a block's `count` starts to draw, by its `table`. [B]

    Integers, so that a million entries keep their probabilities.
    """
    if part.table is None:
        return jax.random.randint(key, (batch,), 0, part.count)
    draws = jnp.minimum(jax.random.bits(key, (batch,), jnp.uint32), np.uint32(HIGHEST - 1))
    return jnp.searchsorted(part.table, draws, side="right")


def with_probabilities(dataset: Dataset, p: np.ndarray) -> Dataset:
    """The same data, drawn in proportion to `p` `[N]`, one number per transition in block order.

    Each block draws from its own part of the distribution; `weight` carries its total, so weighted
    means are expectations under `p`.

    Raises:
      UserError: `p` has another length, a negative or non-finite number, or no positive one.
    """
    p = np.asarray(p, np.float64)
    if p.shape != (dataset.size,):
        raise UserError(f"probabilities: found shape {p.shape}, expected ({dataset.size},)")
    if not (np.isfinite(p).all() and (p >= 0).all() and p.sum() > 0):
        raise UserError("probabilities: expected finite numbers >= 0, at least one of them > 0")
    parts = np.split(p / p.sum(), np.cumsum(np.asarray(dataset.count))[:-1])
    table = np.stack([_cumulative(part, dataset.valid.shape[1]) for part in parts])
    weight = block_weight(np.array([part.sum() for part in parts]))
    return replace(dataset, table=jnp.asarray(table), weight=weight)


def _cumulative(p: np.ndarray, size: int) -> np.ndarray:
    """Cumulative `p` in units of 1 / HIGHEST, padded to `size`; uniform where all of `p` is 0."""
    total = np.cumsum(p if p.any() else np.ones_like(p))
    table = np.full(size, HIGHEST, np.uint32)
    table[: len(p)] = np.round(total / total[-1] * HIGHEST)
    return table


def block_weight(mass: np.ndarray) -> Array | None:
    """D times each block's share of `mass` `[D]`, of mean one; None where all shares are equal."""
    weight = len(mass) * mass / mass.sum()
    return None if np.allclose(weight, 1, rtol=0, atol=1e-9) else jnp.asarray(weight, jnp.float32)


class Extents(NamedTuple):
    """Where the episodes are, in block order."""

    block: np.ndarray  # [E]
    start: np.ndarray  # [E] first row within the block
    length: np.ndarray  # [E] transitions


def extents(dataset: Dataset) -> Extents:
    """The episodes of a dataset, found from `last`."""
    last = np.asarray(dataset.steps.last)
    end = np.flatnonzero(last)
    start = np.append(0, end[:-1] + 1)
    kept = end > start  # padding is a run of rows that end at once
    start, end = start[kept], end[kept]
    block = end // last.shape[1]
    return Extents(block, start - block * last.shape[1], end - start)


def returns(dataset: Dataset) -> np.ndarray:
    """Undiscounted return of every episode, in the order of `extents`. [E] float64"""
    reward = np.asarray(dataset.steps.reward)
    where = extents(dataset)
    start = where.start + where.block * reward.shape[1]
    bounds = np.stack([start, start + where.length], axis=1).ravel()
    return np.add.reduceat(reward.ravel(), bounds, dtype=np.float64)[::2]
