"""Windows of consecutive steps of a dataset, for sequence and chunk agents.

Rows are gathered when a batch is drawn: windows overlap, and are not stored. None holds steps of
two episodes. Both kinds are drawn by `draw`, in a loop by `offline.make(..., draw=draw)`.
"""

import warnings
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.dataset import (
    Dataset,
    Extents,
    Steps,
    block_weight,
    by_block,
    extents,
    positions,
)
from jaxrl.errors import UserError, check_range
from jaxrl.types import Array, Key, Segment

LATER = 0  # name of the draw of goals


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Windows:
    """The steps of a dataset, and the rows at which a window of them may start."""

    steps: Steps  # leaves [D, R, ...]
    return_to_go: Array  # [D, R], sum of the rewards from here to the end of the episode
    timestep: Array  # [D, R] int32, counted from the start of the episode
    left: Array  # [D, R] int32, transitions from here to the end of the episode
    start: Array  # [D, V] int32; the first `count` of each block
    count: Array  # [D] int32
    weight: Array | None = None  # [D], corrects equal shares of unequal blocks; None where equal
    table: Array | None = None  # [D, V] uint32, cumulative probabilities; None draws uniformly
    length: int = field(default=1, metadata={"static": True})  # K
    before: int | None = field(default=None, metadata={"static": True})  # None aligns to the right

    @property
    def blocks(self) -> int:
        return self.start.shape[0]

    @property
    def size(self) -> int:
        """Number of windows."""
        return int(self.count.sum())


def contexts(dataset: Dataset, length: int) -> Windows:
    """Up to `length` steps from any transition on, as decision transformers are trained on.

    Every transition starts a window, so episodes are drawn in proportion to their length (or by
    the dataset's probabilities). Where the episode ends early the window is padded on the left.

    Raises:
      UserError: no episode is as long as `length`, or the data has no actions or no rewards.
    """
    where = _check(dataset, length)
    if where.length.max() < length:
        raise UserError(
            f"context: found {length}, expected at most {where.length.max()}, the longest episode"
        )
    if not dataset.steps.reward.any():
        raise UserError("dataset: every reward is 0, so there is no return to condition on")
    columns = _columns(dataset, where)
    start, count, weight, table = dataset.valid, dataset.count, dataset.weight, dataset.table
    return Windows(dataset.steps, *columns, start, count, weight, table, length)


def chunks(dataset: Dataset, length: int, before: int = 0, after: int = 0) -> Windows:
    """Windows of `length` steps which start `before` steps before an episode at the earliest.

    They end `after` steps behind it at the latest. Outside of the episode its first and its last
    step are repeated, and `mask` is False there. Diffusion policies pad To - 1 and Ta - 1 steps.

    Raises:
      UserError: the padding leaves no room for a step, or no episode has a window, or the data has
        no actions.
    """
    where = _check(dataset, length)
    check_range("before", before, 0)
    check_range("after", after, 0)
    if before + after >= length:
        raise UserError(f"padding: found {before} + {after}, expected less than length {length}")
    if dataset.table is not None:
        raise UserError("dataset: probabilities are of transitions; chunks are drawn uniformly")
    number = np.maximum(where.length - length + before + after + 1, 0)
    if not number.any():
        raise UserError(
            f"length: found {length}, expected at most {where.length.max() + before + after}, "
            "the longest episode and its padding"
        )
    if not number.all():
        warnings.warn(f"{(number == 0).sum()} episodes are shorter than a window", stacklevel=2)
    start, count = _starts(where, number, dataset.blocks)
    weight = block_weight(count)
    columns = _columns(dataset, where)
    start, count = jnp.asarray(start), jnp.asarray(count, jnp.int32)
    return Windows(dataset.steps, *columns, start, count, weight, None, length, before)


def draw(windows: Windows, key: Key, batch: int) -> Segment:
    """A batch `[B, K]`, the same share from every block, each drawn with `fold_in(key, block)`."""
    return by_block(_draw_block, windows, key, batch)


def draw_hindsight(windows: Windows, key: Key, batch: int) -> Segment:
    """`draw`, with goals `[B, G]`: what was observed later in the episode, which it led to.

    Observations are arrays, and any later step is as likely: the `future` strategy of
    Andrychowicz et al. (2017; arXiv:1707.01495, Section 4.5).
    """
    return by_block(partial(_draw_block, hindsight=True), windows, key, batch)


def _draw_block(part: Windows, key: Key, batch: int, hindsight: bool = False) -> Segment:
    """`batch` windows of one block, whose leaves are `[R, ...]`."""
    row, mask = _rows(part, part.start[positions(part, key, batch)][:, None])
    steps = part.steps
    return Segment(
        obs=jax.tree.map(lambda x: x[row], steps.obs),
        action=steps.action[row],
        reward=steps.reward[row],
        discount=steps.discount[row],
        mask=mask,
        timestep=part.timestep[row],
        return_to_go=part.return_to_go[row],
        weight=None if part.weight is None else jnp.full(batch, part.weight),
        goal=_later(part, row[:, -1], jax.random.fold_in(key, LATER)) if hindsight else None,
    )


def _later(part: Windows, row: Array, key: Key) -> Array:
    """An observation of each episode after `row` `[B]`, the final one included. [B, G]"""
    ahead = jax.random.randint(key, row.shape, 1, part.left[row] + 1)
    return part.steps.obs[row + ahead].reshape(len(row), -1)


def _rows(part: Windows, start: Array) -> tuple[Array, Array]:
    """Rows of the windows that start at `start` `[B, 1]`, and which of them count. [B, K] each"""
    left, end = part.left[start], start + part.left[start] - 1
    if part.before is None:
        first, shift = start, part.length - jnp.minimum(left, part.length)
    else:
        first, shift = start - part.timestep[start], jnp.full_like(start, part.before)
    row = start - shift + jnp.arange(part.length, dtype=start.dtype)[None]
    inside = jnp.clip(row, first, end)
    return inside, inside == row


def _check(dataset: Dataset, length: int) -> Extents:
    check_range("length", length, 1)
    if 0 in dataset.steps.action.shape:
        raise UserError("dataset: found no actions, expected at least one dimension")
    return extents(dataset)


def _columns(dataset: Dataset, where: Extents) -> tuple[Array, Array, Array]:
    """Return-to-go, timestep and transitions left of every row. [D, R] each"""
    reward = np.asarray(dataset.steps.reward, np.float64)
    rest = np.cumsum(reward[:, ::-1], axis=1)[:, ::-1]
    return_to_go, (timestep, left) = np.zeros_like(reward), np.zeros((2, *reward.shape), np.int32)
    for block, start, length in zip(*where, strict=True):
        rows = block, slice(start, start + length)
        return_to_go[rows] = rest[rows] - rest[block, start + length]
        timestep[rows] = np.arange(length)
        left[rows] = np.arange(length, 0, -1)
    dtype = dataset.steps.reward.dtype
    return jnp.asarray(return_to_go, dtype), jnp.asarray(timestep), jnp.asarray(left)


def _starts(where: Extents, number: np.ndarray, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `number` `[E]` rows of every episode, by block `[D, V]`, and how many `[D]`."""
    count = np.bincount(where.block, number, blocks).astype(np.int64)
    start = np.zeros((blocks, count.max()), np.int32)
    for block in range(blocks):
        inside = np.flatnonzero(where.block == block)
        ranges = [np.arange(where.start[i], where.start[i] + number[i]) for i in inside]
        start[block, : count[block]] = np.concatenate([*ranges, np.zeros(0, int)])
    return start, count
