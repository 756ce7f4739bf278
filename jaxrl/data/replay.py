"""A ring of transitions on the device, in the run's fixed blocks.

Leaves are `[D, T, n, ...]`: D blocks, T rows of time, n environments per block. Every iteration
adds one row, so the number of rows ever added is the loop's step and is not stored here.
"""

import jax
import jax.numpy as jnp

from jaxrl.data.dataset import by_block
from jaxrl.errors import UserError
from jaxrl.types import Array, Key, Spec, Transition


def rows(capacity: int, envs: int) -> int:
    """Rows of time that `capacity` transitions of `envs` environments make.

    Raises:
      UserError: there is not room for one row.
    """
    if capacity < envs:
        raise UserError(f"capacity: found {capacity}, expected at least one row of {envs} envs")
    return capacity // envs


def empty(spec: Spec, blocks: int, rows: int, envs_per_block: int) -> Transition:
    """A ring of zeros."""

    def zeros(s: jax.ShapeDtypeStruct) -> Array:
        dtype = jax.dtypes.canonicalize_dtype(s.dtype)
        return jnp.zeros((blocks, rows, envs_per_block, *s.shape), dtype)

    scalar = jax.ShapeDtypeStruct((), float)
    return Transition(
        obs=jax.tree.map(zeros, spec.obs),
        action=zeros(spec.action),
        reward=zeros(scalar),
        discount=zeros(scalar),
        next_obs=jax.tree.map(zeros, spec.obs),
        last=zeros(jax.ShapeDtypeStruct((), bool)),
    )


def add(ring: Transition, row: Transition, count: Array) -> Transition:
    """Write `row` `[D, n, ...]` as the `count`-th since the beginning, over the oldest."""

    def write(x: Array, new: Array) -> Array:
        start = (0, count % x.shape[1]) + (0,) * (x.ndim - 2)
        return jax.lax.dynamic_update_slice(x, new[:, None].astype(x.dtype), start)

    return jax.tree.map(write, ring, row)


def sample(
    ring: Transition, count: Array, key: Key, batch: int, n_step: int = 1, gamma: float = 1.0
) -> Transition:
    """A batch `[B]`, uniform over what is held, the same share from every block.

    Args:
      ring: the ring, after `count` rows were added in all.
      n_step: sum this many rewards, discounted by `gamma`, stopping where an episode ends and at
        the newest row. `discount` is then the product of the discounts passed and of gamma once
        less than the steps taken, since the agent multiplies by gamma itself.
    """

    def draw(block: Transition, key: Key, size: int) -> Transition:
        return _sample_block(block, count, key, size, n_step, gamma)

    return by_block(draw, ring, key, batch)


def _sample_block(
    ring: Transition, count: Array, key: Key, batch: int, n_step: int, gamma: float
) -> Transition:
    """`batch` transitions of one block, whose leaves are `[T, n, ...]`."""
    capacity, envs = ring.reward.shape
    held = jnp.minimum(count, capacity)
    index = jax.random.randint(key, (batch,), 0, held * envs)
    age, env = held - index // envs, index % envs  # age 1 is the newest row

    def take(k: Array) -> Transition:  # k rows later; by one index, since two cost CPUs 3 %
        at = (count - age + k) % capacity * envs + env
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[at], ring)

    first = take(jnp.int32(0))

    def extend(carry, k):
        total, scale, going = carry
        going &= ~total.last & (k < age)
        more = take(k)
        scale = jnp.where(going, scale * gamma, scale)
        reward = total.reward + jnp.where(going, scale * total.discount * more.reward, 0)
        joined = more._replace(obs=total.obs, action=total.action, reward=reward)
        joined = joined._replace(discount=total.discount * more.discount)
        return (_where(going, joined, total), scale, going), None

    carry = first, jnp.ones_like(first.reward), jnp.ones(batch, bool)
    (total, scale, _), _ = jax.lax.scan(extend, carry, jnp.arange(1, n_step))
    return total._replace(discount=total.discount * scale)


def _where(condition: Array, a: Transition, b: Transition) -> Transition:
    def leaf(x: Array, y: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (x.ndim - 1)), x, y)

    return jax.tree.map(leaf, a, b)
