"""Diffusion Policy (Chi et al., 2023; arXiv:2303.04137): cloning by a generative model of chunks.

A chunk of `horizon` actions is drawn given the last `obs_horizon` observations, and
`action_horizon` of them are executed, from the one that belongs to the newest observation on:
numbers To - 1 to To - 1 + Ta - 1. The objective is a setting: denoising diffusion as in the paper,
EDM with its few-step samplers as in BESO (Reuss et al., 2023; arXiv:2304.02532), or flow matching.
Goals are dropped from whole samples with probability `goal_dropout`, and `guidance` extrapolates
from the policy without one. The average of the weights acts. There is no mode: without a key one
fixed key is used. `guide` changes the estimate of the chunk, normalised, at every step of a chain.
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
from jaxrl.errors import UserError, check_choice, check_config, check_continuous, check_range
from jaxrl.ops import diffusion, edm, flow, limits, losses, optimizers, sampling
from jaxrl.ops.limits import Ranges
from jaxrl.ops.sampling import Process
from jaxrl.types import (
    Agent,
    Array,
    Key,
    Learner,
    Metrics,
    Params,
    PyTree,
    Segment,
    Spec,
    descend,
    learner,
)

PROGRESS = "denoising_error"
TIME, NOISE, GOAL, DROPOUT, CHAIN = range(5)  # names of random draws
SAMPLERS = {"ddpm": ("ddpm", "ddim"), "edm": ("dpm1", "dpm2m", "heun"), "flow": ("euler",)}

Guide = Callable[[Array, Array, Array, PyTree], Array]  # estimate, x, time, obs -> estimate


@dataclass(frozen=True)
class Config:
    """Settings of the authors' code for low-dimensional observations."""

    objective: Literal["ddpm", "edm", "flow"] = "ddpm"
    prediction: Literal["epsilon", "sample", "v"] = "epsilon"  # of ddpm
    steps: int = 100  # of the diffusion that is learned by ddpm
    sampler: Literal["first", "ddpm", "ddim", "dpm1", "dpm2m", "heun", "euler"] = "first"
    sample_steps: int = 0  # length of a chain; 0: all of ddpm's, 3 of edm's, 10 of flow's
    eta: float = 0.0  # share of DDPM's noise in DDIM
    sigma_data: float = 0.5  # of edm: the deviation of normalised actions
    sigma_min: float = 0.005
    sigma_max: float = 1.0
    obs_horizon: int = 2  # To, observations that condition a chunk
    horizon: int = 16  # Tp, actions of a chunk
    action_horizon: int = 8  # Ta, actions executed of it
    network: Literal["unet", "transformer", "residual", "mlp"] = "unet"
    hidden: tuple[int, ...] = (256, 512, 1024)  # channels per level, or width of each layer
    embedding: int = 256  # size of the time's embedding, but for the transformer
    heads: int = 4  # of the transformer
    dropout: float | None = None  # of the transformer and the residual network
    learning_rate: float = 1e-4  # AdamW
    adam_b1: float = 0.95
    adam_eps: float = 1e-8
    weight_decay: float = 1e-6
    warmup_steps: int = 500  # updates over which the learning rate rises from 0
    decay_steps: int = 0  # updates after which it has fallen to 0 by a cosine; 0 keeps it
    ema_power: float = 0.75  # of the weights' average, whose decay is 1 - n^-power
    ema_max: float = 0.9999
    goal_size: int = 0  # elements of `batch.goal`; 0 is without goals
    goal: tuple[float, ...] = ()  # to head for where `act` is given none, in the data's units
    goal_dropout: float = 0.1  # share of samples that are trained without their goal
    guidance: float | None = None  # of the goal: 1 is the conditional policy, as is None
    actor_keys: tuple[str, ...] = ()  # entries of a dict observation; empty reads all
    dtype: str | None = None  # what networks compute in; None is the parameters' type


class State(NamedTuple):
    """Everything that learns, and the ranges of the data, which do not."""

    step: Array  # [] int32, updates done
    actor: Learner
    average: Params  # of actor.params; what acts
    ranges: Ranges


class Networks(NamedTuple):
    """The module, the process and the guide, which a user may replace, and the optimiser."""

    actor: Any  # x [B, Tp, A], time [B], obs [B, To, ...], goal -> [B, Tp, A]
    process: Process
    guide: Guide | None = None
    optimizer: optax.GradientTransformation | None = None


