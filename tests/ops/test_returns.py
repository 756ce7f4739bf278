"""Advantages and returns against numbers worked by hand, and against rlax's definitions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import returns

pytestmark = pytest.mark.usefixtures("strict")

REWARD, VALUE, NEXT = [1.0, 1.0, 1.0], [0.5, 0.6, 0.7], [0.6, 0.7, 0.8]


def column(x):
    return jnp.array(x)[:, None]


def advantages(discount=(1.0, 1.0, 1.0), last=(False,) * 3, next_value=NEXT, reward=REWARD):
    args = map(column, (reward, discount, last, VALUE, next_value))
    return returns.advantages(*args, gamma=0.9, gae_lambda=0.8)[:, 0]


def rollout(seed, shape=(40, 3), ends=0.2):
    keys = jax.random.split(jax.random.key(seed), 5)
    draw = jax.random.uniform(keys[0], shape)
    reward, value, next_value = (jax.random.normal(k, shape) for k in keys[1:4])
    return reward, (draw > ends / 2).astype(float), draw < ends, value, next_value


def test_advantages_without_an_end():
    # delta = (1.04, 1.03, 1.02), lambda gamma = 0.72
    chex.assert_trees_all_close(advantages(), jnp.array([2.310368, 1.7644, 1.02]), atol=1e-6)


def test_advantages_stop_at_a_termination():
    found = advantages(discount=(1.0, 0.0, 1.0), last=(False, True, False))
    chex.assert_trees_all_close(found, jnp.array([1.328, 0.4, 1.02]), atol=1e-6)


def test_advantages_bootstrap_from_the_true_successor_at_a_time_limit():
    found = advantages(last=(False, True, False), next_value=[0.6, 2.0, 0.8])
    chex.assert_trees_all_close(found, jnp.array([2.624, 2.2, 1.02]), atol=1e-6)


def test_the_variant_of_brax_differs_as_documented():
    """brax: r_t + gamma (V_{t+1} + GAE_{t+1}) - V_t, which lacks one lambda at the first step."""
    gae = jnp.append(advantages()[1:], 0.0)
    found = jnp.array(REWARD) + 0.9 * (jnp.array(NEXT) + gae) - jnp.array(VALUE)
    chex.assert_trees_all_close(found, jnp.array([2.62796, 1.948, 1.02]), atol=1e-6)


def test_lambda_one_sums_rewards_whatever_the_values():
    reward, _, _, value, next_value = rollout(0)
    going = jnp.zeros(reward.shape, bool)
    args = reward, jnp.ones_like(reward), going
    next_value = jnp.concatenate([value[1:], next_value[-1:]])
    found = returns.advantages(*args, value, next_value, 0.9, 1.0) + value
    powers = 0.9 ** np.arange(41)
    rows = np.concatenate([reward, next_value[-1:]])
    expected = [(rows[t:] * powers[: 41 - t, None]).sum(0) for t in range(40)]
    chex.assert_trees_all_close(found, jnp.array(expected), atol=1e-5)


def test_lambda_zero_is_the_td_error():
    reward, discount, last, value, next_value = rollout(1)
    found = returns.advantages(reward, discount, last, value, next_value, 0.9, 0.0)
    expected = reward + 0.9 * discount * next_value - value
    chex.assert_trees_all_close(found, expected, atol=1e-6)


def test_advantages_match_the_recursion_written_out():
    """rlax's form: a discount per step and values `[T + 1]`, here without time limits."""
    reward, discount, last, value, next_value = rollout(2)
    last = discount == 0
    values = np.concatenate([value, next_value[-1:]])
    expected, after = np.zeros(reward.shape), np.zeros(reward.shape[1])
    for t in reversed(range(len(reward))):
        gamma = 0.99 * np.asarray(discount[t])
        after = reward[t] + gamma * values[t + 1] - values[t] + gamma * 0.95 * after
        expected[t] = after
    found = returns.advantages(reward, discount, last, value, jnp.array(values[1:]), 0.99, 0.95)
    chex.assert_trees_all_close(found, jnp.array(expected), atol=1e-5)


@pytest.mark.parametrize("end", ["termination", "time limit"])
def test_nothing_leaks_from_the_next_episode(end):
    reward, _, _, value, next_value = rollout(3)
    last = jnp.zeros(reward.shape, bool).at[20].set(True)
    discount = 1.0 - last * (end == "termination")

    def before(reward, value):
        found = returns.advantages(reward, discount, last, value, next_value, 0.99, 0.95)
        return found[:21]

    changed = before(reward.at[21:].add(100.0), value.at[21:].add(100.0))
    chex.assert_trees_all_equal(changed, before(reward, value))
    assert not jnp.allclose(before(reward.at[20].add(100.0), value), changed)


def test_lambda_returns_are_values_plus_advantages():
    reward, discount, last, value, next_value = rollout(4)
    next_value = jnp.where(last, next_value, jnp.roll(value, -1, 0)).at[-1].set(next_value[-1])
    found = returns.lambda_returns(reward, discount, last, next_value, 0.97, 0.9)
    advantage = returns.advantages(reward, discount, last, value, next_value, 0.97, 0.9)
    chex.assert_trees_all_close(found, advantage + value, atol=1e-5)


def test_returns_to_go_restart_with_every_episode():
    reward, last = column([1.0, 2.0, 3.0, 4.0]), column([False, True, False, False])
    found = returns.returns_to_go(reward, last, gamma=0.5)[:, 0]
    chex.assert_trees_all_close(found, jnp.array([2.0, 2.0, 5.0, 4.0]))


def test_a_missing_axis_is_refused():
    reward, discount, last, value, next_value = rollout(5)
    with pytest.raises(AssertionError):
        returns.advantages(reward[:, 0], discount, last, value, next_value, 0.9, 0.9)
    with pytest.raises(AssertionError):
        returns.advantages(reward[:, :1], discount, last, value, next_value, 0.9, 0.9)
