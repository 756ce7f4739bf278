"""IDQL (Hansen-Estruch et al., 2023; arXiv:2304.10573): IQL's critics over a diffusion policy.

Nothing here learns anew: the update is IQL's, with a denoising loss in the place of its actor's.
With `beta` 0, as the authors run it, that clones the data; otherwise IQL's advantage weights are
applied to it. The policy is a composition too, the best of many draws under the target critics:
`policies.reranked` with `scorer`; `act` is a single draw.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl import networks as nets
from jaxrl.agents import diffusion_ql, iql
from jaxrl.errors import check_config, check_continuous, check_range
from jaxrl.ops import diffusion, optimizers
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
    learner,
)

PROGRESS = "td_error"


@dataclass(frozen=True)
class Config(iql.Config):
    """IQL's settings, of which `hidden` is that of critics and value, and those of the policy."""

    beta: float = 0.0  # inverse temperature of the advantage weights; 0 clones
    dropout: float | None = 0.1  # of the policy
    decay_steps: int = 3_000_000  # updates over which the policy's rate falls to 0; 0 keeps it
    weight_decay: float = 1e-4  # of the policy
    width: int = 256  # units of the policy's residual layers
    blocks: int = 3  # their number
    embedding: int = 128  # size of the time's embedding
    steps: int = 5  # of the diffusion
    average_tau: float = 0.001  # share of the new policy in its average, per update
    candidates: int = 64  # draws in every state, of which one is executed
    temperature: float = 0.0  # of the softmax of their values; 0 takes the best


class State(NamedTuple):
    """Everything that learns."""

    step: Array  # [] int32, updates done
    actor: Learner
    critic: Learner
    value: Learner
    target: Params  # slow copy of critic.params
    average: Params  # of actor.params; what acts


class Networks(NamedTuple):
    """IQL's, with a denoiser as the actor, and the process that it denoises."""

    actor: Any  # x [B, A], time [B], obs -> [B, A]
    critic: Any  # obs, action -> [E, B]
    value: Any  # obs -> [B]
    process: Process
    imitation: Any = None  # params, networks, batch, key -> loss, metrics
    optimizer: optax.GradientTransformation | None = None
    actor_optimizer: optax.GradientTransformation | None = None


def init(networks: Networks, spec: Spec, key: Key) -> State:
    """The first state."""
    obs, action = nets.dummy(spec)
    key_actor, key_critic, key_value = jax.random.split(key, 3)
    actor = networks.actor.init(key_actor, action, jnp.zeros(1, action.dtype), obs)
    critic = networks.critic.init(key_critic, obs, action)
    return State(
        step=jnp.int32(0),
        actor=learner(networks.actor_optimizer, actor),
        critic=learner(networks.optimizer, critic),
        value=learner(networks.optimizer, networks.value.init(key_value, obs)),
        target=critic,
        average=actor,
    )


def update(
    networks: Networks, config: Config, state: State, batch: Transition, key: Key
) -> tuple[State, Metrics]:
    """IQL's update on `batch` `[B]`, and then one of the policy's average."""
    *of_iql, average = state
    same: Any = networks  # it has all the fields of IQL's
    new, metrics = iql.update(same, config, iql.State(*of_iql), batch, key)
    average = optax.incremental_update(new.actor.params, average, config.average_tau)
    return State(*new, average), metrics


def act(networks: Networks, spec: Spec, state: State, obs: PyTree, key: Key | None = None) -> Array:
    """One draw of the policy for each observation, by one fixed key where none is given. [B, A]"""
    return diffusion_ql.draw_for(networks, spec, state.average, obs, key)


def scorer(spec: Spec, config: Config, networks: Networks | None = None) -> Any:
    """`score(state, obs, action)`, by which `policies.reranked` picks among drawn actions."""
    return partial(diffusion_ql.score, networks or build(spec, config))


def build(spec: Spec, config: Config) -> Networks:
    """IQL's critics and value; residual layers with layer norm; a chain that clips x itself."""
    torso = nets.ResidualDenoiser(
        config.width, config.blocks, config.embedding, config.dropout, config.dtype
    )
    of_iql = iql.build(spec, config)
    beta = diffusion.variance_preserving(config.steps)
    return Networks(
        actor=nets.Denoiser(nets.encoder(spec, config.actor_keys), torso),
        critic=of_iql.critic,
        value=of_iql.value,
        process=diffusion.process(beta, sampler="idql"),
        imitation=diffusion_ql.denoising_loss,
    )


def make(spec: Spec, config: Config = Config(), networks: Networks | None = None) -> Agent:
    """IDQL for continuous actions.

    Raises:
      UserError: the task has discrete actions, or a setting is out of range.
    """
    check_config(config)
    check_continuous("idql", spec.num_actions)
    iql.check(config)
    check_range("average_tau", config.average_tau, 0, 1)
    check_range("temperature", config.temperature, 0)
    for name in ("steps", "candidates", "width", "blocks"):
        check_range(name, getattr(config, name), 1)
    networks = networks or build(spec, config)
    rate = optimizers.cosine(config.learning_rate, config.decay_steps)
    networks = optimizers.unless_given(
        networks,
        optimizer=optax.adam(config.learning_rate, eps=config.adam_eps),
        actor_optimizer=optax.adamw(rate, eps=config.adam_eps, weight_decay=config.weight_decay),
    )
    return Agent(
        init=partial(init, networks, spec),
        update=partial(update, networks, config),
        act=partial(act, networks, spec),
    )
