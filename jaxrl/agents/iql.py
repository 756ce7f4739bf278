"""Implicit Q-Learning (Kostrikov et al., 2021; arXiv:2110.06169).

Never asks for the value of an action outside the data. The order of an update is the authors':
value (of the target critics), actor (with the target critics and the new value), critics (with
the new value), target. `beta` is an inverse temperature, 3 for locomotion and 10 for mazes. The
policy's mean is a tanh, its density that of a plain Gaussian. The actor's loss is a hook: any
imitation loss that honours `batch.weight` becomes an advantage-weighted one.
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
from jaxrl.types import (
    Agent,
    Array,
    Key,
    Learner,
    Metrics,
    Params,
    Spec,
    Transition,
    descend,
    learner,
)

PROGRESS = "td_error"
ACTOR = bc.ACTOR  # name of the update's random draw

act = bc.act  # the mean, or a clipped sample


@dataclass(frozen=True)
class Config:
    """Settings of the authors' code for locomotion."""

    gamma: float = 0.99  # discount per step
    tau: float = 0.005  # share of the new critic in its target, per update
    learning_rate: float = 3e-4  # Adam, of actor, critics and value
    adam_eps: float = 1e-8
    hidden: tuple[int, ...] = (256, 256)  # units per layer, of every network
    critics: int = 2  # size of the ensemble whose minimum is taken
    expectile: float = 0.7  # 0.5 evaluates the behaviour, 1 takes its best action
    beta: float = 3.0  # inverse temperature of the advantage weights; 0 clones
    max_weight: float = 100.0  # bound of those weights
    decay_steps: int = 0  # updates over which the actor's rate falls to 0 by a cosine; 0 keeps it
    dropout: float | None = None  # share of the actor's hidden units dropped in updates
    actor_keys: tuple[str, ...] = ()  # entries of a dict observation; empty reads all
    critic_keys: tuple[str, ...] = ()  # of critics and value
    dtype: str | None = None  # what networks compute in; None is the parameters' type


class State(NamedTuple):
    """Everything that learns."""

    step: Array  # [] int32, updates done
    actor: Learner
    critic: Learner
    value: Learner
    target: Params  # slow copy of critic.params


class Networks(NamedTuple):
    """Modules, the actor's loss and optimisers, for a user to replace; `make` adds the missing."""

    actor: Any  # obs -> distribution
    critic: Any  # obs, action -> [E, B]
    value: Any  # obs -> [B]
    imitation: Any = partial(bc.imitate, bc.negative_log_likelihood)  # honours batch.weight
    optimizer: optax.GradientTransformation | None = None
    actor_optimizer: optax.GradientTransformation | None = None


def init(networks: Networks, spec: Spec, key: Key) -> State:
    """The first state."""
    obs, action = nets.dummy(spec)
    key_actor, key_critic, key_value = jax.random.split(key, 3)
    critic = networks.critic.init(key_critic, obs, action)
    return State(
        step=jnp.int32(0),
        actor=learner(networks.actor_optimizer, networks.actor.init(key_actor, obs)),
        critic=learner(networks.optimizer, critic),
        value=learner(networks.optimizer, networks.value.init(key_value, obs)),
        target=critic,
    )


def value_loss(
    params: Params, networks: Networks, config: Config, batch: Transition, q: Array
) -> tuple[Array, Metrics]:
    """Expectile regression of V(s) on `q`, the target critics' minimum at (s, a), Eq. 5."""
    value = networks.value.apply(params, batch.obs)
    chex.assert_rank([q, value], 1)
    loss = losses.mean(losses.expectile(q - value, config.expectile), batch.weight)
    return loss, {"value_loss": loss, "value": value.mean()}


def weighted(
    networks: Networks, config: Config, value: Params, batch: Transition, q: Array
) -> tuple[Transition, Metrics]:
    """The batch with every row weighted by exp(beta (q - V(s))), bounded, Eq. 7."""
    advantage = q - networks.value.apply(value, batch.obs)
    chex.assert_rank([q, advantage], 1)
    weight = losses.advantage_weight(advantage, config.beta, config.max_weight)
    metrics = {"advantage": advantage.mean(), "advantage_weight": weight.mean()}
    weight = weight if batch.weight is None else weight * batch.weight
    return batch._replace(weight=weight), metrics


def critic_target(networks: Networks, config: Config, value: Params, batch: Transition) -> Array:
    """r + gamma V(s'), with the value that is trained and no slow copy of it, Eq. 6. [B]"""
    chex.assert_equal_shape([batch.reward, batch.discount])
    next_value = networks.value.apply(value, batch.next_obs)
    return batch.reward + config.gamma * batch.discount * next_value


def update(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> tuple[State, Metrics]:
    """One gradient step of everything, on `batch` `[B]`."""
    q = networks.critic.apply(state.target, batch.obs, batch.action).min(0)
    value, of_value = descend(
        networks.optimizer, value_loss, state.value, networks, config, batch, q
    )
    rows, of_weight = weighted(networks, config, value.params, batch, q)
    key = jax.random.fold_in(key, ACTOR)
    actor, of_actor = descend(
        networks.actor_optimizer, networks.imitation, state.actor, networks, rows, key
    )
    target = critic_target(networks, config, value.params, batch)
    critic, of_critic = descend(
        networks.optimizer, sac.critic_loss, state.critic, networks, batch, target
    )
    slow = optax.incremental_update(critic.params, state.target, config.tau)
    state = State(state.step + 1, actor, critic, value, slow)
    return state, of_value | of_weight | of_actor | of_critic


def build(spec: Spec, config: Config) -> Networks:
    """The paper's networks: two hidden layers of ReLU in each, orthogonal throughout."""
    init = nets.orthogonal(2**0.5)
    torso = partial(nets.MLP, (*config.hidden, 1), kernel_init=init, dtype=config.dtype)
    encode = nets.encoder(spec, config.critic_keys)
    return Networks(
        actor=bc.gaussian_actor(spec, config),
        critic=nets.Critic(encode, torso, config.critics),
        value=nets.Value(encode, torso()),
    )


def check(config: Config) -> None:
    """Raise `UserError` on a setting that is out of range, by its name."""
    for name in ("gamma", "tau", "expectile"):
        check_range(name, getattr(config, name), 0, 1)
    check_range("beta", config.beta, 0)
    check_range("max_weight", config.max_weight, 1e-6)
    check_range("decay_steps", config.decay_steps, 0)


def make(spec: Spec, config: Config = Config(), networks: Networks | None = None) -> Agent:
    """IQL for continuous actions.

    Raises:
      UserError: the task has discrete actions, or a setting is out of range.
    """
    check_config(config)
    check_continuous("iql", spec.num_actions)
    check(config)
    networks = networks or build(spec, config)
    rate = optimizers.cosine(config.learning_rate, config.decay_steps)
    networks = optimizers.unless_given(
        networks,
        optimizer=optax.adam(config.learning_rate, eps=config.adam_eps),
        actor_optimizer=optax.adam(rate, eps=config.adam_eps),
    )
    return Agent(
        init=partial(init, networks, spec),
        update=partial(update, networks, config),
        act=partial(act, networks, config),
    )
