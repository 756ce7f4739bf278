"""What an environment is: `Env(spec, reset, step)`, three pure values, and how to make one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Key, PyTree, Spec

Reset = Callable[[Key], tuple[PyTree, PyTree]]  # key -> state, obs
Dynamics = Callable[[PyTree, Array, Key], tuple[PyTree, PyTree, Array, Array]]
Render = Callable[[list, Any], Any]  # states of one environment, path without suffix -> path


class TimeStep(NamedTuple):
    """What `Env.step` returns for a single environment."""

    state: PyTree
    obs: PyTree  # what to act on next: already reset where `last`
    reward: Array  # []
    discount: Array  # [], 0 where the MDP ended, 1 otherwise (time limits included)
    next_obs: PyTree  # the true successor, also where `last`
    last: Array  # [] bool, the episode ended: terminal state or time limit


class Env(NamedTuple):
    """One environment as pure functions. Loops `vmap` it."""

    spec: Spec
    reset: Reset
    step: Callable[[PyTree, Array, Key], TimeStep]  # state, action, key
    render: Render | None = None


class Timed(NamedTuple):
    """Environment state with the number of steps since the last reset."""

    inner: PyTree
    time: Array  # [] int32


def auto_reset(
    spec: Spec,
    reset: Reset,
    dynamics: Dynamics,
    time_limit: int,
    render: Render | None = None,
    restart: Reset | None = None,
) -> Env:
    """An `Env` from `reset(key) -> (state, obs)` and `dynamics(state, action, key)`.

    `dynamics` returns `(state, obs, reward, terminal)` and knows neither resets nor time limits;
    reward and terminal may be plain numbers and flags.
    Each episode starts from a fresh key.

    A batch of environments cannot skip the resets that are not due, so one is computed at every
    step. Where a reset is dear, pass a cheap `restart`, such as `foreign.pooled(reset)`: it starts
    every episode but the first, which `Env.reset` draws exactly.
    """

    def start(reset: Reset, key: Key) -> tuple[Timed, PyTree]:
        state, obs = reset(key)
        return Timed(state, jnp.int32(0)), obs

    def step(state: Timed, action: Array, key: Key) -> TimeStep:
        key_dynamics, key_reset = jax.random.split(key)
        inner, next_obs, reward, terminal = dynamics(state.inner, action, key_dynamics)
        reward, terminal = _number(reward), jnp.asarray(terminal, bool)
        time = state.time + 1
        last = terminal | (time >= time_limit)
        fresh = start(restart or reset, key_reset)
        going = Timed(inner, time), next_obs
        new_state, obs = jax.tree.map(lambda a, b: jnp.where(last, a, b), fresh, going)
        discount = 1 - terminal.astype(reward.dtype)
        return TimeStep(new_state, obs, reward, discount, next_obs, last)

    return Env(spec, lambda key: start(reset, key), step, render and _untimed(render))


def _number(reward: Array | float) -> Array:
    """A reward as an array of its own float type, or of the default one. []"""
    reward = jnp.asarray(reward)
    return reward if jnp.issubdtype(reward.dtype, jnp.floating) else reward.astype(float)


def _untimed(render: Render) -> Render:
    return lambda states, path: render([state.inner for state in states], path)
