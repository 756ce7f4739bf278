"""Diffusion-QL (Wang et al., 2022; arXiv:2208.06193): a diffusion policy that climbs a critic.

The actor's loss is the denoising loss plus -eta Q of an action drawn by the whole chain, with the
gradient through all of its steps. As in the authors' code: the critics move first; the value that
is climbed is one critic's, chosen by a coin, divided by the mean |Q| of the other; targets use the
average of the actor, which stays what it was at initialisation for the first `average_start`
updates. The authors pick one of 50 draws by a softmax of their values (`policies.reranked` with
`scorer`); `act` is a single draw.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxrl import networks as nets
from jaxrl.agents import sac
from jaxrl.errors import check_config, check_continuous, check_range
from jaxrl.ops import diffusion, losses, optimizers, rows, sampling
from jaxrl.ops.sampling import Process
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
TARGET, TIME, NOISE, DROPOUT, START, CHAIN, COIN = range(7)  # names of random draws

Like = Any  # Networks of this file, or of an agent with the same fields and more


@dataclass(frozen=True)
class Config:
    """Settings of the authors' code for locomotion; `eta` and `max_norm` differ by task."""

    gamma: float = 0.99  # discount per step
    tau: float = 0.005  # share of the new critic in its target, per update
    learning_rate: float = 3e-4  # Adam, of actor and critics
    adam_eps: float = 1e-8
    decay_steps: int = 0  # updates over which both rates fall to 0 by a cosine; 0 keeps them
    max_norm: float | None = None  # of gradients, of actor and critics each
    hidden: tuple[int, ...] = (256, 256, 256)  # units per layer, of actor and critics
    embedding: int = 16  # size of the time's embedding
    steps: int = 5  # of the diffusion
    eta: float = 1.0  # weight of the value against the denoising loss; 0 clones
    backup_actions: int = 1  # drawn at s'; each critic takes the best (10 on some mazes)
    average_every: int = 5  # updates between those of the actor's average
    average_start: int = 1_000  # updates before which the average stays at initialisation
    average_tau: float = 0.005  # share of the new actor in its average
    candidates: int = 50  # draws in every state, of which one is executed
    temperature: float = 1.0  # of the softmax of their values, by which it is picked
    actor_keys: tuple[str, ...] = ()  # entries of a dict observation; empty reads all
    critic_keys: tuple[str, ...] = ()
    dtype: str | None = None  # what networks compute in; None is the parameters' type


class State(NamedTuple):
    """Everything that learns."""

    step: Array  # [] int32, updates done
    actor: Learner
    critic: Learner
    average: Params  # of actor.params
    target: Params  # slow copy of critic.params


class Networks(NamedTuple):
    """Modules, process and optimiser, which a user may replace; `make` adds one where none is."""

    actor: Any  # x [B, A], time [B], obs -> [B, A]
    critic: Any  # obs, action -> [2, B]
    process: Process
    optimizer: optax.GradientTransformation | None = None


def init(networks: Networks, spec: Spec, key: Key) -> State:
    """The first state."""
    obs, action = nets.dummy(spec)
    key_actor, key_critic = jax.random.split(key)
    actor = networks.actor.init(key_actor, action, jnp.zeros(1, action.dtype), obs)
    critic = networks.critic.init(key_critic, obs, action)
    return State(
        step=jnp.int32(0),
        actor=learner(networks.optimizer, actor),
        critic=learner(networks.optimizer, critic),
        average=actor,
        target=critic,
    )


def draw(networks: Like, params: Params, obs: PyTree, like: Array, key: Key) -> Array:
    """Actions of the shape of `like` by the whole chain, in [-1, 1]. [B, A]"""

    def network(x: Array, time: Array) -> Array:
        return networks.actor.apply(params, x, time, obs)

    noise = jax.random.normal(jax.random.fold_in(key, START), like.shape, like.dtype)
    chain = jax.random.fold_in(key, CHAIN)
    return sampling.sample(networks.process, network, noise, chain).clip(-1, 1)


def denoising_loss(
    params: Params, networks: Like, batch: Transition, key: Key
) -> tuple[Array, Metrics]:
    """E |eps - eps(x_t, t, s)|^2, Eq. 2; an imitation loss, which honours `batch.weight`."""
    keys = [jax.random.fold_in(key, name) for name in (TIME, NOISE, DROPOUT)]

    def network(x: Array, time: Array) -> Array:
        return networks.actor.apply(params, x, time, batch.obs, rngs={"dropout": keys[2]})

    times = networks.process.times(keys[0], len(batch.action))
    noise = jax.random.normal(keys[1], batch.action.shape, batch.action.dtype)
    error = sampling.error(networks.process, network, batch.action, noise, times)
    loss = losses.mean(error, batch.weight)
    return loss, {"imitation_loss": loss, "denoising_error": jnp.sqrt(error.mean())}


