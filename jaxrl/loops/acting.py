"""Environments in the run's fixed blocks: resetting, acting and stepping, shared by the loops.

Leaves are `[D, n, ...]`: D blocks of n environments. Each block draws with `fold_in(key, block)`,
so a mesh whose data axis divides D computes the same numbers as one device.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs.base import Env, TimeStep
from jaxrl.errors import UserError
from jaxrl.ops import rows
from jaxrl.types import Array, Key, PyTree, Spec, Transition

merge = rows.flat  # [D, n, ...] to [D * n, ...], blocks in order

INIT, RESET, STEP, ACT, ENV, LEARN, SAMPLE = range(7)  # names of a run's random draws


class Acting(NamedTuple):
    """Environments between two steps."""

    state: PyTree  # [D, n, ...]
    obs: PyTree  # [D, n, *obs_shape], what to act on next
    failed_at: Array  # [D] int32, iteration of a block's first non-finite number, -1 if none


def default_blocks(size: int) -> int:
    """The largest divisor of eight that divides `size`."""
    return next(d for d in (8, 4, 2, 1) if size % d == 0)


def check_blocks(name: str, size: int, blocks: int) -> None:
    """Raise unless `size` is positive and made of `blocks` equal parts."""
    if size < 1:
        raise UserError(f"{name}: found {size}, expected at least 1")
    if blocks < 1 or size % blocks:
        near = [size - size % max(blocks, 1), size - size % max(blocks, 1) + blocks]
        raise UserError(f"{name}: {size} does not split into {blocks} blocks; try {near}")


def split(tree: PyTree, blocks: int) -> PyTree:
    """The inverse of `merge`."""
    return jax.tree.map(lambda x: x.reshape((blocks, -1, *x.shape[1:])), tree)


def block_keys(key: Key, blocks: int, n: int) -> Key:
    """Keys `[D, n]`, those of a block from `fold_in(key, block)`."""
    return jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i), n))(jnp.arange(blocks))


def begin(env: Env, key: Key, blocks: int, n: int) -> Acting:
    """All environments at the start of an episode."""
    state, obs = jax.vmap(jax.vmap(env.reset))(block_keys(key, blocks, n))
    return Acting(state, obs, jnp.full(blocks, -1, jnp.int32))


def random_action(spec: Spec, n: int, key: Key) -> Array:
    """`n` uniform actions. [n, A] or [n]"""
    if spec.num_actions is not None:
        return jax.random.randint(key, (n,), 0, spec.num_actions)
    return jax.random.uniform(key, (n, *spec.action.shape), minval=-1, maxval=1)


def step(env: Env, acting: Acting, action: Array, key: Key, count: Array) -> tuple:
    """Step every environment with `action` `[N, ...]`.

    Returns:
      The environments after it, and the transitions `[D, n, ...]`, in which non-finite numbers
      are zero and `failed_at` remembers the first iteration `count` that had one: block by block,
      since one answer for all would have the chips of a mesh wait for one another at every step.
    """
    blocks, n = jax.tree.leaves(acting.obs)[0].shape[:2]
    keys = block_keys(key, blocks, n)
    action = split(action, blocks)
    time: TimeStep = jax.vmap(jax.vmap(env.step))(acting.state, action, keys)
    reward = time.reward.astype(float)  # of a user's own environment perhaps whole numbers
    transition = Transition(acting.obs, action, reward, time.discount, time.next_obs, time.last)
    transition, finite = jax.vmap(replace_non_finite)(transition)
    failed = jnp.where(finite | (acting.failed_at >= 0), acting.failed_at, count)
    obs, _ = jax.vmap(replace_non_finite)(time.obs)
    return Acting(time.state, obs, failed), transition


def replace_non_finite(tree: PyTree) -> tuple[PyTree, Array]:
    """The tree with zeros in place of NaN and infinity, and whether there were none."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    finite = jnp.stack([jnp.isfinite(x).all() for x in floats]).all()

    def clean(x: Array) -> Array:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        return jnp.where(jnp.isfinite(x), x, 0)

    return jax.tree.map(clean, tree), finite
