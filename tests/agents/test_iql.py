import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.agents import bc, iql, sac
from jaxrl.distributions import Gaussian
from jaxrl.errors import UserError
from jaxrl.ops import losses
from jaxrl.types import Spec, descend
from tests.agents.catalog import FLAT, transitions
from tests.agents.fakes import Module, Spy

SMALL = iql.Config(hidden=(16,), learning_rate=1e-2)
pytestmark = pytest.mark.usefixtures("strict")


def data(seed=0, n=16):
    return transitions(FLAT, jax.random.key(seed), (n,))


def built(config=SMALL, **replaced):
    """Networks with optimisers, and a state whose target is not its critic."""
    adam = optax.adam(config.learning_rate)
    networks = iql.build(FLAT, config)._replace(optimizer=adam, actor_optimizer=adam, **replaced)
    state = iql.init(networks, FLAT, jax.random.key(0))
    return networks, state._replace(target=iql.init(networks, FLAT, jax.random.key(1)).target)


def updated(networks, state, batch, config=SMALL):
    return iql.update(networks, config, state, batch, jax.random.key(3))[0]


def differ(a, b):
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(a, b)


def test_losses_by_hand():
    networks = iql.Networks(
        actor=None, critic=None, value=Module(lambda params, obs: params + obs[:, 0])
    )
    config = iql.Config(gamma=0.9, expectile=0.9, beta=2.0, max_weight=3.0)
    batch = data(n=3)._replace(
        obs=jnp.array([[0.0], [1.0], [2.0]]),
        next_obs=jnp.array([[1.0], [1.0], [1.0]]),
        reward=jnp.ones(3),
        discount=jnp.array([1.0, 0.0, 1.0]),
    )
    q = jnp.array([2.0, 1.0, 1.0])
    loss, _ = iql.value_loss(jnp.array(0.0), networks, config, batch, q)
    assert float(loss) == pytest.approx((0.9 * 4 + 0 + 0.1 * 1) / 3)
    rows, _ = iql.weighted(networks, config, jnp.array(0.0), batch, q)
    np.testing.assert_allclose(rows.weight, [3.0, 1.0, np.exp(-2.0)], rtol=1e-6)
    target = iql.critic_target(networks, config, jnp.array(0.5), batch)
    np.testing.assert_allclose(target, [1 + 0.9 * 1.5, 1.0, 1 + 0.9 * 1.5])


def test_the_batch_s_own_weight_multiplies_the_advantage_s():
    networks, state = built()
    q, weight = jnp.zeros(16), 2 * (jnp.arange(16) % 2).astype(jnp.float32)
    alone, _ = iql.weighted(networks, SMALL, state.value.params, data(), q)
    both, _ = iql.weighted(networks, SMALL, state.value.params, data()._replace(weight=weight), q)
    np.testing.assert_allclose(both.weight, alone.weight * weight)


def test_batch_loss_is_the_mean_of_single_losses():
    networks, state = built()
    batch, q = data(n=4), jnp.arange(4.0)
    loss = partial(iql.value_loss, state.value.params, networks, SMALL)
    single = [loss(jax.tree.map(lambda x: x[i : i + 1], batch), q[i : i + 1])[0] for i in range(4)]  # noqa: B023
    assert float(loss(batch, q)[0]) == pytest.approx(np.mean(single), rel=1e-5)


def test_half_an_expectile_is_mean_regression():
    networks, state = built()
    config, q = dataclasses.replace(SMALL, expectile=0.5), jnp.arange(16.0)

    def mean_regression(params):
        return 0.5 * jnp.square(q - networks.value.apply(params, data().obs)).mean()

    found = jax.grad(iql.value_loss, has_aux=True)(state.value.params, networks, config, data(), q)[
        0
    ]
    chex.assert_trees_all_close(found, jax.grad(mean_regression)(state.value.params), rtol=1e-5)


