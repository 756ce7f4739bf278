"""Scores of a policy over many parallel episodes, without touching what is trained."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs import Env, HostEnv
from jaxrl.errors import check_range
from jaxrl.types import Array, Key, Policy, PyTree, State

RESET, STEP, ACT, ENV = range(4)


class Scores(NamedTuple):
    """One entry per episode."""

    returns: Any  # [n], undiscounted; arrays of JAX, or of NumPy from environments on the host
    lengths: Any  # [n] int32
    finished: Any  # [n] bool, False where `max_steps` cut the episode


class _Rollout(NamedTuple):
    time: Array
    env: PyTree
    memory: PyTree
    obs: PyTree
    reward: Array
    last: Array
    scores: Scores


class Score(NamedTuple):
    """A function from an agent's state and a key to scores."""

    play: Callable[[State, Key], Scores]
    on_host: bool  # where it cannot be traced, and so not be mapped over seeds

    def __call__(self, state: State, key: Key) -> Scores:
        return self.play(state, key)


def make(
    env: Env | HostEnv,
    policy: Policy,
    episodes: int,
    greedy: bool = True,
    max_steps: int = 10_000,
) -> Score:
    """A function from an agent's state and a key to the scores of `episodes` episodes.

    It is one compiled program, or, for environments on the host, plays them side by side.

    Args:
      greedy: whether the policy acts without a key, that is by its mode.
      max_steps: where to cut episodes that do not end.
    """
    check_range("episodes", episodes, 1)
    check_range("max_steps", max_steps, 1)
    if isinstance(env, HostEnv):
        env, act = HostEnv(env.id, episodes), jax.jit(policy.step)
        play = partial(score_on_host, env, policy._replace(step=act), greedy, max_steps)
        return Score(play, on_host=True)
    play = partial(score, env, policy, episodes, greedy, max_steps)
    return Score(jax.jit(play), on_host=False)


def score(
    env: Env, policy: Policy, n: int, greedy: bool, max_steps: int, state: State, key: Key
) -> Scores:
    """Play `n` episodes to their end, in parallel."""

    def going(rollout: _Rollout):
        return (rollout.time < max_steps) & ~rollout.scores.finished.all()

    step = partial(_step, env, policy, greedy, state, key)
    return jax.lax.while_loop(going, step, _start(env, policy, n, key)).scores


def _start(env: Env, policy: Policy, n: int, key: Key) -> _Rollout:
    keys = jax.random.split(jax.random.fold_in(key, RESET), n)
    env_state, obs = jax.vmap(env.reset)(keys)
    zeros = jnp.zeros(n)
    scores = Scores(zeros, jnp.zeros(n, int), jnp.zeros(n, bool))
    return _Rollout(
        jnp.int32(0), env_state, policy.start(n), obs, zeros, jnp.zeros(n, bool), scores
    )


def _step(env, policy, greedy, state, key, rollout: _Rollout) -> _Rollout:
    n = rollout.reward.shape[0]
    key = jax.random.fold_in(jax.random.fold_in(key, STEP), rollout.time)
    key_act = None if greedy else jax.random.fold_in(key, ACT)
    memory, action = policy.step(
        state, rollout.memory, rollout.obs, rollout.reward, rollout.last, key_act
    )
    keys = jax.random.split(jax.random.fold_in(key, ENV), n)
    time = jax.vmap(env.step)(rollout.env, action, keys)
    reward = time.reward.astype(rollout.reward.dtype)
    scores = _counted(rollout.scores, reward, time.last)
    return _Rollout(rollout.time + 1, time.state, memory, time.obs, reward, time.last, scores)


def score_on_host(
    env: HostEnv, policy: Policy, greedy: bool, max_steps: int, state: State, key: Key
) -> Scores:
    """The same for environments on the host: one device call acts for all of them."""
    n = env.num_envs
    seeds = jax.random.bits(jax.random.fold_in(key, RESET), (n,), "uint32")
    obs, memory = env.reset(np.asarray(seeds).tolist()), policy.start(n)
    reward, last = np.zeros(n, np.float32), np.zeros(n, bool)
    scores = Scores(np.zeros(n), np.zeros(n, int), np.zeros(n, bool))
    for time in range(max_steps):
        key_act = None if greedy else jax.random.fold_in(jax.random.fold_in(key, STEP), time)
        memory, action = policy.step(state, memory, obs, reward, last, key_act)
        obs, reward, _, _, last = env.step(np.asarray(action))
        scores = _counted(scores, reward, last)
        if scores.finished.all():
            break
    return scores


def _counted(scores: Scores, reward: Any, last: Any) -> Scores:
    """Add a step's rewards to the episodes that are still going."""
    going = ~scores.finished
    gained = jnp.where(going, reward, 0)  # a product would keep what is not finite
    return Scores(scores.returns + gained, scores.lengths + going, scores.finished | last)
