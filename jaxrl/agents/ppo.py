"""Proximal Policy Optimisation with a clipped surrogate (Schulman et al., 2017; arXiv:1707.06347).

Conventions that differ between codebases, and ours: a time limit bootstraps from the value of the
true successor (`truncation_as_termination` restores the published habit); advantages are estimated
once per update and standardised per minibatch over all devices (ddof 0); one optimiser moves actor
and critic, whose gradients are clipped together. A batch is a rollout `[T, N]` of raw observations
and of the actions that `act` returned: log-probabilities and values are recomputed with the
parameters and the normaliser that acted, so the first ratio is 1. Continuous actions are unbounded
samples: the environment clips them, or squashes them (`envs.wrappers.squash`) where `squash` is on.
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
from jaxrl.distributions import Gaussian, TanhGaussian
from jaxrl.errors import check_config, check_divides, check_range
from jaxrl.ops import losses, minibatches, moments, optimizers, returns
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

PROGRESS = "value_error"
SHUFFLE, ENTROPY = range(2)  # names of an epoch's random draws


@dataclass(frozen=True)
class Config:
    """Settings that reproduce the paper's MuJoCo scores, where both normalisers are on as well."""

    gamma: float = 0.99  # discount per step
    gae_lambda: float = 0.95
    learning_rate: float = 3e-4  # Adam, of actor and critic together
    total_updates: int = 0  # updates over which the learning rate falls to 0; 0 keeps it constant
    adam_eps: float = 1e-5
    max_grad_norm: float | None = 0.5  # of actor and critic together
    epochs: int = 10  # passes over a rollout
    minibatches: int = 32  # optimiser steps per pass
    clip: float = 0.2  # epsilon, how far the ratio may move
    value_clip: float | None = 0.2  # how far values may move, in units of return
    value_cost: float = 0.5  # c_1, of half the squared error
    entropy_cost: float = 0.0  # c_2
    normalize_advantages: bool = True
    target_kl: float | None = None  # no further epoch once the last minibatch exceeds it, in nats
    truncation_as_termination: bool = False  # treat time limits as the end of the MDP
    reward_scale: float = 1.0
    normalize_obs: bool = False  # by running statistics of the rollouts
    squash: bool = False  # actions are tanh of the sample, with a state-dependent deviation
    hidden: tuple[int, ...] = (64, 64)  # units per layer
    critic_hidden: tuple[int, ...] = ()  # empty takes `hidden`
    activation: Literal["tanh", "relu", "swish"] = "tanh"
    actor_keys: tuple[str, ...] = ()  # entries of a dict observation; empty reads all
    critic_keys: tuple[str, ...] = ()
    blocks: int = 1  # the run's fixed blocks, inside which a rollout is shuffled
    dtype: str | None = None  # what networks compute in; None is the parameters' type


class ActorCritic(NamedTuple):
    """Parameters that one optimiser moves."""

    actor: Params
    critic: Params


class State(NamedTuple):
    """Everything that learns."""

    step: Array  # [] int32, updates done
    learner: Learner  # of an ActorCritic
    normalizer: moments.Moments | None


class Networks(NamedTuple):
    """Modules and the optimiser, which a user may replace; `make` adds one where none is."""

    actor: Any  # obs -> distribution
    critic: Any  # obs -> [...]
    optimizer: Callable[[Array], optax.GradientTransformation] | None = None  # of updates done


class Samples(NamedTuple):
    """A rollout as the loss sees it: `[T, N]`, then `[D, T N / D]` in blocks, then `[B]`."""

    obs: PyTree  # [..., *obs_shape], normalised
    action: Array  # [..., A] or [...]
    log_prob: Array  # [...], of the policy that acted
    value: Array  # [...], of the critic at that time
    advantage: Array  # [...], standardised in minibatches
    target: Array  # [...], lambda return
    weight: Array | None  # [...]


def init(networks: Networks, spec: Spec, config: Config, key: Key) -> State:
    """The first state."""
    obs, _ = nets.dummy(spec)
    key_actor, key_critic = jax.random.split(key)
    params = ActorCritic(networks.actor.init(key_actor, obs), networks.critic.init(key_critic, obs))
    return State(
        step=jnp.int32(0),
        learner=learner(networks.optimizer(jnp.int32(0)), params),
        normalizer=moments.zeros(spec.obs) if config.normalize_obs else None,
    )


