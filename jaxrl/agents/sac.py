"""Soft Actor-Critic with a learned temperature (Haarnoja et al., 2018; arXiv:1812.05905).

Conventions that differ between codebases, and ours: actions live in [-1, 1], so entropies are
measured in that box; the target entropy is `target_entropy` nats per action dimension (-1 is the
paper's, -0.5 that of jaxrl and brax); both critics learn from the same target; the order of an
update is critic, actor (with the new critic), temperature (with the actor's sample), target.
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
from jaxrl.errors import check_config, check_continuous, check_range
from jaxrl.ops import losses, moments, optimizers
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

PROGRESS = "td_error"
TARGET, ACTOR = range(2)  # names of the update's random draws

Like = Any  # Config, State or Networks of this file, or of an agent with the same fields and more


@dataclass(frozen=True)
class Config:
    """Settings of the paper's Table 1, with entropies in nats per action dimension."""

    gamma: float = 0.99  # discount per step
    tau: float = 0.005  # share of the new critic in its target, per update
    learning_rate: float = 3e-4  # Adam, of actor, critics and temperature
    adam_eps: float = 1e-8
    hidden: tuple[int, ...] = (256, 256)  # units per layer, of actor and critics
    critics: int = 2  # size of the ensemble whose minimum is taken
    target_entropy: float = -1.0  # nats per action dimension, for actions in [-1, 1]
    temperature: float = 1.0  # alpha at the start, or throughout
    learn_temperature: bool = True
    temperature_loss: Literal["J1", "J2"] = "J1"  # J1 weighs the gap by alpha (Eq. 18), J2 does not
    backup_entropy: bool = True  # whether the target includes -alpha log pi
    reward_scale: float = 1.0  # multiplies rewards, never the entropy
    normalize_obs: bool = False  # by running statistics of the sampled batches
    actor_keys: tuple[str, ...] = ()  # entries of a dict observation; empty reads all
    critic_keys: tuple[str, ...] = ()
    dtype: str | None = None  # what networks compute in; None is the parameters' type


class State(NamedTuple):
    """Everything that learns."""

    step: Array  # [] int32, updates done
    actor: Learner
    critic: Learner
    temperature: Learner  # log alpha
    target: Params  # slow copy of critic.params
    normalizer: moments.Moments | None


class Networks(NamedTuple):
    """Modules and the optimiser, which a user may replace; `make` adds one where none is."""

    actor: Any  # obs -> distribution
    critic: Any  # obs, action -> [E, B]
    temperature: Any  # () -> log alpha
    optimizer: optax.GradientTransformation | None = None


def init(networks: Networks, spec: Spec, config: Like, key: Key) -> State:
    """The first state."""
    obs, action = nets.dummy(spec)
    key_actor, key_critic, key_temperature = jax.random.split(key, 3)
    inputs = (obs,) if spec.discrete else (obs, action)
    critic = networks.critic.init(key_critic, *inputs)
    return State(
        step=jnp.int32(0),
        actor=learner(networks.optimizer, networks.actor.init(key_actor, obs)),
        critic=learner(networks.optimizer, critic),
        temperature=learner(networks.optimizer, networks.temperature.init(key_temperature)),
        target=critic,
        normalizer=moments.zeros(spec.obs) if config.normalize_obs else None,
    )


def alpha(networks: Like, state: Like) -> Array:
    """The temperature. []"""
    return jnp.exp(networks.temperature.apply(state.temperature.params))


def soft_target(networks: Like, config: Like, state: Like, batch: Transition, key: Key) -> Array:
    """r + gamma (min_i Q'_i(s', a') - alpha log pi(a'|s')), Eq. 3 and 5. [B]"""
    chex.assert_equal_shape([batch.reward, batch.discount])
    policy = networks.actor.apply(state.actor.params, batch.next_obs)
    action, log_prob = policy.sample_and_log_prob(key)
    value = networks.critic.apply(state.target, batch.next_obs, action).min(0)
    if config.backup_entropy:
        value = value - alpha(networks, state) * log_prob
    return config.reward_scale * batch.reward + config.gamma * batch.discount * value


def critic_loss(
    params: Params, networks: Like, batch: Transition, target: Array
) -> tuple[Array, Metrics]:
    """Squared error of every critic, summed over the ensemble, Eq. 5 without its 1/2."""
    return td_loss(networks.critic.apply(params, batch.obs, batch.action), batch, target)


def td_loss(q: Array, batch: Transition, target: Array) -> tuple[Array, Metrics]:
    """`critic_loss` from the critics' values `q` `[E, B]` of the batch."""
    chex.assert_rank([target, batch.reward], 1)
    error = q - target[None]
    loss = losses.mean(jnp.square(error).sum(0), batch.weight)
    return loss, {"critic_loss": loss, "td_error": jnp.abs(error).mean(), "q": q.mean()}


