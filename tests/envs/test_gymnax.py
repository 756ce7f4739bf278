"""The gymnax adapter: true successors, time limits, scaling, spaces."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import make
from jaxrl.errors import UserError
from tests.envs.common import check_semantics, rollout


def test_terminal_episodes(strict):
    env = make("gymnax/CartPole-v1")
    acted, step = rollout(env, steps=60)
    check_semantics(env.spec, acted, step)
    assert step.last.sum() > 5
    np.testing.assert_array_equal(step.discount, 1 - step.last)
    fallen = step.next_obs[step.last]
    assert (np.abs(fallen[:, 2]) > 0.2).all()  # the successor, past the limit of 0.209 rad or near
    assert env.spec.num_actions == 2 and env.spec.obs.shape == (4,)


def test_a_time_limit_is_not_terminal(strict):
    env = make("gymnax/Pendulum-v1")
    acted, step = rollout(env, steps=401, n=2)
    check_semantics(env.spec, acted, step)
    np.testing.assert_array_equal(np.flatnonzero(step.last[:, 0]), [199, 399])
    assert (step.discount == 1).all()


def test_a_step_is_gymnax_own_with_the_action_scaled():
    env = make("gymnax/Pendulum-v1")
    state, _ = env.reset(jax.random.key(0))
    theirs, params = gymnax.make("Pendulum-v1")
    for action, torque in ((0.25, 0.5), (-3.0, -2.0)):
        step = env.step(state, jnp.array([action]), jax.random.key(1))
        obs, _, reward, *_ = theirs.step_env(
            jax.random.PRNGKey(0), state.inner, jnp.array([torque]), params
        )
        np.testing.assert_allclose(step.next_obs, obs, rtol=1e-6)
        np.testing.assert_allclose(step.reward, reward, rtol=1e-6)


def test_terminal_at_the_time_limit_is_terminal():
    env = make("gymnax/DeepSea-bsuite")  # ends at its last row, where its time is up too
    _, step = rollout(env, steps=16)
    np.testing.assert_array_equal(np.flatnonzero(step.discount[:, 0] == 0), [7, 15])


def test_a_discrete_observation_is_one_hot():
    env = make("gymnax/FrozenLake-misc")
    acted, _ = rollout(env, steps=5)
    assert env.spec.obs.shape == (16,)
    np.testing.assert_array_equal(acted.sum(-1), 1)


def test_missing_data_is_a_user_error(monkeypatch):
    def offline(name):
        raise OSError("no network")

    monkeypatch.setattr(gymnax, "make", offline)
    with pytest.raises(UserError, match="MNISTBandit.*no network"):
        make("gymnax/MNISTBandit-bsuite")