def raw(policy: Any) -> Any:
    """The distribution of what `act` returns: before tanh, whose slope cancels in the ratio."""
    return Gaussian(*policy) if isinstance(policy, TanhGaussian) else policy


def prepare(networks: Networks, config: Config, state: State, batch: Transition) -> Samples:
    """Log-probabilities, values and advantages by the parameters that acted, Eq. 11. [T, N]"""
    chex.assert_rank([batch.reward, batch.discount, batch.last], 2)
    obs, next_obs = (moments.normalize(state.normalizer, x) for x in (batch.obs, batch.next_obs))
    actor, critic = state.learner.params
    discount = batch.discount
    if config.truncation_as_termination:
        discount = discount * (1 - batch.last)
    value, next_value = (networks.critic.apply(critic, x) for x in (obs, next_obs))
    estimate = partial(returns.advantages, gamma=config.gamma, gae_lambda=config.gae_lambda)
    reward = config.reward_scale * batch.reward
    advantage = estimate(reward, discount, batch.last, value, next_value)
    log_prob = raw(networks.actor.apply(actor, obs)).log_prob(batch.action)
    target = advantage + value
    return Samples(obs, batch.action, log_prob, value, advantage, target, batch.weight)


def surrogate(ratio: Array, advantage: Array, clip: float) -> Array:
    """min(ratio A, clip(ratio, 1 - epsilon, 1 + epsilon) A), Eq. 7, to be maximised. [B]"""
    chex.assert_equal_shape([ratio, advantage])
    return jnp.minimum(ratio * advantage, ratio.clip(1 - clip, 1 + clip) * advantage)


def value_errors(value: Array, old: Array, target: Array, clip: float | None) -> Array:
    """Half the squared error, or the larger of it and that of a value kept near the old. [B]"""
    chex.assert_equal_shape([value, old, target])
    errors = jnp.square(value - target)
    if clip is not None:
        near = old + (value - old).clip(-clip, clip)
        errors = jnp.maximum(errors, jnp.square(near - target))
    return 0.5 * errors


def joint_loss(
    params: ActorCritic, networks: Networks, config: Config, batch: Samples, key: Key
) -> tuple[Array, Metrics]:
    """-surrogate + c_1 value error - c_2 entropy, Eq. 9 with its sign turned."""
    chex.assert_rank([batch.log_prob, batch.value, batch.advantage, batch.target], 1)
    mean = partial(losses.mean, weight=batch.weight)
    policy = networks.actor.apply(params.actor, batch.obs)
    log_ratio = raw(policy).log_prob(batch.action) - batch.log_prob
    ratio = jnp.exp(log_ratio)
    value = networks.critic.apply(params.critic, batch.obs)
    squashed = isinstance(policy, TanhGaussian)  # its entropy is estimated from one sample
    metrics = {
        "policy_loss": -mean(surrogate(ratio, batch.advantage, config.clip)),
        "value_loss": mean(value_errors(value, batch.value, batch.target, config.value_clip)),
        "value_error": mean(jnp.abs(value - batch.target)),
        "entropy": mean(policy.entropy(key) if squashed else policy.entropy()),
        "kl": mean(ratio - 1 - log_ratio),
        "clip_fraction": mean((jnp.abs(ratio - 1) > config.clip).astype(ratio.dtype)),
    }
    critic_term = config.value_cost * metrics["value_loss"]
    return metrics["policy_loss"] + critic_term - config.entropy_cost * metrics["entropy"], metrics


def standardized(batches: Samples) -> Samples:
    """Minibatches `[M, B]` whose advantages have mean zero and deviation one in each of them.

    All at once, before the first is learned from: a mesh then reduces twice, not twice for each.
    """
    advantage = jax.vmap(losses.standardize)(batches.advantage, batches.weight)
    return batches._replace(advantage=advantage)