def actor_loss(
    params: Params,
    networks: Like,
    batch: Transition,
    critic: Params,
    temperature: Array,
    key: Key,
) -> tuple[Array, Metrics]:
    """E[alpha log pi(a|s) - min_i Q_i(s, a)] with a reparameterised action, Eq. 7."""
    action, log_prob = networks.actor.apply(params, batch.obs).sample_and_log_prob(key)
    q = networks.critic.apply(critic, batch.obs, action).min(0)
    chex.assert_equal_shape([q, log_prob])
    loss = losses.mean(temperature * log_prob - q, batch.weight)
    return loss, {"actor_loss": loss, "entropy": losses.mean(-log_prob, batch.weight)}


def temperature_loss(
    params: Params, networks: Like, config: Like, excess_entropy: Array
) -> tuple[Array, Metrics]:
    """alpha (entropy - target), Eq. 18 (J1), or with log alpha in alpha's place (J2)."""
    log_alpha = networks.temperature.apply(params)
    scale = jnp.exp(log_alpha) if config.temperature_loss == "J1" else log_alpha
    loss = scale * excess_entropy
    return loss, {"temperature_loss": loss, "temperature": jnp.exp(log_alpha)}


def improve(
    networks: Like,
    config: Like,
    state: Like,
    batch: Transition,
    key: Key,
    loss: Callable[..., tuple[Array, Metrics]] = actor_loss,
    critic: Params | None = None,
) -> tuple[Any, Metrics]:
    """Move actor, temperature and target after a critic that has already moved.

    The actor minimises `loss` under `critic`, which is the new one unless given.
    """
    actor, metrics = descend(
        networks.optimizer,
        loss,
        state.actor,
        networks,
        batch,
        state.critic.params if critic is None else critic,
        alpha(networks, state),
        key,
    )
    state = state._replace(
        step=state.step + 1,
        actor=actor,
        target=optax.incremental_update(state.critic.params, state.target, config.tau),
    )
    excess = metrics["entropy"] - config.target_entropy * batch.action.shape[-1]
    state, more = adapt(networks, config, state, excess)
    return state, metrics | more


def adapt(networks: Like, config: Like, state: Like, excess_entropy: Array) -> tuple[Any, Metrics]:
    """Move the temperature, where it is learned."""
    if not config.learn_temperature:
        return state, {}
    temperature, metrics = descend(
        networks.optimizer, temperature_loss, state.temperature, networks, config, excess_entropy
    )
    return state._replace(temperature=temperature), metrics


def update(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> tuple[State, Metrics]:
    """One gradient step of everything, on `batch` `[B]`."""
    seen = moments.update(state.normalizer, batch.obs)
    batch = moments.normalize_transitions(state.normalizer, batch)
    target = soft_target(networks, config, state, batch, jax.random.fold_in(key, TARGET))
    critic, metrics = descend(
        networks.optimizer, critic_loss, state.critic, networks, batch, target
    )
    state = state._replace(critic=critic)
    state, more = improve(networks, config, state, batch, jax.random.fold_in(key, ACTOR))
    return state._replace(normalizer=seen), metrics | more


def act(networks: Like, config: Like, state: Like, obs: PyTree, key: Key | None = None) -> Array:
    """Actions `[B, A]` in (-1, 1): the mode, or a sample where a key is given."""
    del config
    obs = moments.normalize(state.normalizer, obs)
    policy = networks.actor.apply(state.actor.params, obs)
    return policy.mode() if key is None else policy.sample(key)


def build(spec: Spec, config: Like) -> Networks:
    """The paper's networks: two hidden layers of ReLU in every one."""
    dtype, outputs = config.dtype, 2 * spec.action.shape[-1]
    actor = nets.MLP((*config.hidden, outputs), dtype=dtype)
    critic = partial(nets.MLP, (*config.hidden, 1), dtype=dtype)
    return Networks(
        actor=nets.TanhGaussianActor(nets.encoder(spec, config.actor_keys), actor),
        critic=nets.Critic(nets.encoder(spec, config.critic_keys), critic, config.critics),
        temperature=nets.Scalar(jnp.log(config.temperature)),
    )


def check(config: Like) -> None:
    """Raise `UserError` on a setting of SAC or an agent like it that is out of range."""
    check_range("gamma", config.gamma, 0, 1)
    check_range("tau", config.tau, 0, 1)
    # From log 0 a learned temperature could not move.
    check_range("temperature", config.temperature, 1e-12 if config.learn_temperature else 0)


def make(spec: Spec, config: Config = Config(), networks: Networks | None = None) -> Agent:
    """SAC for continuous actions.

    Raises:
      UserError: the task has discrete actions, or a setting is out of range.
    """
    check_config(config)
    check_continuous("sac", spec.num_actions)
    check(config)
    check_range("critics", config.critics, 1)
    networks = networks or build(spec, config)
    networks = optimizers.unless_given(
        networks, optimizer=optax.adam(config.learning_rate, eps=config.adam_eps)
    )
    return Agent(
        init=partial(init, networks, spec, config),
        update=partial(update, networks, config),
        act=partial(act, networks, config),
    )
