"""Behaviour cloning: a Gaussian by maximum likelihood, or one action by least squares.

Also what other agents take from it. A policy regulariser `(params, dist, batch, key) -> (loss,
metrics)` is added to an actor loss (TD3+BC). An imitation loss `(params, networks, batch, key) ->
(loss, metrics)` honours `batch.weight`, so that a weight in the batch makes it a weighted
likelihood (IQL). Cloning the best trajectories alone is a transform of the dataset.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxrl import networks as nets
from jaxrl.errors import check_config, check_continuous
from jaxrl.ops import losses, optimizers
from jaxrl.types import (
    Agent,
    Array,
    Key,
    Learner,
    Metrics,
    Params,
    PyTree,
    Spec,
    Transition,
    descend,
    learner,
)

PROGRESS = "action_error"
ACTOR = 0  # name of the update's random draw

Regularizer = Callable[[Params, Any, Transition, Key], tuple[Array, Metrics]]


@dataclass(frozen=True)
class Config:
    """Settings of IQL's policy, which is the usual baseline beside it."""

    learning_rate: float = 3e-4  # Adam
    adam_eps: float = 1e-8
    hidden: tuple[int, ...] = (256, 256)  # units per layer
    policy: Literal["gaussian", "deterministic"] = "gaussian"  # likelihood, or squared error
    dropout: float | None = None  # share of hidden units dropped in updates
    actor_keys: tuple[str, ...] = ()  # entries of a dict observation; empty reads all
    dtype: str | None = None  # what networks compute in; None is the parameters' type


class State(NamedTuple):
    """Everything that learns."""

    step: Array  # [] int32, updates done
    actor: Learner


class Networks(NamedTuple):
    """Module, loss and optimiser, which a user may replace; `make` adds one where none is."""

    actor: Any  # obs -> distribution
    imitation: Any  # params, networks, batch, key -> loss, metrics; honours batch.weight
    optimizer: optax.GradientTransformation | None = None


def init(networks: Networks, spec: Spec, key: Key) -> State:
    """The first state."""
    obs, _ = nets.dummy(spec)
    return State(jnp.int32(0), learner(networks.optimizer, networks.actor.init(key, obs)))


def squared_error(params: Params, dist: Any, batch: Transition, key: Key) -> tuple[Array, Metrics]:
    """(mode - a)^2, averaged over the batch and the action dimensions."""
    del params, key
    error = dist.mode() - batch.action
    chex.assert_rank(error, 2)
    loss = losses.mean(jnp.square(error).mean(-1), batch.weight)
    return loss, {"imitation_loss": loss, "action_error": jnp.abs(error).mean()}


def negative_log_likelihood(
    params: Params, dist: Any, batch: Transition, key: Key
) -> tuple[Array, Metrics]:
    """-log pi(a|s), summed over the action dimensions and averaged over the batch."""
    _, metrics = squared_error(params, dist, batch, key)
    loss = losses.mean(-dist.log_prob(batch.action), batch.weight)
    return loss, metrics | {"imitation_loss": loss}


def imitate(
    regularizer: Regularizer, params: Params, networks: Any, batch: Transition, key: Key
) -> tuple[Array, Metrics]:
    """A policy regulariser as the whole loss of an actor, with dropout where the actor has any."""
    key_dropout, key = jax.random.split(key)
    dist = networks.actor.apply(params, batch.obs, rngs={"dropout": key_dropout})
    return regularizer(params, dist, batch, key)


def update(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> tuple[State, Metrics]:
    """One gradient step on `batch` `[B]`, of which only `obs`, `action` and `weight` are read."""
    del config
    key = jax.random.fold_in(key, ACTOR)
    actor, metrics = descend(
        networks.optimizer, networks.imitation, state.actor, networks, batch, key
    )
    return State(state.step + 1, actor), metrics


def act(networks: Any, config: Any, state: Any, obs: PyTree, key: Key | None = None) -> Array:
    """Actions `[B, A]` in [-1, 1]: the mode, or a clipped sample where a key is given."""
    del config
    policy = networks.actor.apply(state.actor.params, obs)
    return jnp.clip(policy.mode() if key is None else policy.sample(key), -1, 1)


def gaussian_actor(spec: Spec, config: Any) -> nets.Module:
    """A tanh mean per state and one log standard deviation for all, clipped to [-5, 2]."""
    encode, torso = nets.encoder(spec, config.actor_keys), actor_torso(spec, config)
    return nets.GaussianActor(encode, torso, log_std_min=-5.0, log_std_max=2.0, tanh_mean=True)


def actor_torso(spec: Spec, config: Any) -> nets.Module:
    """ReLU layers, orthogonal with gain sqrt(2), outputs included, as in IQL's code."""
    return nets.MLP(
        (*config.hidden, spec.action.shape[-1]),
        kernel_init=nets.orthogonal(2**0.5),
        dtype=config.dtype,
        dropout=config.dropout,
    )


def build(spec: Spec, config: Config) -> Networks:
    """The network and the loss of either kind of policy."""
    if config.policy == "gaussian":
        imitation = partial(imitate, negative_log_likelihood)
        return Networks(gaussian_actor(spec, config), imitation)
    encode, torso = nets.encoder(spec, config.actor_keys), actor_torso(spec, config)
    return Networks(nets.DeterministicActor(encode, torso), partial(imitate, squared_error))


def make(spec: Spec, config: Config = Config(), networks: Networks | None = None) -> Agent:
    """Behaviour cloning for continuous actions.

    Raises:
      UserError: the task has discrete actions, or a setting is out of range.
    """
    check_config(config)
    check_continuous("bc", spec.num_actions)
    networks = networks or build(spec, config)
    networks = optimizers.unless_given(
        networks, optimizer=optax.adam(config.learning_rate, eps=config.adam_eps)
    )
    return Agent(
        init=partial(init, networks, spec),
        update=partial(update, networks, config),
        act=partial(act, networks, config),
    )
