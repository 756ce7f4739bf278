"""From episodes on disk or in memory to a `Dataset`: counted first, preallocated, filled by chunk.

Loading then holds the arrays twice, on the host and on the device, and little else.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.dataset import Dataset, Steps, block_weight, extents
from jaxrl.errors import UserError, check_range
from jaxrl.types import PyTree, Spec

# (field of Steps, rows, values): rows count all episodes in file order, T + 1 rows for each
Put = Callable[[str, Any, PyTree], None]


class Episode(NamedTuple):
    """T transitions on the host."""

    obs: PyTree  # [T + 1, *obs_shape]
    action: np.ndarray  # [T, A] in [-1, 1], or [T] integers
    reward: np.ndarray  # [T]
    discount: np.ndarray  # [T], 0 where the MDP ended, 1 otherwise


@dataclass(frozen=True)
class Source:
    """Episodes that have been counted and not yet read."""

    name: str  # file or directory
    spec: Spec  # integer actions without `num_actions` are counted when they are read
    lengths: np.ndarray  # [E] transitions per episode
    fill: Callable[[Put], None]
    metadata: dict[str, Any] = field(default_factory=dict)
    read: Callable[[int], Episode] | None = None  # one episode, where files allow it


class Layout(NamedTuple):
    """Where each row goes."""

    position: np.ndarray  # [N + E] row in the flattened blocks
    final: np.ndarray  # [E] the same of each episode's final observation
    rows: int  # per block


def layout(lengths: np.ndarray, blocks: int, room: int = 0) -> Layout:
    """Whole episodes over blocks: the longest first, each to the emptiest block.

    Args:
      room: rows per block, or as many as it takes.

    Raises:
      UserError: there are fewer episodes than blocks.
    """
    rows = np.asarray(lengths, np.int64) + 1
    check_range("blocks", blocks, 1)
    if len(rows) < blocks:
        raise UserError(f"blocks: found {blocks}, expected at most {len(rows)}, one per episode")
    block, filled = np.zeros(len(rows), np.int64), [(0, b) for b in range(blocks)]
    for episode in np.argsort(-rows, kind="stable"):
        size, block[episode] = heapq.heappop(filled)
        heapq.heappush(filled, (size + rows[episode], block[episode]))
    most = max(room, *(size for size, _ in filled))
    start = np.empty(len(rows), np.int64)
    for b in range(blocks):  # within a block, episodes keep their order
        inside = block == b
        start[inside] = b * most + np.cumsum(rows[inside]) - rows[inside]
    shift = (start - (np.cumsum(rows) - rows)).astype(np.int32)
    position = np.repeat(shift, rows)
    position += np.arange(len(position), dtype=np.int32)
    return Layout(position, start + rows - 1, int(most))


def assemble(source: Source, blocks: int, room: int = 0) -> Dataset:
    """Read a source into a dataset of `blocks` blocks.

    Args:
      room: rows per block where several sources should fill arrays of one shape.

    Raises:
      UserError: the source has no episodes, fewer than blocks, or numbers that cannot be used.
    """
    if not len(source.lengths):
        raise UserError(f"{source.name}: found no episodes")
    place = layout(source.lengths, blocks, room)
    arrays = _allocate(source.spec, place, blocks)
    source.fill(partial(_write, arrays, place.position))
    arrays.last[place.position] = False
    arrays.last[place.final] = True
    num_actions = source.spec.num_actions
    if num_actions is None and np.issubdtype(arrays.action.dtype, np.integer):
        num_actions = int(arrays.action.max()) + 1
    del place
    return _on_device(arrays, blocks, num_actions, room)


def _allocate(spec: Spec, place: Layout, blocks: int) -> Steps:
    n = blocks * place.rows

    def zeros(s: jax.ShapeDtypeStruct) -> Any:
        return np.zeros((n, *s.shape), s.dtype)

    scalar = jax.ShapeDtypeStruct((), np.float32)
    last: Any = np.ones(n, bool)
    return Steps(
        jax.tree.map(zeros, spec.obs), zeros(spec.action), zeros(scalar), zeros(scalar), last
    )


def _write(arrays: Steps, position: np.ndarray, name: str, rows: Any, values: PyTree) -> None:
    where = position[rows]

    def leaf(array: np.ndarray, value: np.ndarray) -> None:
        array[where] = value

    jax.tree.map(leaf, getattr(arrays, name), values)


def _on_device(arrays: Steps, blocks: int, num_actions: int | None, room: int) -> Dataset:
    last: Any = arrays.last.reshape(blocks, -1)
    count = (~last).sum(1)
    valid = np.zeros((blocks, room or count.max()), np.int32)
    for b in range(blocks):
        valid[b, : count[b]] = np.flatnonzero(~last[b])
    # Not `jnp.asarray`, which copies twice on CPU.
    steps = jax.tree.map(lambda x: jax.device_put(x.reshape(*last.shape, *x.shape[1:])), arrays)
    return Dataset(
        steps,
        jnp.asarray(valid),
        jnp.asarray(count, jnp.int32),
        block_weight(count),
        num_actions=num_actions,
    )


def fill_episodes(episodes: Iterable[Episode], put: Put) -> None:
    """Write episodes one after another."""
    row = 0
    for episode in episodes:
        length = len(episode.action)
        put("obs", slice(row, row + length + 1), episode.obs)
        for name in ("action", "reward", "discount"):
            put(name, slice(row, row + length), getattr(episode, name))
        row += length + 1


def from_episodes(
    episodes: Sequence[Episode], blocks: int = 1, num_actions: int | None = None, room: int = 0
) -> Dataset:
    """A dataset of episodes in memory. Floats are held in 32 bits, as those of files are.

    Args:
      room: as for `assemble`.

    Raises:
      UserError: there are no episodes, or fewer than blocks.
    """
    if not episodes:
        raise UserError("episodes: found none, expected at least one")

    def struct(x: np.ndarray) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(np.shape(x)[1:], storage_dtype(np.asarray(x).dtype))

    first = episodes[0]
    spec = Spec(jax.tree.map(struct, first.obs), struct(first.action), num_actions)
    lengths = np.array([len(episode.action) for episode in episodes])
    fill = partial(fill_episodes, episodes)
    return assemble(Source("episodes", spec, lengths, fill), blocks, room)


def storage_dtype(dtype: Any) -> np.dtype:
    """What numbers of a type are kept as: 32 bits, bytes and booleans as they are."""
    dtype = np.dtype(dtype)
    if dtype in (np.uint8, np.bool_):
        return dtype
    return np.dtype(np.int32 if np.issubdtype(dtype, np.integer) else np.float32)


def iterate(dataset: Dataset) -> Iterator[Episode]:
    """The episodes of a dataset, on the host, in the order of `extents`."""
    steps = jax.tree.map(np.asarray, dataset.steps)
    for block, start, length in zip(*extents(dataset), strict=True):
        rows = slice(start, start + length)
        obs = jax.tree.map(lambda x: x[block, start : start + length + 1], steps.obs)  # noqa: B023
        yield Episode(
            obs, steps.action[block, rows], steps.reward[block, rows], steps.discount[block, rows]
        )
