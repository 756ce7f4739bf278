"""What the adapters share: third-party environments as the functions that `auto_reset` takes."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.base import Dynamics, Reset
from jaxrl.errors import UserError
from jaxrl.types import Array, Key, PyTree

POOL = 256  # start states of `pooled`


def foreign(function: Callable) -> Callable:
    """`function` of a library with other habits than ours, made safe to call from our programs.

    It may promote ranks (brax does) and change its arguments in place (playground does). It gets
    raw keys: gymnax fails the check against key reuse with typed ones. Its outputs lose their weak
    types: where `reset` and `step` differ in those, a rollout silently compiles twice.
    """

    @functools.wraps(function)
    def call(*args: PyTree) -> PyTree:
        with jax.numpy_rank_promotion("allow"):
            return jax.tree.map(_strong, function(*jax.tree.map(_raw, args)))

    return call


def _raw(leaf: Any) -> Any:
    typed = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if typed else leaf


def _strong(leaf: Any) -> Array:
    leaf = jnp.asarray(leaf)
    return jax.lax.convert_element_type(leaf, leaf.dtype)


def functional(env: Any) -> tuple[Reset, Dynamics]:
    """`reset` and `dynamics` of an environment with brax's protocol, which playground shares."""

    def reset(key: Key) -> tuple[PyTree, PyTree]:
        state = env.reset(key)
        return state, state.obs

    def dynamics(state: PyTree, action: Array, key: Key) -> tuple[PyTree, PyTree, Array, Array]:
        del key  # the state carries its own, where it needs one
        state = env.step(state, jnp.clip(action, -1, 1))
        return state, state.obs, jnp.asarray(state.reward, float), state.done > 0

    return foreign(reset), foreign(dynamics)


def pooled(reset: Reset, size: int = POOL) -> Reset:
    """A `reset` that draws one of `size` start states, computed once when first traced.

    The trade: a reset of a physics engine costs from a tenth of a step to a hundred steps
    (playground's CheetahRun settles for 200), a draw next to nothing, but episodes start in at
    most `size` ways, the same in every run. They are constants of the compiled program.
    """

    @functools.cache
    def pool() -> PyTree:
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), size))
        compiled = jax.jit(jax.vmap(reset)).lower(keys).compile()
        with jax.ensure_compile_time_eval():  # compiling in here would take three times as long
            return jax.device_get(compiled(jax.random.split(jax.random.key(0), size)))

    def draw(key: Key) -> tuple[PyTree, PyTree]:
        row = jax.random.randint(key, (), 0, size)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[row], pool())

    return draw


def shapes(reset: Reset) -> PyTree:
    """Shapes and dtypes of the observations of `reset`, for a `Spec`."""
    _, obs = jax.eval_shape(reset, jax.random.key(0))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), obs)


def check_bounded(name: str, low: Any, high: Any) -> None:
    """Refuse an action space without bounds: [-1, 1] cannot be scaled to it."""
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise UserError(f"{name}: found actions in [{low}, {high}], expected finite bounds")


def to_box(action: Any, low: Any, high: Any) -> Any:
    """`action` in [-1, 1], clipped, then scaled to `[low, high]`: exact where they are [-1, 1]."""
    return (high + low) / 2 + action.clip(-1, 1) * ((high - low) / 2)
