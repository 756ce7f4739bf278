"""Distributional Soft Actor-Critic with three refinements, DSAC-T (Duan et al., 2023;
arXiv:2310.05858), and its ablation DSAC v1 (arXiv:2001.02811).

A critic is a normal over soft returns, with mean Q and standard deviation sigma. Refinements:
expected value substitution (Q learns from a mean, only sigma from a sampled return), twin value
distributions (the one with the lower mean gives both), variance-based gradient adjustment (clip
boundary and gradient scale follow the batch mean of sigma). Without all three it is v1.

Conventions that differ between codebases, and ours: the paper's loss; with the authors' since 2025
("huber2025") sigma settles at 0.68 of the true one. Entropies are of actions in [-1, 1]. All
gradients of an update are taken at the old parameters.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxrl import networks as nets
from jaxrl.agents import sac
from jaxrl.errors import check_config, check_continuous, check_range
from jaxrl.ops import distributional, losses, moments, optimizers
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

PROGRESS = "td_error"  # the critics' loss is a surrogate: its gradient means something, not itself
TARGET, ACTOR = range(2)  # names of the update's random draws
BIAS = 0.1  # keeps divisions by sigma finite
REACH = 3.0  # standard deviations, where sampled returns and their errors are clipped


@dataclass(frozen=True)
class Config:
    """Settings of the authors' MuJoCo runs, with entropies in nats per action dimension."""

    gamma: float = 0.99  # discount per step
    tau: float = 0.005  # share of the new in targets, and in the running mean of sigma
    learning_rate: float = 1e-4  # Adam, of actor and critics
    temperature_learning_rate: float = 3e-4
    adam_eps: float = 1e-8
    hidden: tuple[int, ...] = (256, 256, 256)  # units per layer, of actor and critics
    delay: int = 2  # critic updates per update of actor, temperature and targets
    critic_loss: Literal["paper", "huber2025"] = "paper"
    expected_value: bool = True  # refinement 1; otherwise Q learns from sampled returns
    twin: bool = True  # refinement 2; otherwise there is one critic
    adaptive: bool = True  # refinement 3; otherwise `td_bound` clips and nothing scales
    td_bound: float = 20.0  # clip boundary of v1, in units of return
    target_entropy: float = -1.0  # nats per action dimension, for actions in [-1, 1]
    temperature: float = math.e  # alpha at the start, or throughout
    learn_temperature: bool = True
    temperature_loss: Literal["J1", "J2"] = "J2"  # as in sac
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
    target_actor: Params  # slow copies
    target_critic: Params
    spread: Array  # [E], running mean of sigma over batches; 0 before the first
    normalizer: moments.Moments | None


class Networks(NamedTuple):
    """Modules and optimisers, which a user may replace; `make` adds optimisers where none are."""

    actor: Any  # obs -> distribution
    critic: Any  # obs, action -> mean [E, B], standard deviation [E, B]
    temperature: Any  # () -> log alpha
    optimizer: optax.GradientTransformation | None = None
    temperature_optimizer: optax.GradientTransformation | None = None


class Mean(NamedTuple):
    """A distributional critic as SAC's actor sees it, without sigma: obs, action -> [E, B]."""

    critic: Any

    def apply(self, params: Params, obs: PyTree, action: Array) -> Array:
        return self.critic.apply(params, obs, action)[0]


class Target(NamedTuple):
    """What both critics learn from."""

    mean: Array  # [B], y_q, for Q
    sample: Array  # [B], y_z, for sigma


def init(networks: Networks, spec: Spec, config: Config, key: Key) -> State:
    """The first state."""
    obs, action = nets.dummy(spec)
    key_actor, key_critic, key_temperature = jax.random.split(key, 3)
    actor = networks.actor.init(key_actor, obs)
    critic = networks.critic.init(key_critic, obs, action)
    temperature = networks.temperature.init(key_temperature)
    mean, _ = networks.critic.apply(critic, obs, action)
    return State(
        step=jnp.int32(0),
        actor=learner(networks.optimizer, actor),
        critic=learner(networks.optimizer, critic),
        temperature=learner(networks.temperature_optimizer, temperature),
        target_actor=actor,
        target_critic=critic,
        spread=jnp.zeros(mean.shape[0]),
        normalizer=moments.zeros(spec.obs) if config.normalize_obs else None,
    )


