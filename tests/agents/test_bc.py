import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import bc
from jaxrl.distributions import Deterministic, Gaussian
from jaxrl.errors import UserError
from jaxrl.types import Spec
from tests.agents.catalog import FLAT, transitions

SMALL = bc.Config(hidden=(16,), learning_rate=1e-2)
pytestmark = pytest.mark.usefixtures("strict")


def data(seed=0):
    return transitions(FLAT, jax.random.key(seed))


def test_squared_error_by_hand():
    batch = data()._replace(action=jnp.array([[0.5, -0.5], [0.0, 1.0]]))
    dist = Deterministic(jnp.array([[0.5, 0.5], [0.0, 0.0]]))
    loss, metrics = bc.squared_error(None, dist, batch, None)
    assert float(loss) == pytest.approx((0 + 1 + 0 + 1) / 4)
    assert float(metrics["action_error"]) == pytest.approx(0.5)


def test_likelihood_by_hand_is_that_of_a_plain_gaussian():
    dist = Gaussian(jnp.zeros((2, 2)), jnp.zeros((2, 2)))
    batch = data()._replace(action=jnp.array([[0.0, 0.0], [0.9, 0.9]]))
    loss, _ = bc.negative_log_likelihood(None, dist, batch, None)
    assert float(loss) == pytest.approx((1.837877 + 2.647877) / 2, abs=1e-5)


@pytest.mark.parametrize("loss", [bc.squared_error, bc.negative_log_likelihood])
def test_weights_select_rows(loss):
    dist = Gaussian(0.1 * data(1).action[:2], jnp.zeros((2, 3)))
    batch = jax.tree.map(lambda x: x[:2], data())
    first = jax.tree.map(lambda x: x[:1], (dist, batch))
    weighted = batch._replace(weight=jnp.array([2.0, 0.0]))
    one, _ = loss(None, *first, None)
    assert float(loss(None, dist, weighted, None)[0]) == pytest.approx(float(one), rel=1e-5)


@pytest.mark.parametrize("policy", ["gaussian", "deterministic"])
def test_only_the_observations_and_actions_matter(policy):
    agent = bc.make(FLAT, dataclasses.replace(SMALL, policy=policy))
    update = jax.jit(agent.update)
    state = agent.init(jax.random.key(0))
    other = data(5)
    mixed = data()._replace(
        reward=other.reward, next_obs=other.next_obs, discount=other.discount, last=other.last
    )
    one, _ = update(state, data(), jax.random.key(1))
    two, _ = update(state, mixed, jax.random.key(2))
    chex.assert_trees_all_equal(one, two)
    three, _ = update(state, data()._replace(action=other.action), jax.random.key(2))
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(one, three)


@pytest.mark.parametrize("policy", ["gaussian", "deterministic"])
def test_a_linear_policy_is_recovered(policy):
    agent = bc.make(FLAT, bc.Config(hidden=(32,), learning_rate=3e-3, policy=policy))
    obs = jax.random.normal(jax.random.key(0), (256, 5))
    action = jnp.tanh(obs[:, :3] * jnp.array([[0.5, -0.5, 0.2]]))
    batch = jax.tree.map(lambda x: x[0][None], data())._replace(obs=obs, action=action)

    def step(state, i):
        return agent.update(state, batch, jax.random.fold_in(jax.random.key(1), i))

    state = agent.init(jax.random.key(2))
    before = jnp.abs(agent.act(state, obs) - action).mean()
    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, jnp.arange(1000)))(state)
    assert jnp.abs(agent.act(state, obs) - action).mean() < min(0.05, 0.2 * before)


def test_gaussian_learns_the_spread_of_actions():
    agent = bc.make(Spec.continuous(5, 1), bc.Config(hidden=(), learning_rate=1e-2))
    action = jnp.array([[-0.3], [0.3]] * 8)
    batch = data()._replace(obs=jnp.zeros((16, 5)), action=action)

    def step(state, i):
        return agent.update(state, batch, jax.random.fold_in(jax.random.key(1), i))

    state = agent.init(jax.random.key(2))
    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, jnp.arange(1000)))(state)
    log_std = state.actor.params["params"]["log_std"]
    np.testing.assert_allclose(jnp.exp(log_std), [0.3], atol=0.01)


def test_samples_stay_in_the_box_and_the_mode_does_not_vary():
    agent = bc.make(FLAT, SMALL)
    state = agent.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (500, 5))
    sample = agent.act(state, obs, jax.random.key(2))
    assert float(jnp.abs(sample).max()) == 1.0  # standard deviation one: some are clipped
    chex.assert_trees_all_equal(agent.act(state, obs), agent.act(state, obs))


def test_dropout_is_active_in_updates_alone():
    agent = bc.make(FLAT, dataclasses.replace(SMALL, dropout=0.5))
    state = agent.init(jax.random.key(0))
    one, _ = agent.update(state, data(), jax.random.key(1))
    two, _ = agent.update(state, data(), jax.random.key(2))
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(one, two)
    plain = bc.make(FLAT, SMALL)
    chex.assert_trees_all_equal(agent.act(state, data().obs), plain.act(state, data().obs))


def test_users_own_loss_replaces_the_likelihood():
    def nothing(params, networks, batch, key):
        del networks, batch, key
        return 0.0 * jax.tree.leaves(params)[0].sum(), {}

    networks = bc.build(FLAT, SMALL)._replace(imitation=nothing)
    agent = bc.make(FLAT, SMALL, networks)
    state = agent.init(jax.random.key(0))
    moved, _ = agent.update(state, data(), jax.random.key(1))
    chex.assert_trees_all_equal(moved.actor.params, state.actor.params)


def test_bad_settings_are_refused_by_name():
    with pytest.raises(UserError, match="continuous"):
        bc.make(Spec.categorical(3, 2))
    with pytest.raises(UserError, match="dropout"):
        bc.make(FLAT, bc.Config(dropout=1.0))