def init(networks: Networks, spec: Spec, config: Config, data: Ranges | None, key: Key) -> State:
    """The first state."""
    obs, action = nets.dummy(spec)
    obs = jax.tree.map(lambda x: jnp.repeat(x[:, None], config.obs_horizon, 1), obs)
    x = jnp.repeat(action[:, None], config.horizon, 1)
    goal = jnp.zeros((1, config.goal_size)) if config.goal_size else None
    params = networks.actor.init(key, x, jnp.zeros(1, x.dtype), obs, goal)
    known = data or Ranges(limits.unit(spec.obs), limits.unit(spec.action))
    if config.goal_size and known.goal is None:
        known = known._replace(goal=limits.unit(jax.ShapeDtypeStruct((config.goal_size,), float)))
    known = jax.tree.map(jnp.asarray, known)
    return State(jnp.int32(0), learner(networks.optimizer, params), params, known)


def prepared(config: Config, state: State, batch: Segment) -> Segment:
    """The first To observations and all actions of windows `[B, Tp]`, normalised."""
    chex.assert_axis_dimension(batch.action, 1, config.horizon)
    obs = jax.tree.map(lambda x: x[:, : config.obs_horizon], batch.obs)
    return batch._replace(
        obs=limits.normalize(state.ranges.obs, obs),
        action=limits.normalize(state.ranges.action, batch.action),
        goal=prepared_goal(config, state, batch.goal),
    )


def prepared_goal(config: Config, state: State, goal: PyTree) -> Array | None:
    """Goals `[B, G]`, normalised, or nothing where the policy has none.

    Raises:
      UserError: a goal of another shape than the policy was made for.
    """
    found = () if goal is None else jnp.shape(goal)[1:]
    expected = (config.goal_size,) if config.goal_size else ()
    if found != expected:
        raise UserError(f"goal: found shape {found} per sample, expected {expected} (goal_size)")
    return limits.normalize(state.ranges.goal, goal) if config.goal_size else None


def denoising_loss(
    params: Params, networks: Networks, config: Config, batch: Segment, key: Key
) -> tuple[Array, Metrics]:
    """E |prediction - target|^2 at random times, Eq. 5, one time for each chunk."""
    keys = [jax.random.fold_in(key, name) for name in (TIME, NOISE, GOAL, DROPOUT)]
    data, goal = batch.action, batch.goal
    times = networks.process.times(keys[0], len(data))
    noise = jax.random.normal(keys[1], data.shape, data.dtype)
    if goal is not None:
        goal = sampling.dropped(goal, config.goal_dropout, keys[2])

    def network(x: Array, time: Array) -> Array:
        return networks.actor.apply(params, x, time, batch.obs, goal, rngs={"dropout": keys[3]})

    error = sampling.error(networks.process, network, data, noise, times)
    loss = losses.mean(error, batch.weight)
    return loss, {"denoising_loss": loss, "denoising_error": jnp.sqrt(error.mean())}


def update(
    networks: Networks, config: Config, state: State, batch: Segment, key: Key
) -> tuple[State, Metrics]:
    """One gradient step on windows `[B, Tp]`, and then one of the average."""
    batch = prepared(config, state, batch)
    actor, metrics = descend(
        networks.optimizer, denoising_loss, state.actor, networks, config, batch, key
    )
    decay = diffusion.ema_decay(state.step, config.ema_power, config.ema_max)
    average = optax.incremental_update(actor.params, state.average, 1 - decay)
    metrics = metrics | {"average_decay": decay}
    return State(state.step + 1, actor, average, state.ranges), metrics


def conditional(
    networks: Networks, config: Config, params: Params, obs: PyTree, goal: Array | None
) -> sampling.Network:
    """The network as a function of x and time, with classifier-free guidance where it is asked."""

    def network(x: Array, time: Array) -> Array:
        predicted = networks.actor.apply(params, x, time, obs, goal)
        if goal is None or config.guidance is None:
            return predicted
        without = networks.actor.apply(params, x, time, obs, jnp.zeros_like(goal))
        return sampling.toward(predicted, without, config.guidance)

    return network


def act(
    networks: Networks,
    config: Config,
    state: State,
    obs: PyTree,
    key: Key | None = None,
    goal: Array | None = None,
) -> Array:
    """Actions to execute next `[B, Ta, A]` in [-1, 1], given observations `[B, To, ...]`.

    They head for `goal` `[B, G]`, or for that of the settings where it is None.
    """
    key = jax.random.key(0) if key is None else key
    obs, low = limits.normalize(state.ranges.obs, obs), state.ranges.action.low
    shape = (len(jax.tree.leaves(obs)[0]), config.horizon, *low.shape)
    noise = jax.random.normal(jax.random.fold_in(key, NOISE), shape, low.dtype)
    if goal is None and config.goal:
        goal = jnp.broadcast_to(jnp.array(config.goal)[None], (shape[0], len(config.goal)))
    goal = prepared_goal(config, state, goal)
    network = conditional(networks, config, state.average, obs, goal)

    def guide(clean: Array, x: Array, time: Array) -> Array:
        return clean if networks.guide is None else networks.guide(clean, x, time, obs)

    chain = jax.random.fold_in(key, CHAIN)
    chunk = sampling.sample(networks.process, network, noise, chain, guide)
    first = config.obs_horizon - 1
    chunk = chunk[:, first : first + config.action_horizon]
    return jnp.clip(limits.unnormalize(state.ranges.action, chunk), -1, 1)


