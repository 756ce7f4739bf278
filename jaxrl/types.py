"""The protocol: what an agent is, and what passes between agents, environments and loops."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Array = jax.Array
Key = jax.Array  # a typed key, `jax.random.key(seed)`
PyTree = Any
Params = PyTree  # what a network's `init` returns
State = Any  # an agent's NamedTuple of arrays, with a field `step`
Metrics = dict[str, Array]  # scalars by name


class Agent(NamedTuple):
    """An algorithm: three pure functions over one pytree of arrays."""

    init: Callable[[Key], State]
    update: Callable[[State, Any, Key], tuple[State, Metrics]]  # one batch, one step
    act: Callable[..., Array]  # (state, obs) is deterministic, (state, obs, key) samples


class Policy(NamedTuple):
    """What can be rolled out: an agent's `act`, with memory of its own past where it needs one."""

    start: Callable[[int], PyTree]  # number of episodes -> memory
    step: Callable[..., tuple[PyTree, Array]]  # state, memory, obs, reward, last, key=None


class Transition(NamedTuple):
    """One step of experience. Leading axes are `[B]`, or `[T, B]` for a rollout.

    `discount` is 0 only where the MDP ended and stays 1 at a time limit; `next_obs` is the true
    successor, never the observation after an automatic reset; `last` says that the episode ended
    for either reason, and cuts traces and windows. Gamma is the agent's and is not in here.
    """

    obs: PyTree  # [B, *obs_shape], an array or a pytree of arrays
    action: Array  # [B, A] in [-1, 1], or [B] integers
    reward: Array  # [B]
    discount: Array  # [B] in {0, 1}; a product of several for n-step returns
    next_obs: PyTree  # [B, *obs_shape]
    last: Array  # [B] bool
    weight: Array | None = None  # [B] with mean one; absent means uniform
    goal: PyTree = None  # [B, *goal_shape]
    return_to_go: Array | None = None  # [B] of discounted rewards in the data, -inf where unknown


class Segment(NamedTuple):
    """A window of `K` consecutive steps, for sequence and chunk agents. Leading axes `[B, K]`."""

    obs: PyTree  # [B, K, *obs_shape]
    action: Array  # [B, K, A]
    reward: Array  # [B, K]
    discount: Array  # [B, K]
    mask: Array  # [B, K] bool, False on padding
    timestep: Array  # [B, K] int32, counted from the start of the episode
    return_to_go: Array  # [B, K], to the end of the episode
    weight: Array | None = None  # [B]
    goal: PyTree = None  # [B, *goal_shape]

    @staticmethod
    def empty(spec: "Spec", batch: int, length: int) -> "Segment":
        """Windows `[batch, length]` of nothing but padding."""

        def zeros(s: jax.ShapeDtypeStruct) -> Array:
            return jnp.zeros((batch, length, *s.shape), jax.dtypes.canonicalize_dtype(s.dtype))

        def field(dtype: Any) -> Array:
            return zeros(jax.ShapeDtypeStruct((), dtype))

        return Segment(
            obs=jax.tree.map(zeros, spec.obs),
            action=zeros(spec.action),
            reward=field(float),
            discount=field(float),
            mask=field(bool),
            timestep=field(jnp.int32),
            return_to_go=field(float),
        )


class Spec(NamedTuple):
    """The shapes that an environment or a dataset imposes on an agent.

    `obs` is a pytree of `jax.ShapeDtypeStruct` without batch axes. Continuous actions are `[A]`
    in [-1, 1] (environments and datasets scale); discrete ones are scalars in `[0, num_actions)`.
    """

    obs: PyTree
    action: jax.ShapeDtypeStruct
    num_actions: int | None = None

    @property
    def discrete(self) -> bool:
        return self.num_actions is not None

    @staticmethod
    def continuous(obs_dim: int, action_dim: int) -> "Spec":
        """Spec of a task with a flat observation `[obs_dim]` and actions `[action_dim]`."""
        return Spec(
            jax.ShapeDtypeStruct((obs_dim,), jnp.float32),
            jax.ShapeDtypeStruct((action_dim,), jnp.float32),
        )

    @staticmethod
    def categorical(obs_dim: int, num_actions: int) -> "Spec":
        """Spec of a task with a flat observation `[obs_dim]` and `num_actions` choices."""
        return Spec(
            jax.ShapeDtypeStruct((obs_dim,), jnp.float32),
            jax.ShapeDtypeStruct((), jnp.int32),
            num_actions,
        )


class Learner(NamedTuple):
    """Parameters and the state of the optimiser that moves them."""

    params: Params
    opt: optax.OptState


def learner(optimizer: optax.GradientTransformation, params: Params) -> Learner:
    """Parameters with a fresh optimiser state."""
    return Learner(params, optimizer.init(params))


def descend(
    optimizer: optax.GradientTransformation,
    loss: Callable[..., tuple[Array, Metrics]],
    learner: Learner,
    *args: Any,
) -> tuple[Learner, Metrics]:
    """One optimiser step on `loss(params, *args) -> (scalar, metrics)`."""
    grads, metrics = jax.grad(loss, has_aux=True)(learner.params, *args)
    updates, opt = optimizer.update(grads, learner.opt, learner.params)
    return Learner(optax.apply_updates(learner.params, updates), opt), metrics
