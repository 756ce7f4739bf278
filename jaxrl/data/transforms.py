"""Named functions `Dataset -> Dataset`, and the statistics that evaluation needs of them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.dataset import Dataset, extents, returns
from jaxrl.data.episodes import from_episodes, iterate
from jaxrl.errors import UserError, check_range, unknown_name
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


class Affine(NamedTuple):
    """What a reward becomes: scale * reward + shift."""

    scale: float = 1.0
    shift: float = 0.0


def affine_reward(dataset: Dataset, scale: float = 1.0, shift: float = 0.0) -> Dataset:
    """scale * reward + shift. The rows of final observations, which have no reward, stay zero."""
    reward, last = dataset.steps.reward, dataset.steps.last
    return _with_steps(dataset, reward=jnp.where(last, 0, scale * reward + shift))


def locomotion(returns: np.ndarray) -> Affine:
    """r * 1000 / (largest - smallest return of an episode) (IQL, official code).

    Raises:
      UserError: all episodes have the same return.
    """
    spread = np.ptp(returns)
    if not spread > 0:
        raise UserError("reward locomotion: all returns are equal, expected a range to scale by")
    return Affine(float(1000 / spread))


REWARDS: dict[str, Affine | Callable[[np.ndarray], Affine]] = {  # of the returns [E]
    "raw": Affine(),
    "locomotion": locomotion,
    "antmaze-iql": Affine(1.0, -1.0),  # -1 a step until the goal (official code)
    "antmaze-cql": Affine(4.0, -2.0),  # 4 (r - 0.5): -2 a step, 2 at the goal (official code)
    "antmaze-corl": Affine(10.0, -5.0),  # 10 r - 5 (CQL, CORL's antmaze settings)
}


def reward_affine(name: str, dataset: Dataset) -> Affine:
    """The reward transform of a benchmark, by name.

    Raises:
      UserError: an unknown name, or rewards that it cannot scale.
    """
    return affine_of(name, partial(returns, dataset))


def affine_of(name: str, returns: Callable[[], np.ndarray]) -> Affine:
    """`reward_affine` of data whose `returns` `[E]` are asked for only where they are needed."""
    if name not in REWARDS:
        raise unknown_name("reward", name, REWARDS)
    found = REWARDS[name]
    return found if isinstance(found, Affine) else found(returns())


def named_reward(dataset: Dataset, name: str) -> Dataset:
    """The dataset with the rewards of `reward_affine`."""
    return affine_reward(dataset, *reward_affine(name, dataset))


def with_return_to_go(dataset: Dataset, gamma: float, reward: Affine = Affine()) -> Dataset:
    """The same data with sum_k gamma^k r_k of every step, of the rewards after `reward`.

    It stops where the episode does, at a time limit too, as in Cal-QL (Nakamoto et al., 2023;
    arXiv:2303.05479).
    """
    scaled = affine_reward(dataset, *reward).steps
    rewards, last = np.asarray(scaled.reward, np.float64), np.asarray(scaled.last)
    to_go = np.zeros_like(rewards)
    for row in range(rewards.shape[1] - 2, -1, -1):  # rows after an episode's end hold zero
        to_go[:, row] = np.where(last[:, row], 0, rewards[:, row] + gamma * to_go[:, row + 1])
    return replace(dataset, return_to_go=jnp.asarray(to_go, scaled.reward.dtype))


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
    return keep(dataset, best(returns(dataset), extents(dataset).length, fraction))


def best(returns: np.ndarray, lengths: np.ndarray, fraction: float) -> np.ndarray:
    """Numbers of the episodes of highest return that make up `fraction` of the transitions."""
    check_range("fraction", fraction, 0, 1)
    order = np.argsort(-returns, kind="stable")
    within = np.cumsum(lengths[order]) <= fraction * lengths.sum()
    return order[: max(1, int(within.sum()))]


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
    "clip-actions": clip_actions,
    "top-10%": top_fraction,
    **{name: partial(named_reward, name=name) for name in REWARDS},
}
