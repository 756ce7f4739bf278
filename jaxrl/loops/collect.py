"""Experience of a policy that does not learn, from environments of either kind."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs import Env, HostEnv
from jaxrl.errors import UserError
from jaxrl.loops import acting
from jaxrl.loops.acting import ACT, ENV, RESET, STEP
from jaxrl.types import Array, Key, Policy, PyTree, Spec, State, Transition

STRETCH = 1_000  # steps of every environment in one compiled program


def uniform(spec: Spec) -> Policy:
    """Acts at random, uniformly."""

    def step(state, memory, obs, reward, last, key):
        del state, obs, last
        return memory, acting.random_action(spec, reward.shape[0], key)

    return Policy(start=lambda n: (), step=step)


def rollout(
    env: Env | HostEnv, policy: Policy, state: State, envs: int, steps: int, key: Key
) -> Transition:
    """`steps` steps of `envs` environments with the policy's samples. NumPy arrays `[T, n, ...]`

    Actions are those that the environment takes, in [-1, 1].
    """
    play = _on_host if isinstance(env, HostEnv) else _on_device
    parts = play(env, policy, state, envs, steps, key)
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def _sampled(policy: Policy, state: State, memory: PyTree, now: tuple, key: Key) -> tuple:
    """The policy's memory and its actions on `now`, which is obs, reward and last. [n, ...]"""
    memory, action = policy.step(state, memory, *now, key)
    floats = jnp.issubdtype(action.dtype, jnp.floating)
    return memory, jnp.clip(action, -1, 1) if floats else action


def _on_device(env, policy, state, n: int, steps: int, key: Key) -> list[Transition]:
    first = acting.begin(env, jax.random.fold_in(key, RESET), 1, n)
    carry, parts = (first, policy.start(n), jnp.zeros(n), jnp.zeros(n, bool)), []
    advance, key = jax.jit(partial(_advance, env, policy), static_argnums=4), _of_steps(key)
    for start in range(0, steps, STRETCH):
        size = min(STRETCH, steps - start)
        carry, rows = advance(state, carry, jax.random.clone(key), jnp.int32(start), size)
        parts.append(jax.device_get(rows))
    if (failed := int(carry[0].failed_at.max())) >= 0:  # of one block
        raise UserError(f"env: a non-finite observation or reward at step {failed}")
    return parts


def _of_steps(key: Key) -> Key:
    return jax.random.fold_in(key, STEP)


def _advance(env, policy, state, carry: tuple, key: Key, start: Array, size: int) -> tuple:
    def step(carry: tuple, time: Array) -> tuple:
        (now, memory, reward, last), at = carry, jax.random.fold_in(key, time)
        seen = acting.merge(now.obs), reward, last
        memory, action = _sampled(policy, state, memory, seen, jax.random.fold_in(at, ACT))
        now, row = acting.step(env, now, action, jax.random.fold_in(at, ENV), time)
        row = acting.merge(row)
        return (now, memory, row.reward, row.last), row

    return jax.lax.scan(step, carry, start + jnp.arange(size))


def _on_host(env, policy, state, n: int, steps: int, key: Key) -> list[Transition]:
    env, act = HostEnv(env.id, n), jax.jit(partial(_sampled, policy))
    seeds = jax.random.bits(jax.random.fold_in(key, RESET), (n,), "uint32")
    obs, memory = env.reset(np.asarray(seeds).tolist()), policy.start(n)
    reward, last, parts, key = np.zeros(n, np.float32), np.zeros(n, bool), [], _of_steps(key)
    for time in range(steps):
        key_act = jax.random.fold_in(jax.random.fold_in(key, time), ACT)
        memory, action = act(state, memory, (obs, reward, last), key_act)
        seen, action = obs, np.asarray(action)
        obs, reward, discount, next_obs, last = env.step(action)
        row: Any = seen, action, reward, discount, next_obs, last
        parts.append(Transition(*jax.tree.map(lambda x: x[None], row)))
    return parts
