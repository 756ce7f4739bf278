"""Returns and advantages of rollouts `[T, B]`: time first, one reverse scan each.

`discount` is 0 only where the MDP ended; `last` cuts the recursion at every end of an episode, so
a time limit bootstraps from the value of its true successor and nothing leaks from the episode
after it. The row after the rollout's last counts as cut: it bootstraps likewise.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array


def accumulate(x: Array, factor: Array) -> Array:
    """y_t = x_t + factor_t y_{t+1}, with y_T = 0. [T, B]"""
    chex.assert_rank([x, factor], 2)
    chex.assert_equal_shape([x, factor])

    def back(y: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        y = row[0] + row[1] * y
        return y, y

    start = jnp.zeros(x.shape[1:], jnp.result_type(x, factor))
    return jax.lax.scan(back, start, (x, factor), reverse=True)[1]


def td_errors(
    reward: Array, discount: Array, value: Array, next_value: Array, gamma: float
) -> Array:
    """delta_t = r_t + gamma V(s_{t+1}) - V(s_t), where s_{t+1} is the true successor. [T, B]"""
    chex.assert_rank([reward, discount, value, next_value], 2)
    chex.assert_equal_shape([reward, discount, value, next_value])
    return reward + gamma * discount * next_value - value


def advantages(
    reward: Array,
    discount: Array,
    last: Array,
    value: Array,
    next_value: Array,
    gamma: float,
    gae_lambda: float,
) -> Array:
    """Generalised advantage estimates (Schulman et al., 2016; arXiv:1506.02438, Eq. 16). [T, B]

    `advantages + value` are the lambda returns.
    """
    delta = td_errors(reward, discount, value, next_value, gamma)
    return accumulate(delta, gamma * gae_lambda * discount * (1 - last))


def lambda_returns(
    reward: Array,
    discount: Array,
    last: Array,
    next_value: Array,
    gamma: float,
    trace: float,
) -> Array:
    """G_t = r_t + gamma ((1 - lambda) V(s_{t+1}) + lambda G_{t+1}), with lambda = `trace`. [T, B]

    Sutton and Barto (2018), Eq. 12.18 and following. Lambda is 0 where the trace is cut.
    """
    chex.assert_equal_shape([reward, discount, last, next_value])
    trace = trace * (1 - last.at[-1].set(True))
    return accumulate(
        reward + gamma * discount * (1 - trace) * next_value, gamma * discount * trace
    )


def returns_to_go(reward: Array, last: Array, gamma: float = 1.0) -> Array:
    """Discounted rewards from each step to the end of its episode, or of the rollout. [T, B]"""
    return accumulate(reward, gamma * (1 - last))
