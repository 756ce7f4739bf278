"""Decision Transformer (Chen et al., 2021; arXiv:2106.01345): acting as sequence modelling.

Imitates the action that followed a return-to-go, the observations and the actions before it. The
backbone is causal attention, or the state spaces of Decision Mamba (Ota, 2024; arXiv:2403.19925),
here with padding that they do not see. Continuous actions are regressed through a tanh, discrete
ones classified. Attention weights are not dropped, unlike in the authors' code.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from jaxrl import networks as nets
from jaxrl.distributions import Categorical, Deterministic
from jaxrl.errors import UserError, check_config, check_range
from jaxrl.ops import losses, optimizers
from jaxrl.types import (
    Agent,
    Array,
    Key,
    Learner,
    Metrics,
    Params,
    Segment,
    Spec,
    descend,
    learner,
)

PROGRESS = "action_error"
DROPOUT = 0  # name of the update's random draw


@dataclass(frozen=True)
class Config:
    """Settings of the authors' code for locomotion."""

    context: int = 20  # steps that the model sees, K
    return_scale: float = 1000.0  # what a return-to-go is divided by
    max_timestep: int = 1000  # later steps of an episode share an embedding
    backbone: Literal["transformer", "mamba"] = "transformer"
    width: int = 128  # features per token
    layers: int = 3
    heads: int = 1  # of the attention
    state: int = 16  # numbers per channel of the state space
    associative: bool = False  # scan the state space in parallel rather than in sequence
    dropout: float | None = 0.1  # share of embeddings and of block outputs dropped in updates
    remat: bool = False  # compute blocks again in the gradient, to save memory
    unroll: bool = False  # write layers out: a tenth faster on CPUs, but longer to compile
    learning_rate: float = 1e-4  # AdamW
    adam_eps: float = 1e-8
    weight_decay: float = 1e-4  # of all parameters, biases and norms included
    warmup: int = 10_000  # updates over which the rate rises to its value
    max_norm: float = 0.25  # of the gradient
    obs_keys: tuple[str, ...] = ()  # entries of a dict observation; empty reads all
    dtype: str | None = None  # what blocks compute in; None is the parameters' type


class State(NamedTuple):
    """Everything that learns."""

    step: Array  # [] int32, updates done
    model: Learner


class Networks(NamedTuple):
    """The module and the optimiser, which a user may replace; `make` adds one where none is."""

    model: Any  # Segment [B, K] -> distributions of the actions, [B, K] of them
    optimizer: optax.GradientTransformation | None = None


def init(networks: Networks, spec: Spec, key: Key) -> State:
    """The first state."""
    model = networks.model.init(key, Segment.empty(spec, 1, 1))
    return State(jnp.int32(0), learner(networks.optimizer, model))


def predict(
    params: Params, networks: Networks, config: Config, segment: Segment, **rngs: Key
) -> Deterministic | Categorical:
    """Distributions of the actions of every step, given what came before them. `[B, K]` of them"""
    scaled = segment._replace(return_to_go=segment.return_to_go / config.return_scale)
    return networks.model.apply(params, scaled, rngs=rngs)


def loss(
    params: Params, networks: Networks, config: Config, batch: Segment, key: Key
) -> tuple[Array, Metrics]:
    """Squared error or cross-entropy, averaged over the steps that are not padding."""
    chex.assert_equal_shape([batch.mask, batch.return_to_go, batch.timestep])
    dist = predict(params, networks, config, batch, dropout=key)
    if isinstance(dist, Categorical):
        error, wrong = -dist.log_prob(batch.action), dist.mode() != batch.action
    else:
        wrong = jnp.abs(dist.mode() - batch.action).mean(-1)
        error = jnp.square(dist.mode() - batch.action).mean(-1)
    value = losses.masked_mean(error, batch.mask, batch.weight)
    off = losses.masked_mean(wrong.astype(error.dtype), batch.mask, batch.weight)
    return value, {"loss": value, "action_error": off, "valid": batch.mask.mean()}


def update(
    networks: Networks, config: Config, state: State, batch: Segment, key: Key
) -> tuple[State, Metrics]:
    """One gradient step on windows `[B, K]`."""
    key = jax.random.fold_in(key, DROPOUT)
    model, metrics = descend(networks.optimizer, loss, state.model, networks, config, batch, key)
    return State(state.step + 1, model), metrics


def act(
    networks: Networks, config: Config, state: State, context: Segment, key: Key | None = None
) -> Array:
    """Actions `[B, A]` or `[B]` for the last step of a context `[B, K]`, whose own is not read.

    The mode, or a sample where a key is given: the same for continuous actions.
    """
    dist = predict(state.model.params, networks, config, context)
    last = jax.tree.map(lambda x: x[:, -1], dist)
    return last.mode() if key is None else last.sample(key)


def build(spec: Spec, config: Config) -> Networks:
    """The model with either backbone: ReLU beside attention, GELU beside state spaces."""
    if config.backbone == "transformer":
        mixer: Any = partial(nets.Attention, config.heads, dtype=config.dtype)
    else:
        mixer = partial(
            nets.Mamba, config.state, associative=config.associative, dtype=config.dtype
        )
    activation = jax.nn.relu if config.backbone == "transformer" else jax.nn.gelu
    size = config.layers, activation, config.dropout, config.remat, config.dtype, config.unroll
    model = nets.TrajectoryModel(
        nets.encoder(spec, config.obs_keys),
        nets.Backbone(mixer, *size),
        config.width,
        spec.num_actions or spec.action.shape[-1],
        spec.discrete,
        config.max_timestep,
        config.dropout,
        config.dtype,
    )
    return Networks(model)


def make(spec: Spec, config: Config = Config(), networks: Networks | None = None) -> Agent:
    """A decision transformer, or Decision Mamba.

    Raises:
      UserError: a setting is out of range, or heads do not divide the width.
    """
    check_config(config)
    for name in ("context", "max_timestep", "width", "layers", "heads", "state"):
        check_range(name, getattr(config, name), 1)
    check_range("return_scale", config.return_scale, 1e-12)
    for name in ("weight_decay", "warmup", "max_norm"):
        check_range(name, getattr(config, name), 0)
    if config.width % config.heads:
        raise UserError(f"heads: found {config.heads}, which does not divide width {config.width}")
    networks = networks or build(spec, config)
    networks = optimizers.unless_given(networks, optimizer=optimizer(config))
    return Agent(
        init=partial(init, networks, spec),
        update=partial(update, networks, config),
        act=partial(act, networks, config),
    )


def optimizer(config: Config) -> optax.GradientTransformation:
    """AdamW behind a clip of the gradient's norm; its rate is lr / warmup at the first update."""

    def rate(count: Array) -> Array:
        return config.learning_rate * jnp.minimum((count + 1) / max(config.warmup, 1), 1)

    adam = optax.adamw(
        rate, eps=config.adam_eps, weight_decay=config.weight_decay, mask=nets.decayed
    )
    return optimizers.clipped(adam, config.max_norm)
