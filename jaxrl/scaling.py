"""From an agent to one that is given raw observations and rewards, and learns from scaled ones.

The dataset, the replay and the environment stay as they are, so a run can go on with other data or
online, and whoever acts for it needs only what stands under `scaling` in its `config.json`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.data.transforms import Affine, Statistics
from jaxrl.types import Agent, Array, Key, Metrics, PyTree, Segment, Spec, State, Transition


class Scaling(NamedTuple):
    """What is done to a batch, and the first part of it to an observation that is acted on."""

    obs: Statistics | None = None  # absent means as they are
    reward: Affine = Affine()


def scale_obs(scaling: Scaling, obs: PyTree) -> PyTree:
    """Normalised observations `[..., *obs_shape]`, or windows with such."""
    if isinstance(obs, Segment):
        return obs._replace(obs=scale_obs(scaling, obs.obs))
    return obs if scaling.obs is None else scaling.obs.normalize(obs)


def scale_batch(scaling: Scaling, batch: Transition | Segment) -> Transition | Segment:
    """Normalised observations and, but for windows `[B, K]`, transformed rewards. [B]"""
    if isinstance(batch, Segment):
        return scale_obs(scaling, batch)
    return batch._replace(
        obs=scale_obs(scaling, batch.obs),
        next_obs=scale_obs(scaling, batch.next_obs),
        reward=scaling.reward.scale * batch.reward + scaling.reward.shift,
    )


def scaled(agent: Agent, scaling: Scaling) -> Agent:
    """The same agent behind `scaling`; its state is what it would be without."""

    def update(state: State, batch: Transition | Segment, key: Key) -> tuple[State, Metrics]:
        return agent.update(state, scale_batch(scaling, batch), key)

    def act(state: State, obs: PyTree, key: Key | None = None, **more: Any) -> Array:
        return agent.act(state, scale_obs(scaling, obs), key, **more)

    return Agent(agent.init, update, act)


def decode(found: dict[str, Any], spec: Spec) -> Scaling:
    """A `Scaling` from what `config.json` holds of it."""

    def leaf(s: jax.ShapeDtypeStruct, x: list) -> Array:
        return jnp.asarray(x, s.dtype)

    obs = found["obs"]
    if obs is not None:
        obs = Statistics(*(jax.tree.map(leaf, spec.obs, obs[name]) for name in Statistics._fields))
    return Scaling(obs, Affine(**found["reward"]))