def critic_target(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> Array:
    """r + gamma min_i max_a' Q'_i(s', a') for actions a' of the averaged actor, Eq. 4. [B]"""
    chex.assert_equal_shape([batch.reward, batch.discount])
    n = config.backup_actions
    obs = rows.flat(rows.repeat(batch.next_obs, n))
    like = jnp.repeat(batch.action, n, 0)
    action = draw(networks, state.average, obs, like, key)
    q = networks.critic.apply(state.target, obs, action)
    value = q.reshape(len(q), -1, n).max(-1).min(0)
    return batch.reward + config.gamma * batch.discount * value


def value_loss(q: Array, batch: Transition, coin: Array) -> Array:
    """-mean Q_i / mean |Q_j| for critics i and j in the order that `coin` `[]` says, Eq. 3. []"""
    chex.assert_rank(q, 2)
    climbed, other = jnp.where(coin, q, q[::-1])
    scale = jax.lax.stop_gradient(losses.mean(jnp.abs(other), batch.weight))
    return -losses.mean(climbed, batch.weight) / scale


def actor_loss(
    params: Params,
    networks: Networks,
    config: Config,
    batch: Transition,
    critic: Params,
    key: Key,
) -> tuple[Array, Metrics]:
    """Denoising loss + eta * value loss, Eq. 3."""
    imitation, metrics = denoising_loss(params, networks, batch, key)
    action = draw(networks, params, batch.obs, batch.action, key)
    q = networks.critic.apply(critic, batch.obs, action)
    value = value_loss(q, batch, jax.random.bernoulli(jax.random.fold_in(key, COIN)))
    loss = imitation + config.eta * value
    return loss, metrics | {"actor_loss": loss, "value_loss": value}


def averaged(config: Config, state: State) -> Params:
    """The actor's average, moved at every `average_every`-th update from `average_start` on."""
    due = (state.step >= config.average_start) & (state.step % config.average_every == 0)

    def move() -> Params:
        return optax.incremental_update(state.actor.params, state.average, config.average_tau)

    return jax.lax.cond(due, move, lambda: state.average)


def update(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> tuple[State, Metrics]:
    """One gradient step of critics and actor, on `batch` `[B]`."""
    target = critic_target(networks, config, state, batch, jax.random.fold_in(key, TARGET))
    critic, of_critic = descend(
        networks.optimizer, sac.critic_loss, state.critic, networks, batch, target
    )
    actor, of_actor = descend(
        networks.optimizer,
        actor_loss,
        state.actor,
        networks,
        config,
        batch,
        critic.params,
        key,
    )
    state = state._replace(actor=actor, critic=critic)
    state = state._replace(
        step=state.step + 1,
        average=averaged(config, state),
        target=optax.incremental_update(critic.params, state.target, config.tau),
    )
    return state, of_critic | of_actor


def act(networks: Like, spec: Spec, state: State, obs: PyTree, key: Key | None = None) -> Array:
    """One draw of the actor for each observation, by one fixed key where none is given. [B, A]"""
    return draw_for(networks, spec, state.actor.params, obs, key)


def draw_for(
    networks: Like, spec: Spec, params: Params, obs: PyTree, key: Key | None = None
) -> Array:
    """`draw` without actions to imitate the shape of. [B, A]"""
    _, action = nets.dummy(spec)
    like = jnp.repeat(action, len(jax.tree.leaves(obs)[0]), 0)
    return draw(networks, params, obs, like, jax.random.key(0) if key is None else key)


def score(networks: Like, state: Any, obs: PyTree, action: Array) -> Array:
    """min_i Q'_i(s, a) of the target critics. [B]"""
    return networks.critic.apply(state.target, obs, action).min(0)


def scorer(spec: Spec, config: Config, networks: Networks | None = None) -> Any:
    """`score(state, obs, action)`, by which `policies.reranked` picks among drawn actions."""
    return partial(score, networks or build(spec, config))


def build(spec: Spec, config: Config) -> Networks:
    """The authors' networks: three hidden layers of Mish in each."""
    torso = nets.MLPDenoiser(config.hidden, config.embedding, config.dtype)
    critic = partial(nets.MLP, (*config.hidden, 1), activation=jax.nn.mish, dtype=config.dtype)
    beta = diffusion.variance_preserving(config.steps)
    return Networks(
        actor=nets.Denoiser(nets.encoder(spec, config.actor_keys), torso),
        critic=nets.Critic(nets.encoder(spec, config.critic_keys), critic, 2),
        process=diffusion.process(beta),
    )


def check(spec: Spec, config: Config) -> None:
    """Raise `UserError` on settings that cannot work, by their name."""
    check_continuous("diffusion_ql", spec.num_actions)
    for name in ("gamma", "tau", "average_tau"):
        check_range(name, getattr(config, name), 0, 1)
    for name in ("steps", "backup_actions", "average_every", "candidates"):
        check_range(name, getattr(config, name), 1)
    for name in ("max_norm", "eta", "decay_steps", "average_start", "temperature"):
        check_range(name, getattr(config, name), 0)


def make(spec: Spec, config: Config = Config(), networks: Networks | None = None) -> Agent:
    """Diffusion-QL for continuous actions.

    Raises:
      UserError: the task has discrete actions, or a setting is out of range.
    """
    check_config(config)
    check(spec, config)
    networks = networks or build(spec, config)
    rate = optimizers.cosine(config.learning_rate, config.decay_steps)
    optimizer = optax.adam(rate, eps=config.adam_eps)
    networks = optimizers.unless_given(
        networks, optimizer=optimizers.clipped(optimizer, config.max_norm)
    )
    return Agent(
        init=partial(init, networks, spec),
        update=partial(update, networks, config),
        act=partial(act, networks, spec),
    )
