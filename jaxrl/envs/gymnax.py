"""Adapter for gymnax: small classical, MinAtar and bsuite tasks in JAX."""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.envs.base import Env, auto_reset
from jaxrl.envs.foreign import check_bounded, foreign, shapes, to_box
from jaxrl.errors import UserError, require, unknown_name
from jaxrl.types import Array, Key, PyTree, Spec


def make(name: str) -> Env:
    """The environment `name` of gymnax with its default parameters.

    Episodes end where the task does, or, with discount 1, after `max_steps_in_episode`. Resets
    are exact. Integer observations become floats, and those of a discrete space one-hot vectors.
    """
    library = require("gymnax", "gymnax", f"env gymnax/{name}")
    if name not in library.registered_envs:
        raise unknown_name("env gymnax/", name, library.registered_envs)
    env, params = _load(library, name)
    action_spec, num_actions, to_action = _actions(name, env.action_space(params))
    observations = env.observation_space(params)

    def reset(key: Key) -> tuple[PyTree, PyTree]:
        obs, state = env.reset_env(key, params)
        return state, _features(observations, obs)

    def dynamics(state: PyTree, action: Array, key: Key) -> tuple[PyTree, PyTree, Array, Array]:
        obs, state, reward, terminal, _ = env.step_env(key, state, to_action(action), params)
        return state, _features(observations, obs), jnp.asarray(reward, float), terminal

    reset, dynamics = foreign(reset), foreign(dynamics)
    spec = Spec(shapes(reset), action_spec, num_actions)
    return auto_reset(spec, reset, dynamics, int(params.max_steps_in_episode))


def _load(library: ModuleType, name: str) -> tuple[Any, Any]:
    try:
        return library.make(name)
    except OSError as error:  # MNISTBandit downloads its images
        raise UserError(f"env gymnax/{name}: failed to load its data: {error}") from error


def _actions(name: str, space: Any) -> tuple[jax.ShapeDtypeStruct, int | None, Any]:
    if hasattr(space, "n"):
        return jax.ShapeDtypeStruct((), jnp.int32), space.n, lambda action: action
    check_bounded(f"env gymnax/{name}", space.low, space.high)
    low, high = (jnp.broadcast_to(x, space.shape) for x in (space.low, space.high))
    spec = jax.ShapeDtypeStruct(space.shape, jnp.result_type(float))
    return spec, None, lambda action: to_box(action, low, high)


def _features(space: Any, obs: PyTree) -> PyTree:
    if hasattr(space, "n"):
        return jax.nn.one_hot(obs, space.n)
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x, float)), obs)