def test_zero_beta_is_behaviour_cloning():
    config = dataclasses.replace(SMALL, beta=0.0, dropout=0.2)
    agent = iql.make(FLAT, config)
    cloner = bc.make(FLAT, bc.Config(hidden=(16,), learning_rate=1e-2, dropout=0.2))
    state = agent.init(jax.random.key(0))
    copy = bc.State(state.step, state.actor)
    for i in range(3):
        state, _ = agent.update(state, data(i), jax.random.key(i))
        copy, _ = cloner.update(copy, data(i), jax.random.key(i))
    chex.assert_trees_all_equal(state.actor, copy.actor)


def test_no_action_outside_the_data_is_ever_valued(monkeypatch):
    spy = Spy(iql.build(FLAT, SMALL).critic)
    networks, state = built(critic=spy)
    for name in ("sample", "sample_and_log_prob"):
        monkeypatch.setattr(Gaussian, name, None)
    spy.calls.clear()
    batch = data()
    updated(networks, state, batch)
    assert len(spy.calls) == 2
    assert all(call[1] is batch.obs and call[2] is batch.action for call in spy.calls)


def test_value_and_actor_learn_from_the_target_critics_alone():
    networks, state = built()
    other = iql.init(networks, FLAT, jax.random.key(9))
    base = updated(networks, state, data())
    critic_changed = updated(networks, state._replace(critic=other.critic), data())
    chex.assert_trees_all_equal(
        (base.value, base.actor), (critic_changed.value, critic_changed.actor)
    )
    target_changed = updated(networks, state._replace(target=other.target), data())
    differ(base.value, target_changed.value)
    differ(base.actor, target_changed.actor)


def test_the_critics_loss_moves_the_critics_alone():
    networks, state = built()
    base = updated(networks, state, data())
    changed = updated(networks, state, data()._replace(reward=data(7).reward))
    chex.assert_trees_all_equal((base.value, base.actor), (changed.value, changed.actor))
    differ(base.critic, changed.critic)


def test_the_critics_learn_from_the_trained_value():
    networks, state = built()
    other = iql.init(networks, FLAT, jax.random.key(9))
    base = updated(networks, state, data())
    differ(base.critic, updated(networks, state._replace(value=other.value), data()).critic)


def corl_order(networks, config, state, batch, key):
    """Advantage and next value from the old value function, as CORL computes them."""
    q = networks.critic.apply(state.target, batch.obs, batch.action).min(0)
    rows, _ = iql.weighted(networks, config, state.value.params, batch, q)
    target = iql.critic_target(networks, config, state.value.params, batch)
    value, _ = descend(networks.optimizer, iql.value_loss, state.value, networks, config, batch, q)
    critic, _ = descend(networks.optimizer, sac.critic_loss, state.critic, networks, batch, target)
    slow = optax.incremental_update(critic.params, state.target, config.tau)
    key = jax.random.fold_in(key, iql.ACTOR)
    actor, _ = descend(
        networks.actor_optimizer, networks.imitation, state.actor, networks, rows, key
    )
    return iql.State(state.step + 1, actor, critic, value, slow)


def test_order_of_an_update_is_the_authors():
    networks, state = built()
    ours = updated(networks, state, data())
    theirs = corl_order(networks, SMALL, state, data(), jax.random.key(3))
    chex.assert_trees_all_close(ours.value, theirs.value, rtol=1e-6)
    differ(ours.actor, theirs.actor)
    differ(ours.critic, theirs.critic)


def test_orders_agree_where_the_value_stands_still():
    value = iql.build(FLAT, SMALL).value

    class Frozen(Spy):
        def apply(self, params, obs):
            return value.apply(jax.lax.stop_gradient(params), obs)

    networks, state = built(value=Frozen(value))
    ours = updated(networks, state, data())
    theirs = corl_order(networks, SMALL, state, data(), jax.random.key(3))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-6)