def learning_rate(config: Config) -> Any:
    """The rate, or a schedule of it: up from 0, and down to 0 by a cosine."""
    if config.decay_steps:
        return optax.warmup_cosine_decay_schedule(
            0.0, config.learning_rate, config.warmup_steps, config.decay_steps
        )
    if config.warmup_steps:
        return optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return config.learning_rate


def build_process(config: Config) -> Process:
    """The process of the objective."""
    sampler: Any = SAMPLERS[config.objective][0] if config.sampler == "first" else config.sampler
    if config.objective == "flow":
        return flow.process(config.sample_steps or 10)
    if config.objective == "edm":
        levels = config.sigma_data, config.sigma_min, config.sigma_max
        return edm.process(*levels, sampler, config.sample_steps or 3)
    beta = diffusion.cosine(config.steps)
    return diffusion.process(beta, config.prediction, sampler, config.sample_steps, config.eta)


def build(spec: Spec, config: Config) -> Networks:
    """The paper's U-Net, or another denoiser."""
    sizes = config.hidden, config.embedding, config.heads
    torso = nets.denoiser_torso(config.network, *sizes, config.dropout, config.dtype)
    encode = nets.encoder(spec, config.actor_keys)
    return Networks(nets.Denoiser(encode, torso), build_process(config))


def check(spec: Spec, config: Config) -> None:
    """Raise `UserError` on settings that cannot work, by their name."""
    check_continuous("diffusion_policy", spec.num_actions)
    lows = {"steps": 1, "obs_horizon": 1, "action_horizon": 1, "goal_size": 0, "warmup_steps": 0}
    for name, low in (lows | {"sigma_data": 1e-6, "sigma_min": 1e-6}).items():
        check_range(name, getattr(config, name), low)
    for name, high in {"goal_dropout": 1, "eta": 1, "adam_b1": 1 - 1e-6}.items():
        check_range(name, getattr(config, name), 0, high)
    check_range("sigma_max - sigma_min", config.sigma_max - config.sigma_min, 1e-6)
    if config.decay_steps:
        check_range("decay_steps", config.decay_steps, config.warmup_steps + 1)
    if config.network == "transformer" and config.hidden:  # whose width also embeds the time
        check_range("hidden", config.hidden[0], 4)
    if config.goal and len(config.goal) != config.goal_size:
        raise UserError(f"goal: found {len(config.goal)} numbers, expected {config.goal_size}")
    needed = config.obs_horizon - 1 + config.action_horizon
    if needed > config.horizon:
        meaning = "obs_horizon - 1 + action_horizon"
        raise UserError(f"horizon: found {config.horizon}, expected at least {meaning} = {needed}")
    longest = config.steps if config.objective == "ddpm" else float("inf")
    check_range("sample_steps", config.sample_steps, 0, longest)
    check_choice("sampler", config.sampler, ("first", *SAMPLERS[config.objective]))
    halvings = 2 ** (len(config.hidden) - 1)
    if config.network == "unet" and config.horizon % halvings:
        raise UserError(f"horizon: found {config.horizon}, expected a multiple of {halvings}")


def make(
    spec: Spec,
    config: Config = Config(),
    networks: Networks | None = None,
    data: Ranges | None = None,
) -> Agent:
    """Diffusion Policy for continuous actions, from windows `[B, Tp]` (`Segment`).

    Args:
      data: ranges of observations and actions in the dataset, kept in the state; absent, both are
        taken to be [-1, 1] already.

    Raises:
      UserError: the task has discrete actions, or settings that do not fit each other.
    """
    check_config(config)
    check(spec, config)
    networks = networks or build(spec, config)
    optimizer = optax.adamw(
        learning_rate(config), config.adam_b1, eps=config.adam_eps, weight_decay=config.weight_decay
    )
    networks = optimizers.unless_given(networks, optimizer=optimizer)
    return Agent(
        init=partial(init, networks, spec, config, data),
        update=partial(update, networks, config),
        act=partial(act, networks, config),
    )
