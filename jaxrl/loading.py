"""Datasets as the flags of an offline script ask for them: whole in memory, or in pools."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl import checkpoint, loops, parallel
from jaxrl.data import pools, sampling, transforms
from jaxrl.data.dataset import Dataset, with_probabilities
from jaxrl.data.episodes import Source, assemble, from_episodes
from jaxrl.errors import UserError, check_range
from jaxrl.loops import Loop, offline, streaming
from jaxrl.scaling import Scaling
from jaxrl.types import Agent

PROBABILITIES: Mapping[str, Callable[..., np.ndarray]] = {
    "return_weighted": sampling.return_weighted,
    "advantage_weighted": sampling.advantage_weighted,
}


class Opened(NamedTuple):
    """A dataset to learn from, and the loop that does it."""

    dataset: Dataset  # or an episode, which stands for those to come
    scaling: Scaling
    loop: Callable[[Agent, Any, offline.Draw], Loop]  # of what is drawn from, and how


def opened(config: Any, source: Source, blocks: int) -> Opened:
    """The dataset, streamed if the settings ask for it.

    Raises:
      UserError: it does not fit into memory, or a setting does not apply to it.
    """
    return (streamed if config.stream else in_memory)(config, source, blocks)


def in_memory(config: Any, source: Source, blocks: int) -> Opened:
    """The whole dataset on the device."""
    dataset = load(config, source, blocks)
    scaling = scaling_of(config, dataset)

    def loop(agent: Agent, data: Any, draw: offline.Draw) -> Loop:
        return offline.make(agent, data, config.loop, draw)

    return Opened(with_returns(config, dataset, scaling), scaling, loop)


def load(config: Any, source: Source, blocks: int) -> Dataset:
    """The transitions to learn from, in `blocks` blocks, and the odds of drawing each.

    Raises:
      UserError: they do not fit into memory, or a setting is out of range.
    """
    check_range("top_fraction", config.top_fraction, 0, 1)
    rows = int((source.lengths + 1).sum())
    loops.check_fits(f"the arrays of {config.dataset}", size(source, rows))
    dataset = assemble(source, blocks)
    if config.top_fraction < 1:
        dataset = transforms.top_fraction(dataset, config.top_fraction)
    if config.sampling != "uniform":
        p = PROBABILITIES[config.sampling](dataset, config.sampling_temperature)
        dataset = with_probabilities(dataset, p)
    return clipped(config, dataset)


def clipped(config: Any, dataset: Dataset) -> Dataset:
    """The data with actions as far from the bounds as the settings ask."""
    if config.clip_actions < 1:
        return transforms.clip_actions(dataset, config.clip_actions)
    return dataset


def with_returns(config: Any, dataset: Dataset, scaling: Scaling) -> Dataset:
    """The data with what the agent needs to know of its returns: Cal-QL's bound, if asked for.

    Raises:
      UserError: a sweep asks for bounds by several discounts.
    """
    if not getattr(config.agent, "calibrated", False):
        return dataset
    if getattr(config.sweep.agent, "gamma", ()):
        raise UserError("sweep.agent.gamma: decides the data of a calibrated agent; one by one")
    return transforms.with_return_to_go(dataset, config.agent.gamma, scaling.reward)


def size(source: Source, rows: int) -> int:
    """Bytes that reading so many rows takes: the arrays, on the host and on the device."""
    row = sum(int(np.prod(s.shape)) * s.dtype.itemsize for s in jax.tree.leaves(source.spec[:2]))
    return 2 * rows * (row + 4 + 4 + 1 + 4)  # reward to row number


def scaling_of(config: Any, dataset: Dataset) -> Scaling:
    """What the settings ask to be done to observations and rewards."""
    statistics = transforms.obs_statistics(dataset) if config.normalize_obs else None
    return Scaling(statistics, transforms.reward_affine(config.reward, dataset))


def streamed(config: Any, source: Source, blocks: int) -> Opened:
    """The dataset in pools. What the settings ask to know of all of it takes a pass over the files.

    Raises:
      UserError: episodes cannot be read at random, pools are too large for memory or too small for
        the blocks, or a setting needs all transitions at once.
    """
    if config.sampling != "uniform":
        raise UserError(f"sampling {config.sampling}: weighs all transitions at once; not streamed")
    mesh = parallel.start(config.mesh)
    source, scaling = surveyed(config, source)

    def prepare(pool: Dataset) -> Dataset:
        return with_returns(config, clipped(config, pool), scaling)

    parts = pools.Pools(source, config.stream, blocks, prepare)
    needed = pools.HELD * size(source, blocks * parts.room)
    loops.check_fits(f"{pools.HELD} pools of {config.dataset}", needed, "; reduce stream")
    one = from_episodes([pools.read(source, 0)], num_actions=source.spec.num_actions)

    def loop(agent: Agent, data: Any, draw: offline.Draw) -> Loop:
        if data is not one:
            raise UserError("stream: this agent draws windows, which take the whole dataset")
        how = checkpoint.how_seeds(config.out, config.seeds, mesh)
        return streaming.make(agent, parts, config.loop, draw, config.num_seeds, how, mesh)

    return Opened(one, scaling, loop)


def surveyed(config: Any, source: Source) -> tuple[Source, Scaling]:
    """The episodes to learn from, and `scaling_of` them, in as many passes over the files."""
    check_range("top_fraction", config.top_fraction, 0, 1)
    pools.check(source)
    if config.top_fraction < 1:
        best = transforms.best(pools.returns(source), source.lengths, config.top_fraction)
        source = pools.only(source, best)
    statistics = pools.obs_statistics(source) if config.normalize_obs else None
    reward = transforms.affine_of(config.reward, partial(pools.returns, source))
    return source, Scaling(statistics, reward)
