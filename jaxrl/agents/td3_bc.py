"""TD3+BC (Fujimoto and Gu, 2021; arXiv:2106.06860): TD3 with cloning added to the actor's loss.

As in the authors' code, the first update moves the critics alone; on every second one the actor
moves too, and only then do both targets. lambda is a statistic of the whole batch. Observations
are normalised by a transform of the dataset. The regulariser is a hook: replace it with
`build(spec, config)._replace(regularizer=...)`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxrl import networks as nets
from jaxrl.agents import bc, sac
from jaxrl.errors import check_config, check_continuous, check_range
from jaxrl.ops import losses, optimizers
from jaxrl.ops.noise import normal
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
TARGET, REGULARIZER = range(2)  # names of the update's random draws


@dataclass(frozen=True)
class Config:
    """Settings of the paper's Table 3; noises are for actions in [-1, 1]."""

    gamma: float = 0.99  # discount per step
    tau: float = 0.005  # share of the new parameters in their targets, per actor update
    learning_rate: float = 3e-4  # Adam, of actor and critics
    adam_eps: float = 1e-8
    hidden: tuple[int, ...] = (256, 256)  # units per layer, of actor and critics
    critics: int = 2  # size of the ensemble whose minimum is the target
    alpha: float = 2.5  # weight of the value against the regulariser; 0 clones
    delay: int = 2  # critic updates per actor update
    target_noise: float = 0.2  # standard deviation of the noise on the target's action
    noise_clip: float = 0.5  # bound of that noise
    explore_noise: float = 0.1  # standard deviation of the noise on sampled actions
    actor_keys: tuple[str, ...] = ()  # entries of a dict observation; empty reads all
    critic_keys: tuple[str, ...] = ()
    dtype: str | None = None  # what networks compute in; None is the parameters' type


class State(NamedTuple):
    """Everything that learns."""

    step: Array  # [] int32, updates done
    actor: Learner
    critic: Learner
    target_actor: Params
    target_critic: Params


class Networks(NamedTuple):
    """Modules, regulariser and optimiser, for a user to replace; `make` adds one if none is."""

    actor: Any  # obs -> distribution
    critic: Any  # obs, action -> [E, B]
    regularizer: Any = bc.squared_error  # params, dist, batch, key -> loss, metrics
    optimizer: optax.GradientTransformation | None = None


def init(networks: Networks, spec: Spec, key: Key) -> State:
    """The first state."""
    obs, action = nets.dummy(spec)
    key_actor, key_critic = jax.random.split(key)
    actor = networks.actor.init(key_actor, obs)
    critic = networks.critic.init(key_critic, obs, action)
    return State(
        step=jnp.int32(0),
        actor=learner(networks.optimizer, actor),
        critic=learner(networks.optimizer, critic),
        target_actor=actor,
        target_critic=critic,
    )


def noisy(action: Array, scale: float | Array, clip: float | Array, key: Key) -> Array:
    """`action` plus normal noise cut at `clip`, kept in [-1, 1]. [B, A]"""
    noise = scale * normal(key, action.shape, action.dtype)
    return jnp.clip(action + jnp.clip(noise, -clip, clip), -1, 1)


