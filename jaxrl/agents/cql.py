"""Conservative Q-Learning, CQL(H) on SAC (Kumar et al., 2020; arXiv:2006.04779).

SAC's functions with a penalty on the critics: a soft maximum of Q over sampled actions minus Q of
the data. Weight 0 is SAC with `temperature_loss="J2"` and `backup_entropy=False`. As in the
authors' code, actions drawn at the next state are valued at the current one, and the squared error
has no 1/2. Scores are of ports that differ in `lagrange`, `backup` and `update_order`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxrl import networks as nets
from jaxrl.agents import bc, sac
from jaxrl.errors import UserError, check_config, check_continuous, check_range
from jaxrl.ops import conservative, losses, optimizers, rows
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
TARGET, ACTOR, UNIFORM, HERE, NEXT = range(5)  # random draws; the first two are SAC's

act = bc.act  # the mode, or a sample


@dataclass(frozen=True)
class Config:
    """Settings that the authors' notes recommend for locomotion; bounds are on the penalty."""

    gamma: float = 0.99  # discount per step
    tau: float = 0.005  # share of the new critic in its target, per update
    learning_rate: float = 3e-4  # Adam, of critics and multiplier
    actor_learning_rate: float = 1e-4  # of actor and temperature
    adam_eps: float = 1e-8
    hidden: tuple[int, ...] = (256, 256, 256)  # units per layer, of actor and critics
    critics: int = 2  # size of the ensemble whose minimum is taken
    weight: float = 5.0  # of the penalty
    actions: int = 10  # sampled per state from each of three sources
    parts: int = 1  # blocks of the batch that samples are valued in; 16 is faster on CPUs
    softness: float = 1.0  # temperature of the soft maximum
    importance: bool = True  # weigh samples by their density (version 3), or not (version 2)
    calibrated: bool = False  # bound the policy's candidates by `return_to_go` (Cal-QL)
    gap_min: float = -float("inf")  # bounds of soft maximum minus Q of the data, per state
    gap_max: float = float("inf")
    next_actions_at: Literal["obs", "next_obs"] = "obs"  # where actions of the next state count
    lagrange: Literal["off", "official", "jaxcql"] = "off"  # jaxcql scales threshold by weight
    threshold: float = 5.0  # what the Lagrange multiplier holds the penalty at
    multiplier: float = 1.0  # the Lagrange multiplier at the start
    backup: Literal["sample", "min_of_max", "max_of_min"] = "sample"  # official, JaxCQL maxima
    backup_entropy: bool = False  # whether the target includes -alpha log pi
    bc_steps: int = 0  # updates in which the actor clones; the authors' script has 40,000
    update_order: Literal["sac", "jacobi"] = "sac"  # jacobi: the actor sees the old critic
    target_entropy: float = -1.0  # nats per action dimension, for actions in [-1, 1]
    temperature: float = 1.0  # alpha at the start, or throughout
    learn_temperature: bool = True
    temperature_loss: Literal["J1", "J2"] = "J2"  # see SAC
    reward_scale: float = 1.0
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
    multiplier: Learner | None  # log of the Lagrange multiplier


class Networks(NamedTuple):
    """Modules and optimisers, which a user may replace; `make` adds optimisers where none are."""

    actor: Any  # obs -> distribution
    critic: Any  # obs, action -> [E, ...]
    temperature: Any  # () -> log alpha
    multiplier: Any  # () -> log of the Lagrange multiplier
    optimizer: optax.GradientTransformation | None = None
    actor_optimizer: optax.GradientTransformation | None = None


class Candidates(NamedTuple):
    """What the penalty compares: M = 3 `actions` samples, and the data's action at the end."""

    obs: PyTree  # [B, M + 1, *obs_shape], where they are valued
    action: Array  # [B, M + 1, A]; the data's once more, so that SAC's gradient keeps its bits
    log_density: Array  # [B, M], of the samples under what they were drawn from


def init(networks: Networks, spec: Spec, config: Config, key: Key) -> State:
    """The first state; what it shares with SAC's is equal on the same key."""
    obs, action = nets.dummy(spec)
    key_actor, key_critic, key_scalars = jax.random.split(key, 3)
    key_temperature, key_multiplier = jax.random.split(key_scalars)
    critic = networks.critic.init(key_critic, obs, action)
    multiplier = networks.multiplier.init(key_multiplier)
    return State(
        step=jnp.int32(0),
        actor=learner(networks.actor_optimizer, networks.actor.init(key_actor, obs)),
        critic=learner(networks.optimizer, critic),
        temperature=learner(networks.actor_optimizer, networks.temperature.init(key_temperature)),
        target=critic,
        multiplier=None if config.lagrange == "off" else learner(networks.optimizer, multiplier),
    )


