"""SAC's equations; its optima are in test_sac_optima.py, its settings in test_sac_options.py."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl import networks as nets
from jaxrl.agents import sac
from jaxrl.types import Spec, Transition
from tests.agents.catalog import FLAT
from tests.agents.sac_updates import CONFIG, RATE, batch_of, begin, plain, updated
from tests.agents.stubs import Fixed, Stub, noisy_actor

pytestmark = pytest.mark.usefixtures("strict")


def hand_target(config, discount, last):
    """The target where min Q' = 2, log pi' = -0.5, alpha = 0.2 and r = 1."""
    networks = sac.Networks(
        actor=Stub(lambda params, obs: Fixed(jnp.zeros((1, 1)), jnp.array([-0.5]))),
        critic=Stub(lambda params, obs, action: jnp.array([[3.0], [2.0]])),
        temperature=nets.Scalar(jnp.log(0.2)),
        optimizer=optax.sgd(RATE),
    )
    state = sac.init(networks, Spec.continuous(1, 1), config, jax.random.key(0))
    obs, one = jnp.zeros((1, 1)), jnp.ones(1)
    batch = Transition(obs, obs, one, discount * one, obs, jnp.array([last]))
    return float(sac.soft_target(networks, config, state, batch, jax.random.key(0))[0])


@pytest.mark.parametrize(
    "changes, discount, last, expected",
    [
        ({}, 1, False, 2.89),  # 1 + 0.9 (2 + 0.2 * 0.5)
        ({}, 1, True, 2.89),  # a time limit does not end the MDP
        ({}, 0, True, 1.0),
        ({"backup_entropy": False}, 1, False, 2.8),
        ({"reward_scale": 10.0}, 1, False, 11.89),  # scales rewards, not the entropy
        ({"gamma": 0.0}, 1, False, 1.0),
    ],
)
def test_target(changes, discount, last, expected):
    config = dataclasses.replace(CONFIG, **changes)
    assert hand_target(config, discount, last) == pytest.approx(expected, abs=1e-6)


def descended(loss, params):
    """One step of plain gradient descent."""
    return jax.tree.map(lambda p, g: p - RATE * g, params, jax.jit(jax.grad(loss))(params))


def test_an_update_is_these_three_losses_in_this_order():
    """Targets are numbers, each loss moves its own parameters, and the critic moves first."""
    networks, old, update = plain()
    batch, key = batch_of(0), jax.random.key(2)
    actor, critic, temperature = networks[:3]
    new, _ = update(old, batch, jax.random.key(2))
    alpha = 1.0

    next_action, next_log_prob = actor.apply(old.actor.params, batch.next_obs).sample_and_log_prob(
        jax.random.fold_in(key, sac.TARGET)
    )
    next_q = critic.apply(old.target, batch.next_obs, next_action).min(0) - alpha * next_log_prob
    y = np.array(batch.reward + 0.9 * batch.discount * next_q)

    def critic_loss(params):
        return jnp.square(critic.apply(params, batch.obs, batch.action) - y[None]).mean(1).sum()

    new_critic = descended(critic_loss, old.critic.params)

    def sampled(params):
        policy = actor.apply(params, batch.obs)
        return policy.sample_and_log_prob(jax.random.fold_in(key, sac.ACTOR))

    def actor_loss(params):
        action, log_prob = sampled(params)
        return (alpha * log_prob - critic.apply(new_critic, batch.obs, action).min(0)).mean()

    new_actor = descended(actor_loss, old.actor.params)
    entropy = -float(sampled(old.actor.params)[1].mean())
    log_alpha = jax.tree.map(lambda x: x - RATE * alpha * (entropy + 3), old.temperature.params)

    close = partial(chex.assert_trees_all_close, atol=1e-6, rtol=1e-5)
    close(new.critic.params, new_critic)
    close(new.actor.params, new_actor)
    close(new.temperature.params, log_alpha)
    close(new.target, optax.incremental_update(new_critic, old.target, CONFIG.tau))


@pytest.mark.parametrize("form, scale", [("J1", 0.5), ("J2", 1.0)])
@pytest.mark.parametrize("excess", [-1.0, 1.0])
def test_temperature_rises_where_entropy_is_too_low(form, scale, excess):
    config = dataclasses.replace(CONFIG, temperature_loss=form)
    networks = sac.Networks(None, None, nets.Scalar(jnp.log(0.5)))
    params = networks.temperature.init(jax.random.key(0))

    def loss(params):
        return sac.temperature_loss(params, networks, config, excess)[0]

    slope = jax.grad(loss)(params)["params"]["value"]
    assert float(slope) == pytest.approx(scale * excess, abs=1e-6)
    up, down = (jax.tree.map(lambda x, d=d: x + d, params) for d in (1e-2, -1e-2))
    assert float(slope) == pytest.approx(float(loss(up) - loss(down)) / 2e-2, abs=1e-3)
    assert bool(descended(loss, params)["params"]["value"] < jnp.log(0.5)) == (excess > 0)


@pytest.mark.parametrize("target_entropy, rises", [(10.0, True), (-10.0, False)])
def test_target_entropy_counts_every_action_dimension(target_entropy, rises):
    config = dataclasses.replace(CONFIG, target_entropy=target_entropy)
    networks, old = begin(config)
    new, metrics = updated(networks, config, old, batch_of(0))
    assert (sac.alpha(networks, new) > 1) == rises
    expected = metrics["entropy"] - 3 * target_entropy
    np.testing.assert_allclose(metrics["temperature_loss"], expected, rtol=1e-6)


def test_a_fixed_temperature_stays():
    config = dataclasses.replace(CONFIG, learn_temperature=False, temperature=0.3)
    networks, old = begin(config)
    new, metrics = updated(networks, config, old, batch_of(0))
    chex.assert_trees_all_equal(new.temperature, old.temperature)
    assert float(sac.alpha(networks, new)) == pytest.approx(0.3)
    assert "temperature_loss" not in metrics


def test_the_policy_s_log_deviation_stays_between_minus_20_and_2():
    networks, state, _ = plain()
    params = jax.tree.map(lambda x: 1e3 * x, state.actor.params)
    log_std = networks.actor.apply(params, batch_of(0).obs).log_std
    assert (float(log_std.min()), float(log_std.max())) == (-20.0, 2.0)


@pytest.mark.parametrize("tau", [0.0, 0.005, 1.0])
def test_the_target_follows_the_new_critic(tau):
    config = dataclasses.replace(CONFIG, tau=tau)
    networks, old = begin(config)
    old = old._replace(target=jax.tree.map(lambda x: x + 1, old.target))
    new, _ = updated(networks, config, old, batch_of(0))
    if tau in (0.0, 1.0):
        chex.assert_trees_all_equal(new.target, new.critic.params if tau else old.target)
    expected = jax.tree.map(lambda n, o: tau * n + (1 - tau) * o, new.critic.params, old.target)
    chex.assert_trees_all_close(new.target, expected, rtol=1e-6, atol=1e-7)


def swapped(params):
    """Parameters of two critics, exchanged."""
    (one, two), root = sorted(params["params"]), params["params"]
    return {"params": {one: root[two], two: root[one]}}


def test_critics_differ_and_are_exchangeable():
    networks, old, update = plain()
    batch = batch_of(0)
    exchanged = old._replace(
        critic=old.critic._replace(params=swapped(old.critic.params)), target=swapped(old.target)
    )
    new, _ = update(old, batch, jax.random.key(2))
    other, _ = update(exchanged, batch, jax.random.key(2))
    chex.assert_trees_all_close(swapped(other.critic.params), new.critic.params, atol=1e-6)
    chex.assert_trees_all_close(other.actor, new.actor, atol=1e-6)
    for params in (old.critic.params, new.critic.params):
        q = networks.critic.apply(params, batch.obs, batch.action)
        assert q.shape == (2, 16)
        assert jnp.abs(q[0] - q[1]).max() > 0.05


@pytest.mark.parametrize("wrong", [("reward",), ("discount",), ("reward", "discount")])
def test_a_trailing_axis_is_refused(wrong):
    _, state, update = plain()
    batch = batch_of(0)
    batch = batch._replace(**{name: getattr(batch, name)[:, None] for name in wrong})
    with pytest.raises((AssertionError, ValueError)):
        update(state, batch, jax.random.key(2))


def rows(batch, index):
    return jax.tree.map(lambda x: x[jnp.array(index)], batch)


def test_rows_are_independent_of_their_place_and_weighted():
    """Where noise belongs to the row, order does not matter, and weight 2 is seeing it twice."""
    networks, state = begin(spec=Spec.continuous(5, 1))
    networks = networks._replace(actor=noisy_actor())
    actor = sac.learner(networks.optimizer, networks.actor.params)
    state, batch = state._replace(actor=actor), batch_of(0)
    batch = rows(batch._replace(action=batch.action[:, :1]), [0, 1, 2, 3])
    close = partial(chex.assert_trees_all_close, rtol=1e-5, atol=1e-6)

    new, metrics = updated(networks, CONFIG, state, batch)
    close(updated(networks, CONFIG, state, rows(batch, [2, 0, 3, 1])), (new, metrics))
    twice, _ = updated(networks, CONFIG, state, rows(batch, [0, 0, 2, 3]))
    weighted = batch._replace(weight=jnp.array([2.0, 0, 1, 1]))
    close(updated(networks, CONFIG, state, weighted)[0], twice)
    with pytest.raises(AssertionError):
        close(new, twice)


def test_a_batch_is_the_mean_of_its_rows():
    networks, state, _ = plain()
    batch, y = batch_of(0), jnp.linspace(-1, 1, 16)

    def grad(batch, y):
        def loss(params):
            return sac.critic_loss(params, networks, batch, y)[0]

        return jax.value_and_grad(loss)(state.critic.params)

    each = jax.jit(jax.vmap(grad))(jax.tree.map(lambda x: x[:, None], batch), y[:, None])
    whole = jax.jit(grad)(batch, y)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x.mean(0), each), whole, atol=1e-6)


def test_without_noise_and_entropy_the_actor_climbs_q():
    """alpha = 0, sigma = e^-20 and gamma = 0: regression to r, and the chain rule."""
    config = dataclasses.replace(CONFIG, gamma=0.0, temperature=0.0, learn_temperature=False)
    actor = sac.build(FLAT, config).actor.clone(log_std_min=-20.0, log_std_max=-20.0)
    networks, old = begin(config, actor=actor)
    batch = batch_of(0)
    target = sac.soft_target(networks, config, old, batch, jax.random.key(0))
    chex.assert_trees_all_equal(target, batch.reward)
    new, _ = updated(networks, config, old, batch)

    def mode(params):
        return jnp.tanh(actor.apply(params, batch.obs).mean)

    def q(action):
        return networks.critic.apply(new.critic.params, batch.obs, action).min(0).mean()

    action, pull_back = jax.vjp(mode, old.actor.params)
    (ascent,) = pull_back(jax.grad(q)(action))
    expected = jax.tree.map(lambda p, g: p + RATE * g, old.actor.params, ascent)
    chex.assert_trees_all_close(new.actor.params, expected, atol=1e-6)
