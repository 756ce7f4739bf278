"""Soft Actor-Critic for discrete actions (Christodoulou, 2019; arXiv:1910.07207).

Every expectation over actions is exact, so no loss draws one and `update` ignores its key. The
target entropy is a share of the largest, log(num_actions) nats. The paper's 0.98 is nearly uniform:
where such play fails, as on CartPole, the temperature grows without bound, and 0.3 learns. The rest
is SAC's, order of an update included, and so are State and Networks, whose critic takes
observations alone and has an output per action: obs -> [E, B, num_actions].
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import chex
import jax.numpy as jnp
import optax

from jaxrl import networks as nets
from jaxrl.agents import sac
from jaxrl.distributions import Categorical
from jaxrl.errors import UserError, check_config, check_range
from jaxrl.ops import losses, moments, optimizers
from jaxrl.types import Agent, Array, Key, Metrics, Params, Spec, Transition, descend

PROGRESS = "td_error"


@dataclass(frozen=True)
class Config:
    """The paper's settings, with the networks of SAC for observations that are vectors."""

    gamma: float = 0.99  # discount per step
    tau: float = 0.005  # share of the new critic in its target, per update
    learning_rate: float = 3e-4  # Adam, of actor, critics and temperature
    adam_eps: float = 1e-8
    hidden: tuple[int, ...] = (256, 256)  # units per layer, of actor and critics
    critics: int = 2  # size of the ensemble whose minimum is taken
    target_entropy: float = 0.98  # share of log(num_actions)
    temperature: float = 1.0  # alpha at the start, or throughout
    learn_temperature: bool = True
    temperature_loss: Literal["J1", "J2"] = "J1"  # as in sac
    reward_scale: float = 1.0  # multiplies rewards, never the entropy
    normalize_obs: bool = False  # by running statistics of the sampled batches
    actor_keys: tuple[str, ...] = ()  # entries of a dict observation; empty reads all
    critic_keys: tuple[str, ...] = ()
    dtype: str | None = None  # what networks compute in; None is the parameters' type


State = sac.State
Networks = sac.Networks
init = sac.init


def soft_value(policy: Categorical, q: Array, temperature: Array) -> Array:
    """pi(s)^T (Q(s) - alpha log pi(s)) of `q` `[B, num_actions]`, Eq. 10. [B]"""
    chex.assert_equal_shape([policy.logits, q])
    log_probs = policy.log_probs()
    return (jnp.exp(log_probs) * (q - temperature * log_probs)).sum(-1)


def soft_target(networks: Networks, config: Config, state: State, batch: Transition) -> Array:
    """r + gamma V'(s') with the minimum of the target critics. [B]"""
    chex.assert_equal_shape([batch.reward, batch.discount])
    policy = networks.actor.apply(state.actor.params, batch.next_obs)
    q = networks.critic.apply(state.target, batch.next_obs).min(0)
    value = soft_value(policy, q, sac.alpha(networks, state))
    return config.reward_scale * batch.reward + config.gamma * batch.discount * value


def critic_loss(
    params: Params, networks: Networks, batch: Transition, target: Array
) -> tuple[Array, Metrics]:
    """Squared error at the actions taken, summed over the ensemble."""
    chex.assert_rank(batch.action, 1)
    q = networks.critic.apply(params, batch.obs)  # [E, B, num_actions]
    taken = jnp.take_along_axis(q, batch.action[None, :, None], -1)[..., 0]
    return sac.td_loss(taken, batch, target)


def actor_loss(
    params: Params,
    networks: Networks,
    config: Config,
    batch: Transition,
    critic: Params,
    temperature: Array,
) -> tuple[Array, Metrics]:
    """E[pi(s)^T (alpha log pi(s) - min_i Q_i(s))], Eq. 12, and the entropy beyond its target."""
    policy = networks.actor.apply(params, batch.obs)
    q = networks.critic.apply(critic, batch.obs).min(0)
    loss = -losses.mean(soft_value(policy, q, temperature), batch.weight)
    entropy = losses.mean(policy.entropy(), batch.weight)
    excess = entropy - config.target_entropy * jnp.log(q.shape[-1])
    return loss, {"actor_loss": loss, "entropy": entropy, "excess_entropy": excess}


def improve(
    networks: Networks, config: Config, state: State, batch: Transition
) -> tuple[State, Metrics]:
    """Move actor, temperature (Eq. 11) and target after a critic that has already moved."""
    temperature, critic = sac.alpha(networks, state), state.critic.params
    actor, metrics = descend(
        networks.optimizer, actor_loss, state.actor, networks, config, batch, critic, temperature
    )
    target = optax.incremental_update(critic, state.target, config.tau)
    state = state._replace(step=state.step + 1, actor=actor, target=target)
    state, more = sac.adapt(networks, config, state, metrics["excess_entropy"])
    return state, metrics | more


def update(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> tuple[State, Metrics]:
    """One gradient step of everything, on `batch` `[B]` with actions in [0, num_actions)."""
    del key
    seen = moments.update(state.normalizer, batch.obs)
    batch = moments.normalize_transitions(state.normalizer, batch)
    target = soft_target(networks, config, state, batch)
    critic, metrics = descend(
        networks.optimizer, critic_loss, state.critic, networks, batch, target
    )
    state, more = improve(networks, config, state._replace(critic=critic), batch)
    return state._replace(normalizer=seen), metrics | more


act = sac.act  # the likeliest action, or a sample where a key is given


def build(spec: Spec, config: Config) -> Networks:
    """Two hidden layers of ReLU in every network."""
    mlp = partial(nets.MLP, (*config.hidden, spec.num_actions), dtype=config.dtype)
    return Networks(
        actor=nets.CategoricalActor(nets.encoder(spec, config.actor_keys), mlp()),
        critic=nets.Critic(nets.encoder(spec, config.critic_keys), mlp, config.critics),
        temperature=nets.Scalar(jnp.log(config.temperature)),
    )


def make(spec: Spec, config: Config = Config(), networks: Networks | None = None) -> Agent:
    """SAC for discrete actions.

    Raises:
      UserError: the task has continuous actions, or a setting is out of range.
    """
    check_config(config)
    if not spec.discrete:
        raise UserError(f"sac_discrete needs discrete actions; this task has {spec.action.shape}")
    sac.check(config)
    check_range("critics", config.critics, 1)
    check_range("target_entropy", config.target_entropy, 0, 1)
    networks = networks or build(spec, config)
    networks = optimizers.unless_given(
        networks, optimizer=optax.adam(config.learning_rate, eps=config.adam_eps)
    )
    return Agent(
        init=partial(init, networks, spec, config),
        update=partial(update, networks, config),
        act=partial(act, networks, config),
    )