def values(networks: Networks, params: Params, obs: PyTree, action: Array, parts: int = 1) -> Array:
    """Q of N actions per state, `[B, N, ...]`, as one flat batch. [E, B, N]"""
    return rows.apply(partial(networks.critic.apply, params), obs, action, parts=parts)


def backup(networks: Networks, config: Config, state: State, batch: Transition, key: Key) -> Array:
    """SAC's target, or one that takes the best of several next actions. [B]"""
    if config.backup == "sample":
        return sac.soft_target(networks, config, state, batch, key)
    policy = networks.actor.apply(state.actor.params, batch.next_obs)
    action, log_prob = rows.repeat(policy, config.actions).sample_and_log_prob(key)
    obs = rows.repeat(batch.next_obs, config.actions)
    q = values(networks, state.target, obs, action, config.parts)  # [E, B, N]
    if config.backup == "min_of_max":
        value = conservative.min_of_max(q)
    else:
        value, best = conservative.max_of_min(q)
        cost = sac.alpha(networks, state) * jnp.take_along_axis(log_prob, best[:, None], 1)[:, 0]
        value = value - cost if config.backup_entropy else value
    chex.assert_equal_shape([batch.reward, batch.discount, value])
    return config.reward_scale * batch.reward + config.gamma * batch.discount * value


def propose(
    networks: Networks, config: Config, actor: Params, batch: Transition, key: Key
) -> Candidates:
    """Actions of the uniform distribution, and of the policy at this state and at the next."""
    (b, a), n = batch.action.shape, config.actions
    key_uniform = jax.random.fold_in(key, UNIFORM)
    uniform = jax.random.uniform(key_uniform, (b, n, a), batch.action.dtype, -1.0, 1.0)

    def draw(obs: PyTree, name: int) -> tuple[Array, Array]:
        policy = rows.repeat(networks.actor.apply(actor, obs), n)
        return policy.sample_and_log_prob(jax.random.fold_in(key, name))

    obs = rows.repeat(batch.obs, n)
    at_next = obs if config.next_actions_at == "obs" else rows.repeat(batch.next_obs, n)
    here, log_here = draw(batch.obs, HERE)
    there, log_there = draw(batch.next_obs, NEXT)
    log_uniform = jnp.full((b, n), -a * jnp.log(2.0), log_here.dtype)
    return Candidates(
        obs=jax.tree.map(lambda x, y: jnp.concatenate([x, y, x, x[:, :1]], 1), obs, at_next),
        action=jnp.concatenate([uniform, there, here, batch.action[:, None]], 1),
        log_density=jnp.concatenate([log_uniform, log_there, log_here], 1),
    )


def excess(config: Config, gap: Array) -> Array:
    """The weighted gap, over what a Lagrange multiplier holds it at where there is one."""
    if config.lagrange == "off":
        return config.weight * gap
    scale = config.weight if config.lagrange == "jaxcql" else 1.0
    return config.weight * gap - scale * config.threshold


def gap(
    params: Params, candidates: Candidates, batch: Transition, networks: Networks, config: Config
) -> Array:
    """How far a soft maximum of Q over the samples is above Q of the data, in the mean. []"""
    q = values(networks, params, candidates.obs, candidates.action)  # [E, B, M + 1]
    log_density = candidates.log_density if config.importance else None
    samples = q[..., :-1]
    if config.calibrated:
        samples = conservative.calibrated(samples, batch.return_to_go, config.actions)
    gaps = conservative.gap(samples, q[..., -1], log_density, config.softness)  # [E, B]
    return losses.mean(jnp.clip(gaps, config.gap_min, config.gap_max), batch.weight)


def critic_loss(
    params: Params,
    networks: Networks,
    config: Config,
    batch: Transition,
    target: Array,
    candidates: Candidates,
    multiplier: Array,
) -> tuple[Array, Metrics]:
    """SAC's squared error plus the penalty, summed over the ensemble, Eq. 4."""
    q = networks.critic.apply(params, batch.obs, batch.action)
    loss, metrics = sac.td_loss(q, batch, target)
    of = partial(gap, networks=networks, config=config)
    width = rows.mean(of, params, candidates, batch, parts=config.parts)
    penalty = len(q) * multiplier * excess(config, width)
    return loss + penalty, metrics | {"penalty": penalty, "gap": width}


