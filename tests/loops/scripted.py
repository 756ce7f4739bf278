"""Tasks and agents whose every number is known in advance."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs.base import Env, auto_reset
from jaxrl.types import Agent, Array, Spec

SPEC = Spec.continuous(1, 1)
ANSWER = 0.123  # what `counting_agent` always does


def counter_env(time_limit: int = 3, terminal_at: int = -1, broken_at: tuple = ()) -> Env:
    """Observes the number of steps in the episode, and pays it.

    Ends the MDP at `terminal_at`; observes and pays NaN at the steps `broken_at`.
    """

    def reset(key):
        del key
        return jnp.int32(0), jnp.zeros(1)

    def dynamics(count, action, key):
        del action, key
        count = count + 1
        broken = jnp.isin(count, jnp.array(broken_at or (-1,)))
        paid = jnp.where(broken, jnp.nan, count.astype(float))
        return count, paid[None], paid, count == terminal_at

    return auto_reset(SPEC, reset, dynamics, time_limit)


class Counts(NamedTuple):
    """What `counting_agent` knows."""

    step: Array
    seen: Array  # sum of all sampled rewards


def counting_agent() -> Agent:
    """Counts its updates and sums what it is shown; a sampled action is `ANSWER`."""

    def init(key):
        del key
        return Counts(jnp.int32(0), jnp.zeros(()))

    def update(state, batch, key):
        del key
        new = Counts(state.step + 1, state.seen + batch.reward.sum())
        return new, {"before": state.step.astype(float)}

    def act(state, obs, key=None):
        return jnp.full((len(obs), 1), 0.0 if key is None else ANSWER) + 0 * state.seen

    return Agent(init, update, act)


def keys(n: int) -> jax.Array:
    """The keys of seeds 0 to n - 1."""
    return jax.vmap(jax.random.key)(jnp.arange(n))
