"""Rollouts of environments under random actions, and what must hold of every one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def rollout(env, steps, n=4, seed=0, action=None):
    """Play `n` copies of `env`; returns acted-on obs and `TimeStep` (without state), `[T, n]`.

    Fails if the second stretch of a rollout compiles again.
    """
    key = jax.random.key(seed)
    start = jax.jit(jax.vmap(env.reset))
    state, obs = start(jax.random.split(jax.random.fold_in(key, 0), n))
    stretch = jax.jit(functools.partial(_stretch, env, n, steps, action))
    carry, (acted, first) = stretch((state, obs), jax.random.fold_in(key, 1))
    stretch(carry, jax.random.fold_in(key, 2))
    assert stretch._cache_size() == 1
    return jax.tree.map(np.asarray, (acted, first))


def _stretch(env, n, steps, action, carry, key):
    def body(carry, i):
        state, obs = carry
        key_act, key_env = jax.random.split(jax.random.fold_in(key, i))
        chosen = random_action(env.spec, n, key_act) if action is None else action
        step = jax.vmap(env.step)(state, chosen, jax.random.split(key_env, n))
        return (step.state, step.obs), (obs, step._replace(state=None))

    return jax.lax.scan(body, carry, jnp.arange(steps))


def random_action(spec, n, key):
    if spec.discrete:
        return jax.random.randint(key, (n,), 0, spec.num_actions)
    return jax.random.uniform(key, (n, *spec.action.shape), minval=-1)


def check_semantics(spec, acted, step):
    """Shapes are the spec's; observations follow one another; `next_obs` is never a reset one."""
    for found, expected in zip(jax.tree.leaves(acted), jax.tree.leaves(spec.obs), strict=True):
        assert found.shape[2:] == expected.shape and found.dtype == expected.dtype
    followed = jax.tree.map(lambda a, b: np.array_equal(a[1:], b[:-1]), acted, step.obs)
    assert all(jax.tree.leaves(followed))
    same = jax.tree.map(lambda a, b: _rows_equal(a, b), step.obs, step.next_obs)
    same = functools.reduce(np.logical_and, jax.tree.leaves(same))
    assert np.array_equal(same, ~step.last)
    assert set(np.unique(step.discount)) <= {0.0, 1.0}
    assert np.all(step.last[step.discount == 0])


def _rows_equal(a, b):
    # XLA may compute one number twice, in fusions that round differently.
    return np.isclose(a, b, atol=1e-6).reshape(*a.shape[:2], -1).all(-1)