def lagrange_multiplier(networks: Networks, params: Params | None) -> Array:
    """The multiplier, at most 1e6, or 1 where there is none. []"""
    if params is None:
        return jnp.ones(())
    return jnp.clip(jnp.exp(networks.multiplier.apply(params)), 0, 1e6)


def multiplier_loss(
    params: Params, networks: Networks, config: Config, gap: Array
) -> tuple[Array, Metrics]:
    """Minus the multiplier times the excess: it grows while the gap is too wide."""
    multiplier = lagrange_multiplier(networks, params)
    loss = -multiplier * excess(config, gap)
    return loss, {"multiplier_loss": loss, "multiplier": multiplier}


def cloning_loss(
    params: Params, networks: Networks, batch: Transition, critic: Params, alpha: Array, key: Key
) -> tuple[Array, Metrics]:
    """E[alpha log pi(a'|s) - log pi(a|s)] for a of the data: SAC's loss without its critic."""
    del critic
    policy = networks.actor.apply(params, batch.obs)
    _, log_prob = policy.sample_and_log_prob(key)
    loss = losses.mean(alpha * log_prob - policy.log_prob(batch.action), batch.weight)
    return loss, {"actor_loss": loss, "entropy": losses.mean(-log_prob, batch.weight)}


def evaluate(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> tuple[State, Metrics]:
    """Move the critics, and the Lagrange multiplier where there is one."""
    target = backup(networks, config, state, batch, jax.random.fold_in(key, TARGET))
    candidates = propose(networks, config, state.actor.params, batch, key)
    old = state.multiplier
    price = lagrange_multiplier(networks, old and old.params)
    args = networks, config, batch, target, candidates, price
    critic, metrics = descend(networks.optimizer, critic_loss, state.critic, *args)
    state = state._replace(critic=critic)
    if old is None:
        return state, metrics
    new, more = descend(networks.optimizer, multiplier_loss, old, networks, config, metrics["gap"])
    return state._replace(multiplier=new), metrics | more


def improve(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key, critic: Params
) -> tuple[State, Metrics]:
    """SAC's step of actor, temperature and target, in the first `bc_steps` by cloning."""
    networks = networks._replace(optimizer=networks.actor_optimizer)
    step = partial(sac.improve, networks, config, critic=critic)
    if not config.bc_steps:
        return step(state, batch, key)
    clone = partial(step, loss=cloning_loss)
    return jax.lax.cond(state.step < config.bc_steps, clone, step, state, batch, key)


def update(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> tuple[State, Metrics]:
    """One gradient step of everything, on `batch` `[B]`."""
    new, metrics = evaluate(networks, config, state, batch, key)
    critic = (state if config.update_order == "jacobi" else new).critic.params
    key = jax.random.fold_in(key, ACTOR)
    state, more = improve(networks, config, new, batch, key, critic)
    return state, metrics | more


def build(spec: Spec, config: Config) -> Networks:
    """SAC's networks and the multiplier."""
    actor, critic, temperature, _ = sac.build(spec, config)
    return Networks(actor, critic, temperature, nets.Scalar(jnp.log(config.multiplier)))


def make(spec: Spec, config: Config = Config(), networks: Networks | None = None) -> Agent:
    """CQL for continuous actions.

    Raises:
      UserError: the task has discrete actions, or a setting is out of range.
    """
    check_config(config)
    check_continuous("cql", spec.num_actions)
    if config.backup == "min_of_max" and config.backup_entropy:
        raise UserError("backup_entropy: needs backup sample or max_of_min, found min_of_max")
    sac.check(config)
    lows = {"weight": 0, "actions": 1, "parts": 1, "softness": 1e-6, "multiplier": 1e-12}
    for name, low in lows.items():
        check_range(name, getattr(config, name), low)
    networks = networks or build(spec, config)
    networks = optimizers.unless_given(
        networks,
        optimizer=optax.adam(config.learning_rate, eps=config.adam_eps),
        actor_optimizer=optax.adam(config.actor_learning_rate, eps=config.adam_eps),
    )
    return Agent(
        init=partial(init, networks, spec, config),
        update=partial(update, networks, config),
        act=partial(act, networks, config),
    )
