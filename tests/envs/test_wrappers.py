"""Reward normalisation against NumPy, and squashed actions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import wrappers
from jaxrl.envs.base import auto_reset
from jaxrl.errors import UserError
from jaxrl.types import Spec, Transition

pytestmark = pytest.mark.usefixtures("strict")


def row(reward, last):
    n = len(reward)
    return Transition(jnp.zeros((n, 1)), None, reward, jnp.ones(n), jnp.zeros((n, 1)), last)


def test_rewards_are_divided_by_the_deviation_of_discounted_returns():
    rng = np.random.default_rng(0)
    rewards, lasts = rng.normal(3, 2, (50, 4)), rng.random((50, 4)) < 0.1
    scale, total, seen = wrappers.reward_scale(4), np.zeros(4), []
    for reward, last in zip(rewards, lasts, strict=True):
        total = 0.9 * total + reward
        seen.append(total)
        expected = np.clip(reward / max(np.std(seen), 1e-4), -10, 10)
        total = total * ~last  # the last reward counts in its own episode
        scale, found = wrappers.normalize_reward(
            scale, row(jnp.array(reward), jnp.array(last)), 0.9
        )
        chex.assert_trees_all_close(found.reward, jnp.array(expected), rtol=1e-3)
    chex.assert_trees_all_close(scale.returns, jnp.array(total), rtol=1e-4)


def test_rewards_keep_their_sign_and_are_clipped():
    scale, found = wrappers.normalize_reward(
        wrappers.reward_scale(3), row(jnp.array([1.0, 1.0, 1.0]), jnp.zeros(3, bool)), 0.9
    )
    assert found.reward.tolist() == [10, 10, 10]  # no deviation yet
    for _ in range(10):
        rewards = jnp.array([0.0, 2.0, 1.0])
        scale, found = wrappers.normalize_reward(scale, row(rewards, jnp.zeros(3, bool)), 0.9)
    assert found.reward[0] == 0
    assert 0 < found.reward[2] < found.reward[1] < 10


def test_squashed_actions_enter_the_environment_through_tanh():
    def dynamics(state, action, key):
        del key
        return state, state, action[0], jnp.array(False)

    spec = Spec.continuous(1, 1)
    env = auto_reset(spec, lambda key: (jnp.zeros(1), jnp.zeros(1)), dynamics, 10)
    state, _ = env.reset(jax.random.key(0))
    time = wrappers.squash(env).step(state, jnp.array([2.0]), jax.random.key(1))
    assert time.reward == pytest.approx(np.tanh(2.0))


def test_host_environments_are_not_squashed():
    with pytest.raises(UserError, match="squash: found object"):
        wrappers.squash(object())
