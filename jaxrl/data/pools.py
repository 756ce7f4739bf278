"""A dataset in pools, some of its episodes at a time: for data larger than memory or the device.

An epoch is an order of all episodes, another one each time, and pools are cut from it. Which
episodes are in pool i is a function of i (Grain's index shuffle), so that the number of the pool is
all that a run must remember. Every record is read once an epoch, in the order of the file within a
pool, and while one pool is in use the next is read, checked and moved to the device behind it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.dataset import Dataset
from jaxrl.data.episodes import Episode, Source, from_episodes
from jaxrl.data.transforms import Statistics
from jaxrl.errors import UserError, check_range, require
from jaxrl.types import PyTree

ORDER = 0  # seed of the orders; all seeds and starts of a run see the same pools
HELD = 3  # pools at most: in use, ready, being read

Prepare = Callable[[Dataset], Dataset]


class Pools:
    """The pools of a source, by number; all have arrays of the same shapes.

    `weight` is on every transition: it corrects for blocks and pools that hold more or fewer than
    the mean, so that a weighted mean over an epoch is one over all transitions alike.

    Args:
      size: transitions of a pool, on average; as many episodes as come closest from below.
      prepare: what is done to every pool, behind its reading.

    Raises:
      UserError: episodes cannot be read at random, or a pool has fewer than there are blocks; Grain
        is not installed.
    """

    def __init__(self, source: Source, size: int, blocks: int = 1, prepare: Prepare = lambda x: x):
        self.source, self.blocks, self.prepare = source, blocks, prepare
        self.grain = check(source)
        check_range("stream", size, 1)
        episodes, mean = len(source.lengths), source.lengths.mean()
        self.episodes = min(int(size / mean), episodes)  # of a pool
        if self.episodes < blocks:
            least = int(np.ceil(blocks * mean))
            raise UserError(f"stream: found {size}, expected at least {least} for {blocks} blocks")
        self.size = self.episodes * mean  # transitions of a pool, on average
        self.room = room(source.lengths + 1, self.episodes, blocks)
        order = self.grain.MapDataset.range(episodes).seed(ORDER).shuffle().repeat()
        self.pools = order.batch(self.episodes).map(self._pool)

    def __getitem__(self, number: int) -> Dataset:
        """Read a pool now. It is the same at every call."""
        return self.pools[number]

    def ahead(self, number: int) -> Iterator[Dataset]:
        """The pools from a number on, each read while the one before is in use."""
        options = self.grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        return iter(self.pools[number:].to_iter_dataset(options))

    def _pool(self, numbers: np.ndarray) -> Dataset:
        found = [read(self.source, int(number)) for number in np.sort(numbers)]
        dataset = from_episodes(found, self.blocks, self.source.spec.num_actions, self.room)
        weight = jnp.asarray(dataset.count * (self.blocks / self.size), dataset.steps.reward.dtype)
        return self.prepare(replace(dataset, weight=weight))


def check(source: Source) -> ModuleType:
    """Grain, if a source can be read with it.

    Raises:
      UserError: Grain is not installed; the files are read in order only, or do not say how many
        discrete actions there are, which no pool can know.
    """
    if source.read is None:
        raise UserError(
            f"stream: {source.name} cannot be read at random; expected local/ or tfds/ in "
            "ArrayRecord files"
        )
    if np.issubdtype(source.spec.action.dtype, np.integer) and not source.spec.discrete:
        raise UserError(f"stream: the metadata of {source.name} lack num_actions")
    return require("grain", "grain", "stream")


def read(source: Source, number: int) -> Episode:
    """One episode of a source that can be read at random."""
    assert source.read is not None
    return source.read(number)


def room(rows: np.ndarray, episodes: int, blocks: int) -> int:
    """Rows per block that are enough for any `episodes` episodes with `rows` `[E]` rows.

    Where epochs do not end with a pool, an episode may be in one twice. A block is never fuller
    than its share and one episode.
    """
    longest = np.sort(rows)[::-1]
    total = np.repeat(longest, 1 + bool(len(rows) % episodes))[:episodes].sum()
    return int(total if blocks == 1 else -(-total // blocks) + longest[0])


def only(source: Source, episodes: np.ndarray) -> Source:
    """The same source without all but the given episodes, in the order of their numbers."""
    kept = np.sort(episodes)
    return replace(source, lengths=source.lengths[kept], read=lambda i: read(source, int(kept[i])))


def returns(source: Source) -> np.ndarray:
    """Undiscounted return of every episode, in one pass over the files. [E] float64"""
    return np.array([episode.reward.sum(dtype=np.float64) for episode in iterate(source)])


def iterate(source: Source) -> Iterator[Episode]:
    """The episodes of a source, one at a time."""
    return map(partial(read, source), range(len(source.lengths)))


def obs_statistics(source: Source, eps: float = 1e-3) -> Statistics:
    """`transforms.obs_statistics` in one pass over the files (Chan, Golub and LeVeque, 1979)."""
    zero = jax.tree.map(lambda s: np.zeros(s.shape), source.spec.obs)
    count, mean, squares = 0, zero, zero
    for episode in iterate(source):
        n = len(episode.action)
        rows = jax.tree.map(lambda x, n=n: np.asarray(x[:n], np.float64), episode.obs)
        share = n / (count + n)
        squares = jax.tree.map(partial(_squares, count * share), squares, mean, rows)
        mean = jax.tree.map(lambda m, x, a=share: m + a * (x.mean(0) - m), mean, rows)
        count += n
    return _statistics(source.spec.obs, mean, jax.tree.map(lambda s: s / count, squares), eps)


def _squares(factor: float, squares: np.ndarray, mean: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Summed squared deviations from the mean, after more rows `[n, ...]`."""
    return squares + rows.var(0) * len(rows) + factor * np.square(rows.mean(0) - mean)


def _statistics(like: PyTree, mean: PyTree, variance: PyTree, eps: float) -> Statistics:
    def leaf(s: Any, x: np.ndarray) -> jax.Array:
        return jnp.asarray(x, s.dtype)

    std = jax.tree.map(lambda x: np.sqrt(x) + eps, variance)
    return Statistics(jax.tree.map(leaf, like, mean), jax.tree.map(leaf, like, std))