def soft_target(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> tuple[Target, Metrics]:
    """r + gamma (Z'(s', a') - alpha log pi'(a'|s')), once with the mean of Z' and once sampled."""
    chex.assert_equal_shape([batch.reward, batch.discount])
    key_action, key_return = jax.random.split(key)
    policy = networks.actor.apply(state.target_actor, batch.next_obs)
    action, log_prob = policy.sample_and_log_prob(key_action)
    mean, std = distributional.lowest(
        *networks.critic.apply(state.target_critic, batch.next_obs, action)
    )
    noise = jax.random.normal(key_return, mean.shape, mean.dtype).clip(-REACH, REACH)
    temperature = sac.alpha(networks, state)

    def backup(value: Array) -> Array:
        value = value - temperature * log_prob
        return config.reward_scale * batch.reward + config.gamma * batch.discount * value

    sample = backup(mean + noise * std)
    target = Target(backup(mean) if config.expected_value else sample, sample)
    return target, {"entropy": losses.mean(-log_prob, batch.weight), "temperature": temperature}


def critic_gradients(
    config: Config, mean: Array, std: Array, target: Target, spread: Array
) -> tuple[Array, Array]:
    """dL/dQ and dL/dsigma of every sample and critic; `spread` sets clip and scale. [E, B] each"""
    huber = config.critic_loss == "huber2025"
    scale, bound = jnp.ones_like(spread), jnp.full_like(spread, config.td_bound)
    if config.adaptive:
        scale, bound = spread**2 + (0 if huber else BIAS), REACH * spread
    clipped = jnp.clip(target.sample[None] - mean, -bound[:, None], bound[:, None])
    gradients = distributional.huber_gradients if huber else distributional.paper_gradients
    return gradients(std, target.mean[None] - mean, clipped, scale[:, None], BIAS)


def critic_loss(
    params: Params,
    networks: Networks,
    config: Config,
    batch: Transition,
    target: Target,
    spread: Array,
) -> tuple[Array, Metrics]:
    """A surrogate with the gradients above, summed over critics; `spread` `[E]` moves first."""
    chex.assert_rank([target.mean, target.sample, batch.reward], 1)
    mean, std = networks.critic.apply(params, batch.obs, batch.action)  # [E, B]
    fixed_mean, fixed_std = jax.lax.stop_gradient((mean, std))
    spread = distributional.running_spread(spread, fixed_std, batch.weight, config.tau)
    d_mean, d_std = critic_gradients(config, fixed_mean, fixed_std, target, spread)
    loss = losses.mean((d_mean * mean + d_std * std).sum(0), batch.weight)
    td_error = jnp.abs(mean - target.mean[None]).mean()
    return loss, {"td_error": td_error, "q": mean.mean(), "q_std": std.mean(), "spread": spread}


def improve(
    networks: Networks, config: Config, state: State, critic: Learner, batch: Transition, key: Key
) -> State:
    """Move actor and temperature by gradients at `state`, then targets towards the new `critic`."""
    actor, metrics = descend(
        networks.optimizer,
        sac.actor_loss,
        state.actor,
        networks._replace(critic=Mean(networks.critic)),
        batch,
        state.critic.params,
        sac.alpha(networks, state),
        key,
    )
    new, old = (actor.params, critic.params), (state.target_actor, state.target_critic)
    target_actor, target_critic = optax.incremental_update(new, old, config.tau)
    state = state._replace(actor=actor, target_actor=target_actor, target_critic=target_critic)
    excess = metrics["entropy"] - config.target_entropy * batch.action.shape[-1]
    networks = networks._replace(optimizer=networks.temperature_optimizer)
    return sac.adapt(networks, config, state, excess)[0]


def update(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> tuple[State, Metrics]:
    """One gradient step of the critics, and of the rest at every `delay`-th, on `batch` `[B]`.

    The metrics `entropy` and `temperature` are those of the target: known at every step.
    """
    seen = moments.update(state.normalizer, batch.obs)
    batch = moments.normalize_transitions(state.normalizer, batch)
    target, metrics = soft_target(networks, config, state, batch, jax.random.fold_in(key, TARGET))
    critic, more = descend(
        networks.optimizer, critic_loss, state.critic, networks, config, batch, target, state.spread
    )
    state = jax.lax.cond(
        state.step % config.delay == 0,
        partial(improve, networks, config),
        lambda state, *_: state,
        *(state, critic, batch, jax.random.fold_in(key, ACTOR)),
    )
    state = state._replace(step=state.step + 1, critic=critic, spread=more.pop("spread"))
    return state._replace(normalizer=seen), metrics | more


act = sac.act  # the mode, or a sample where a key is given


def value_distribution(
    networks: Networks, config: Config, state: State, obs: PyTree, action: Array
) -> tuple[Array, Array]:
    """Mean and standard deviation of the soft return of `action` `[B, A]`. [B] each

    Of the twins, the one with the lower mean. `networks` is what `build` or the user made.
    """
    del config
    obs = moments.normalize(state.normalizer, obs)
    return distributional.lowest(*networks.critic.apply(state.critic.params, obs, action))


def risk_averse(
    networks: Networks, config: Config, state: State, obs: PyTree, actions: Array, caution: float
) -> Array:
    """Of `actions` `[N, B, A]`, those with the highest mean - caution * std. [B, A]

    From the policy: `jax.vmap(partial(agent.act, state, obs))(jax.random.split(key, N))`.
    """
    mean, std = jax.vmap(partial(value_distribution, networks, config, state, obs))(actions)
    best = (mean - caution * std).argmax(0)
    return jnp.take_along_axis(actions, best[None, :, None], 0)[0]


def build(spec: Spec, config: Config) -> Networks:
    """The authors' networks: three hidden layers of GELU in every one; policy std below e^0.5."""
    gelu = partial(jax.nn.gelu, approximate=False)
    mlp = partial(nets.MLP, activation=gelu, dtype=config.dtype)
    actor = mlp((*config.hidden, 2 * spec.action.shape[-1]))
    encode, critic = nets.encoder(spec, config.critic_keys), partial(mlp, (*config.hidden, 2))
    return Networks(
        actor=nets.TanhGaussianActor(nets.encoder(spec, config.actor_keys), actor, log_std_max=0.5),
        critic=nets.GaussianCritic(nets.Critic(encode, critic, 2 if config.twin else 1)),
        temperature=nets.Scalar(jnp.log(config.temperature)),
    )


def make(spec: Spec, config: Config = Config(), networks: Networks | None = None) -> Agent:
    """DSAC-T for continuous actions.

    Raises:
      UserError: the task has discrete actions, or a setting is out of range.
    """
    check_config(config)
    check_continuous("dsac", spec.num_actions)
    sac.check(config)
    check_range("delay", config.delay, 1)
    networks = networks or build(spec, config)
    networks = optimizers.unless_given(
        networks,
        optimizer=optax.adam(config.learning_rate, eps=config.adam_eps),
        temperature_optimizer=optax.adam(config.temperature_learning_rate, eps=config.adam_eps),
    )
    return Agent(
        init=partial(init, networks, spec, config),
        update=partial(update, networks, config),
        act=partial(act, networks, config),
    )