def epoch(
    networks: Networks,
    config: Config,
    optimizer: optax.GradientTransformation,
    samples: Samples,
    carry: tuple[Learner, Array],
    key: Key,
) -> tuple[tuple[Learner, Array], tuple[Metrics, Array]]:
    """One pass over the rollout, without effect once an earlier one moved the policy too far."""
    before, going = carry
    key_entropy = jax.random.fold_in(key, ENTROPY)

    def one(learner: Learner, item: tuple[Array, Samples]) -> tuple[Learner, Metrics]:
        key_item = jax.random.fold_in(key_entropy, item[0])
        return descend(optimizer, joint_loss, learner, networks, config, item[1], key_item)

    batches = minibatches.shuffle(samples, config.minibatches, jax.random.fold_in(key, SHUFFLE))
    if config.normalize_advantages:
        batches = standardized(batches)
    after, metrics = jax.lax.scan(one, before, (jnp.arange(config.minibatches), batches))
    if config.target_kl is None:
        return (after, going), (metrics, going)
    after = jax.tree.map(lambda new, old: jnp.where(going, new, old), after, before)
    return (after, going & (metrics["kl"][-1] <= config.target_kl)), (metrics, going)


def update(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> tuple[State, Metrics]:
    """All epochs over one rollout `[T, N]`; metrics are means over the optimiser steps taken.

    Raises:
      UserError: the rollout does not split into blocks and minibatches.
    """
    chex.assert_rank(batch.reward, 2)
    steps, envs = batch.reward.shape
    check_divides("blocks", config.blocks, envs, "environments")
    rows = steps * envs // config.blocks
    check_divides("minibatches", config.minibatches, rows, "samples (the rollout of a block)")
    samples = minibatches.in_blocks(prepare(networks, config, state, batch), config.blocks)
    one = partial(epoch, networks, config, networks.optimizer(state.step), samples)
    (learner, _), (metrics, taken) = jax.lax.scan(
        lambda carry, i: one(carry, jax.random.fold_in(key, i)),
        (state.learner, jnp.array(True)),
        jnp.arange(config.epochs),
    )
    metrics = {name: (x.mean(1) * taken).sum() / taken.sum() for name, x in metrics.items()}
    seen = moments.update(state.normalizer, batch.obs)
    return State(state.step + 1, learner, seen), metrics


def act(
    networks: Networks, config: Config, state: State, obs: PyTree, key: Key | None = None
) -> Array:
    """Actions `[B, A]`, unbounded, or `[B]`: the mode, or a sample where a key is given."""
    del config
    obs = moments.normalize(state.normalizer, obs)
    policy = raw(networks.actor.apply(state.learner.params.actor, obs))
    return policy.mode() if key is None else policy.sample(key)


def build(spec: Spec, config: Config) -> Networks:
    """Separate tanh networks, orthogonal at the start, with a policy head that is nearly zero."""
    outputs = spec.num_actions or spec.action.shape[-1] * (2 if config.squash else 1)

    def mlp(hidden: tuple[int, ...], outputs: int, gain: float) -> nets.Module:
        return nets.MLP(
            (*hidden, outputs),
            getattr(jax.nn, config.activation),
            kernel_init=nets.orthogonal(jnp.sqrt(2.0)),
            final_init=nets.orthogonal(gain),
            dtype=config.dtype,
        )

    actor = nets.TanhGaussianActor if config.squash else nets.GaussianActor
    actor = nets.CategoricalActor if spec.discrete else actor
    value = mlp(config.critic_hidden or config.hidden, 1, 1.0)
    return Networks(
        actor=actor(nets.encoder(spec, config.actor_keys), mlp(config.hidden, outputs, 0.01)),
        critic=nets.Value(nets.encoder(spec, config.critic_keys), value),
    )


def make_optimizer(config: Config, step: Array) -> optax.GradientTransformation:
    """Joint clipping, then Adam whose learning rate depends on the updates done."""
    rate = config.learning_rate
    if config.total_updates:
        rate = rate * jnp.maximum(1 - step / config.total_updates, 0)
    adam = optax.adam(rate, eps=config.adam_eps)
    return optimizers.clipped(adam, config.max_grad_norm)


def make(spec: Spec, config: Config = Config(), networks: Networks | None = None) -> Agent:
    """PPO for continuous or discrete actions.

    Raises:
      UserError: a setting is out of range.
    """
    check_config(config)
    for name in ("gamma", "gae_lambda"):
        check_range(name, getattr(config, name), 0, 1)
    for name in ("epochs", "minibatches", "blocks"):
        check_range(name, getattr(config, name), 1)
    for name in ("clip", "value_clip"):
        check_range(name, getattr(config, name), 1e-6)
    networks = networks or build(spec, config)
    networks = optimizers.unless_given(networks, optimizer=partial(make_optimizer, config))
    return Agent(
        init=partial(init, networks, spec, config),
        update=partial(update, networks, config),
        act=partial(act, networks, config),
    )