def test_target_follows_the_new_critic():
    networks, state = built()
    new = updated(networks, state, data())
    expected = jax.tree.map(lambda t, q: 0.995 * t + 0.005 * q, state.target, new.critic.params)
    chex.assert_trees_all_close(new.target, expected, rtol=1e-5, atol=1e-7)


def test_actor_s_rate_falls_by_a_cosine_and_the_critics_rate_stays():
    def linear(params, networks, batch, key):
        del networks, batch, key
        return sum(x.sum() for x in jax.tree.leaves(params)), {}

    config = dataclasses.replace(SMALL, decay_steps=4, learning_rate=1e-3)
    networks = iql.build(FLAT, config)._replace(imitation=linear)
    agent = iql.make(FLAT, config, networks)
    plain = iql.make(FLAT, dataclasses.replace(config, decay_steps=0), networks)
    state = other = agent.init(jax.random.key(0))
    other = plain.init(jax.random.key(0))
    for k in range(5):
        new, _ = agent.update(state, data(k), jax.random.key(k))
        other, _ = plain.update(other, data(k), jax.random.key(k))
        moved = state.actor.params["params"]["log_std"] - new.actor.params["params"]["log_std"]
        rate = 1e-3 * 0.5 * (1 + np.cos(np.pi * k / 4))
        np.testing.assert_allclose(moved, rate, rtol=1e-3, atol=1e-8)
        state = new
    chex.assert_trees_all_equal(state.critic, other.critic)


def test_policy_is_a_plain_gaussian_around_a_tanh():
    networks, state = built()
    params = jax.tree.map(lambda x: 100 * x, state.actor.params)
    policy = networks.actor.apply(params, data().obs)
    assert isinstance(policy, Gaussian)
    assert float(jnp.abs(policy.mode()).max()) == 1.0
    np.testing.assert_array_equal(policy.log_std, jnp.zeros((16, 3)))


def test_the_policy_s_log_deviation_stays_between_minus_5_and_2():
    networks, state = built()
    params = state.actor.params["params"] | {"log_std": jnp.array([-99.0, 0.0, 99.0])}
    policy = networks.actor.apply({"params": params}, data().obs)
    np.testing.assert_array_equal(policy.log_std, np.tile([-5.0, 0.0, 2.0], (16, 1)))


def test_permuting_the_batch_changes_nothing():
    networks, state = built()
    order = jax.random.permutation(jax.random.key(1), 16)
    one = updated(networks, state, data())
    two = updated(networks, state, jax.tree.map(lambda x: x[order], data()))
    chex.assert_trees_all_close(one, two, rtol=1e-4, atol=1e-5)


def test_any_weighted_loss_can_take_the_likelihood_s_place():
    def squares(params, networks, batch, key):
        del key
        error = networks.actor.apply(params, batch.obs).mode() - batch.action
        loss = losses.mean(jnp.square(error).sum(-1), batch.weight)
        return loss, {"squares": loss}

    agent = iql.make(FLAT, SMALL, iql.build(FLAT, SMALL)._replace(imitation=squares))
    state = agent.init(jax.random.key(0))
    new, metrics = agent.update(state, data(), jax.random.key(1))
    assert "squares" in metrics
    differ(new.actor.params, state.actor.params)


def test_a_reward_column_is_refused():
    networks, state = built()
    with pytest.raises(AssertionError):
        updated(networks, state, data()._replace(reward=data().reward[:, None]))


def test_bad_settings_are_refused_by_name():
    with pytest.raises(UserError, match="continuous"):
        iql.make(Spec.categorical(3, 2))
    bad = {"gamma": 2, "tau": -1, "expectile": 1.5, "beta": -1.0, "max_weight": 0.0, "dropout": 1}
    for name, value in bad.items():
        with pytest.raises(UserError, match=name):
            iql.make(FLAT, dataclasses.replace(SMALL, **{name: value}))