def smoothed_target(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> Array:
    """r + gamma min_i Q'_i(s', pi'(s') + noise), TD3's target. [B]"""
    chex.assert_equal_shape([batch.reward, batch.discount])
    action = networks.actor.apply(state.target_actor, batch.next_obs).mode()
    action = noisy(action, config.target_noise, config.noise_clip, key)
    value = networks.critic.apply(state.target_critic, batch.next_obs, action).min(0)
    return batch.reward + config.gamma * batch.discount * value


def actor_loss(
    params: Params,
    networks: Networks,
    config: Config,
    batch: Transition,
    critic: Params,
    key: Key,
) -> tuple[Array, Metrics]:
    """-lambda Q_1(s, pi(s)) + regulariser, with lambda = alpha / mean |Q_1|, Eq. 3 and 5."""
    policy = networks.actor.apply(params, batch.obs)
    q = networks.critic.apply(critic, batch.obs, policy.mode())[0]
    chex.assert_equal_shape([q, batch.reward])
    scale = config.alpha / jax.lax.stop_gradient(losses.mean(jnp.abs(q), batch.weight))
    penalty, metrics = networks.regularizer(params, policy, batch, key)
    loss = penalty - scale * losses.mean(q, batch.weight)
    return loss, metrics | {"actor_loss": loss, "lambda": scale}


def improve(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> tuple[State, Metrics]:
    """Move the actor under the new critic, and then both targets."""
    actor, metrics = descend(
        networks.optimizer,
        actor_loss,
        state.actor,
        networks,
        config,
        batch,
        state.critic.params,
        key,
    )
    new, old = (actor.params, state.critic.params), (state.target_actor, state.target_critic)
    target_actor, target_critic = optax.incremental_update(new, old, config.tau)
    state = state._replace(actor=actor, target_actor=target_actor, target_critic=target_critic)
    return state, metrics


def delayed_improve(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> tuple[State, Metrics]:
    """`improve` on every `delay`-th update.

    Its metrics are 0 on the others and `delay` times their value when it runs, so that averages
    over many updates are right.
    """
    shapes = jax.eval_shape(partial(improve, networks, config), state, batch, key)[1]

    def move(state: State) -> tuple[State, Metrics]:
        state, metrics = improve(networks, config, state, batch, key)
        return state, jax.tree.map(lambda x: config.delay * x, metrics)

    def rest(state: State) -> tuple[State, Metrics]:
        return state, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    return jax.lax.cond((state.step + 1) % config.delay == 0, move, rest, state)


def update(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> tuple[State, Metrics]:
    """One gradient step of the critics on `batch` `[B]`, and of the actor when it is due."""
    target = smoothed_target(networks, config, state, batch, jax.random.fold_in(key, TARGET))
    critic, metrics = descend(
        networks.optimizer, sac.critic_loss, state.critic, networks, batch, target
    )
    state = state._replace(critic=critic)
    key = jax.random.fold_in(key, REGULARIZER)
    state, more = delayed_improve(networks, config, state, batch, key)
    return state._replace(step=state.step + 1), metrics | more


def act(
    networks: Networks, config: Config, state: State, obs: PyTree, key: Key | None = None
) -> Array:
    """Actions `[B, A]` in [-1, 1], with exploration noise where a key is given."""
    action = networks.actor.apply(state.actor.params, obs).mode()
    return action if key is None else noisy(action, config.explore_noise, jnp.inf, key)


def build(spec: Spec, config: Config) -> Networks:
    """The paper's networks: two hidden layers of ReLU in each."""
    actor = nets.MLP((*config.hidden, spec.action.shape[-1]), dtype=config.dtype)
    critic = partial(nets.MLP, (*config.hidden, 1), dtype=config.dtype)
    return Networks(
        actor=nets.DeterministicActor(nets.encoder(spec, config.actor_keys), actor),
        critic=nets.Critic(nets.encoder(spec, config.critic_keys), critic, config.critics),
    )


def make(spec: Spec, config: Config = Config(), networks: Networks | None = None) -> Agent:
    """TD3+BC for continuous actions.

    Raises:
      UserError: the task has discrete actions, or a setting is out of range.
    """
    check_config(config)
    check_continuous("td3_bc", spec.num_actions)
    check_range("gamma", config.gamma, 0, 1)
    check_range("tau", config.tau, 0, 1)
    check_range("alpha", config.alpha, 0)
    check_range("delay", config.delay, 1)
    networks = networks or build(spec, config)
    networks = optimizers.unless_given(
        networks, optimizer=optax.adam(config.learning_rate, eps=config.adam_eps)
    )
    return Agent(
        init=partial(init, networks, spec),
        update=partial(update, networks, config),
        act=partial(act, networks, config),
    )
