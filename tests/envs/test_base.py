"""Automatic resets, on the smallest environment that can be got wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import Env, auto_reset
from jaxrl.types import Spec
from tests.envs.common import rollout

SPEC = Spec.continuous(1, 1)


def counting(time_limit, terminal_at=100, **kwargs):
    """Counts its steps; the first observation is 0, the reward is the count left behind."""

    def reset(key):
        del key
        return jnp.zeros(()), jnp.zeros(1)

    def dynamics(count, action, key):
        del action, key
        return count + 1, count[None] + 1, count, count + 1 >= terminal_at

    return auto_reset(SPEC, reset, dynamics, time_limit, **kwargs)


def test_time_limit_keeps_the_successor_and_the_discount(strict):
    acted, step = rollout(counting(3), steps=7, n=2)
    np.testing.assert_array_equal(acted[:, 0, 0], [0, 1, 2, 0, 1, 2, 0])
    np.testing.assert_array_equal(step.next_obs[:, 0, 0], [1, 2, 3, 1, 2, 3, 1])
    np.testing.assert_array_equal(step.obs[:, 0, 0], [1, 2, 0, 1, 2, 0, 1])
    np.testing.assert_array_equal(step.last[:, 0], [0, 0, 1, 0, 0, 1, 0])
    np.testing.assert_array_equal(step.reward[:, 0], [0, 1, 2, 0, 1, 2, 0])
    assert (step.discount == 1).all()


def test_terminal_state_has_discount_zero(strict):
    _, step = rollout(counting(100, terminal_at=2), steps=4)
    np.testing.assert_array_equal(step.discount[:, 0], [1, 0, 1, 0])
    np.testing.assert_array_equal(step.last[:, 0], [0, 1, 0, 1])


def test_terminal_state_at_the_time_limit_is_terminal():
    _, step = rollout(counting(2, terminal_at=2), steps=2)
    np.testing.assert_array_equal(step.discount[:, 0], [1, 0])


@pytest.mark.parametrize("reward, terminal", [(1, False), (1.0, True), (True, 0.0)])
def test_plain_numbers_and_flags_become_arrays(reward, terminal):
    def dynamics(state, action, key):
        del action, key
        return state, state, reward, terminal

    _, step = rollout(auto_reset(SPEC, lambda key: (jnp.zeros(1),) * 2, dynamics, 10), steps=2)
    assert step.reward.dtype == step.discount.dtype == jnp.float32 and step.last.dtype == bool
    assert (step.reward == 1).all() and (step.discount == 1 - bool(terminal)).all()


def test_each_episode_starts_from_a_fresh_key():
    def reset(key):
        start = jax.random.uniform(key, (1,))
        return start, start

    def dynamics(state, action, key):
        del action, key
        return state, state, jnp.zeros(()), jnp.array(True)

    _, step = rollout(auto_reset(SPEC, reset, dynamics, 10), steps=50, n=4)
    assert len(np.unique(step.obs)) == 200


def test_restart_starts_every_episode_but_the_first():
    def restart(key):
        del key
        return jnp.array(50.0), jnp.array([50.0])

    acted, _ = rollout(counting(2, restart=restart), steps=4)
    np.testing.assert_array_equal(acted[:, 0, 0], [0, 1, 50, 51])


def test_render_sees_the_inner_states():
    env = counting(3, render=lambda states, path: (states, path))
    state, _ = env.reset(jax.random.key(0))
    assert env.render([state], "film") == ([state.inner], "film")
    assert isinstance(env, Env) and counting(3).render is None
