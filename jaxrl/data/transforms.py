"""Named functions `Dataset -> Dataset`, and the statistics that evaluation needs of them."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.dataset import Dataset, extents, returns
from jaxrl.data.episodes import from_episodes, iterate
from jaxrl.errors import UserError, check_range
from jaxrl.types import Array, PyTree

Transform = Callable[[Dataset], Dataset]


class Statistics(NamedTuple):
    """Mean and standard deviation of observations, per element."""

    mean: PyTree  # *obs_shape
    std: PyTree  # *obs_shape

    def normalize(self, obs: PyTree) -> PyTree:
        """(obs - mean) / std, for any leading axes. [..., *obs_shape]"""

        def leaf(x: Array, mean: Array, std: Array) -> Array:
            lead = (None,) * (x.ndim - mean.ndim)
            return (x - mean[lead]) / std[lead]

        return jax.tree.map(leaf, obs, self.mean, self.std)


def obs_statistics(dataset: Dataset, eps: float = 1e-3) -> Statistics:
    """Statistics of the observations that are acted on; `eps` is added to the deviation (TD3+BC).

    Accumulated in float64, since a million float32 squares lose digits.
    """
    acted = ~np.asarray(dataset.steps.last)

    def leaf(x: Array) -> tuple[Array, Array]:
        rows = np.asarray(x)
        mean = rows.mean((0, 1), np.float64, where=_expand(acted, rows))
        std = rows.std((0, 1), np.float64, where=_expand(acted, rows))
        return jnp.asarray(mean, x.dtype), jnp.asarray(std + eps, x.dtype)

    pairs = jax.tree.map(leaf, dataset.steps.obs)
    obs, pair = jax.tree.structure(dataset.steps.obs), jax.tree.structure((0, 0))
    return Statistics(*jax.tree.transpose(obs, pair, pairs))


def _expand(mask: np.ndarray, x: np.ndarray) -> np.ndarray:
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))


def normalize_obs(dataset: Dataset, statistics: Statistics | None = None) -> Dataset:
    """Observations with mean zero and deviation one; act on what `statistics.normalize` returns."""
    statistics = obs_statistics(dataset) if statistics is None else statistics
    return _with_steps(dataset, obs=statistics.normalize(dataset.steps.obs))


def affine_reward(dataset: Dataset, scale: float = 1.0, shift: float = 0.0) -> Dataset:
    """scale * reward + shift. The rows of final observations, which have no reward, stay zero."""
    reward, last = dataset.steps.reward, dataset.steps.last
    return _with_steps(dataset, reward=jnp.where(last, 0, scale * reward + shift))


def antmaze_reward_iql(dataset: Dataset) -> Dataset:
    """r - 1: minus one a step until the goal (IQL, official code)."""
    return affine_reward(dataset, shift=-1.0)


def antmaze_reward_cql(dataset: Dataset) -> Dataset:
    """4 (r - 0.5): minus two a step until the goal, two at it (CQL, official code)."""
    return affine_reward(dataset, scale=4.0, shift=-2.0)


def antmaze_reward_corl(dataset: Dataset) -> Dataset:
    """10 r - 5 (CQL, CORL's antmaze settings)."""
    return affine_reward(dataset, scale=10.0, shift=-5.0)


def locomotion_reward(dataset: Dataset) -> Dataset:
    """r * 1000 / (largest - smallest return of an episode) (IQL, official code).

    Raises:
      UserError: all episodes have the same return.
    """
    spread = np.ptp(returns(dataset))
    if not spread > 0:
        raise UserError("locomotion_reward: all returns are equal, expected a range to scale by")
    return affine_reward(dataset, scale=float(1000 / spread))


def clip_actions(dataset: Dataset, limit: float = 1 - 1e-5) -> Dataset:
    """Actions within +-limit, where the inverse of tanh is finite (IQL's limit; JaxCQL's 0.999)."""
    check_range("limit", limit, 0, 1)
    if dataset.num_actions is not None:
        raise UserError("clip_actions: found discrete actions, expected continuous ones")
    return _with_steps(dataset, action=jnp.clip(dataset.steps.action, -limit, limit))


def top_fraction(dataset: Dataset, fraction: float = 0.1) -> Dataset:
    """The episodes of highest return that make up `fraction` of the transitions, at least one.

    The data of %BC (Chen et al., 2021; arXiv:2106.01345, section 5.1).
    """
    check_range("fraction", fraction, 0, 1)
    length, best = extents(dataset).length, np.argsort(-returns(dataset), kind="stable")
    within = np.cumsum(length[best]) <= fraction * length.sum()
    return keep(dataset, best[: max(1, int(within.sum()))])


def keep(dataset: Dataset, episodes: np.ndarray) -> Dataset:
    """Only the episodes of the given numbers (of `extents`), spread over the same blocks.

    Raises:
      UserError: fewer episodes are left than there are blocks.
    """
    chosen = set(np.asarray(episodes).tolist())
    kept = [episode for i, episode in enumerate(iterate(dataset)) if i in chosen]
    return from_episodes(kept, dataset.blocks, dataset.num_actions)


def _with_steps(dataset: Dataset, **changes: PyTree) -> Dataset:
    return replace(dataset, steps=dataset.steps._replace(**changes))


NAMED: dict[str, Transform] = {
    "normalize-obs": normalize_obs,
    "antmaze-iql": antmaze_reward_iql,
    "antmaze-cql": antmaze_reward_cql,
    "antmaze-corl": antmaze_reward_corl,
    "locomotion": locomotion_reward,
    "clip-actions": clip_actions,
    "top-10%": top_fraction,
}
