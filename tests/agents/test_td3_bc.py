import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.agents import bc, td3_bc
from jaxrl.distributions import Deterministic
from jaxrl.errors import UserError
from jaxrl.types import Spec
from tests.agents.catalog import FLAT, transitions
from tests.agents.fakes import Module

SMALL = td3_bc.Config(hidden=(16,), learning_rate=1e-3)
pytestmark = pytest.mark.usefixtures("strict")


def data(seed=0, n=16):
    return transitions(FLAT, jax.random.key(seed), (n,))


def started(config=SMALL):
    """Networks with an optimiser and a state whose actor and critics disagree with targets."""
    networks = td3_bc.build(FLAT, config)._replace(optimizer=optax.adam(1e-3))
    state = td3_bc.init(networks, FLAT, jax.random.key(0))
    other = td3_bc.init(networks, FLAT, jax.random.key(1))
    return networks, state._replace(
        target_actor=other.target_actor, target_critic=other.target_critic
    )


def actor_gradient(config, networks, params, batch, critic):
    loss = partial(td3_bc.actor_loss, networks=networks, config=config)
    grad = jax.grad(lambda p: loss(p, batch=batch, critic=critic, key=jax.random.key(2))[0])
    return grad(params)


def test_target_by_hand():
    networks = td3_bc.Networks(
        actor=Module(lambda params, obs: Deterministic(params * jnp.ones_like(obs))),
        critic=Module(lambda params, obs, action: jnp.stack([action[:, 0], 5 + obs[:, 0]])),
    )
    config = td3_bc.Config(gamma=0.9, target_noise=0.0)
    _, state = started()
    state = state._replace(target_actor=jnp.array(0.5), target_critic=None)
    batch = data(n=2)._replace(
        reward=jnp.array([1.0, 1.0]), discount=jnp.array([1.0, 0.0]), next_obs=jnp.ones((2, 1))
    )
    found = td3_bc.smoothed_target(networks, config, state, batch, jax.random.key(0))
    np.testing.assert_allclose(found, [1 + 0.9 * 0.5, 1.0])


def test_noise_is_clipped_and_so_is_the_action():
    action = jnp.zeros((2000, 2))
    noisy = td3_bc.noisy(action, 0.2, 0.5, jax.random.key(0))
    assert 0.19 < float(noisy.std()) < 0.2
    assert float(td3_bc.noisy(action, 2.0, 0.5, jax.random.key(1)).max()) == 0.5
    assert float(td3_bc.noisy(action + 0.9, 2.0, 0.5, jax.random.key(2)).max()) == 1.0


def test_delay_pattern():
    agent = td3_bc.make(FLAT, SMALL)
    update = jax.jit(agent.update)
    states = [agent.init(jax.random.key(0))]
    for i in range(4):
        states.append(update(states[-1], data(i), jax.random.key(i))[0])
    for i, (old, new) in enumerate(zip(states, states[1:], strict=False)):
        same = [
            bool(jnp.array_equal(jax.tree.leaves(a)[-1], jax.tree.leaves(b)[-1]))
            for a, b in [
                (old.critic.params, new.critic.params),
                (old.actor, new.actor),
                (old.target_actor, new.target_actor),
                (old.target_critic, new.target_critic),
            ]
        ]
        assert same == [False] + [i % 2 == 0] * 3


def test_targets_follow_the_new_parameters():
    networks, state = started()
    new, _ = td3_bc.improve(networks, SMALL, state, data(), jax.random.key(0))
    for params, target, old in [
        (new.actor.params, new.target_actor, state.target_actor),
        (new.critic.params, new.target_critic, state.target_critic),
    ]:
        expected = jax.tree.map(lambda p, t: 0.005 * p + 0.995 * t, params, old)
        chex.assert_trees_all_close(target, expected, rtol=1e-6, atol=1e-7)


def test_metrics_of_rare_steps_average_to_their_value():
    networks, state = started()
    improve = partial(td3_bc.delayed_improve, networks, SMALL)
    _, rest = improve(state, data(), jax.random.key(0))
    _, move = improve(state._replace(step=jnp.int32(1)), data(), jax.random.key(0))
    _, plain = td3_bc.improve(networks, SMALL, state, data(), jax.random.key(0))
    for name, value in plain.items():
        assert float(rest[name]) == 0.0
        assert (float(rest[name]) + float(move[name])) / 2 == pytest.approx(float(value), rel=1e-5)


def test_alpha_zero_is_the_gradient_of_cloning():
    config = dataclasses.replace(SMALL, alpha=0.0)
    networks, state = started(config)
    found = actor_gradient(config, networks, state.actor.params, data(), state.critic.params)

    def cloning(params):
        policy = networks.actor.apply(params, data().obs)
        return bc.squared_error(params, policy, data(), None)[0]

    chex.assert_trees_all_close(found, jax.grad(cloning)(state.actor.params), rtol=1e-6)


def flat(tree):
    return jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)])


def test_large_alpha_points_where_td3_does():
    config = dataclasses.replace(SMALL, alpha=1e6)
    networks, state = started(config)
    found = actor_gradient(config, networks, state.actor.params, data(), state.critic.params)

    def td3(params):
        action = networks.actor.apply(params, data().obs).mode()
        return -networks.critic.apply(state.critic.params, data().obs, action)[0].mean()

    a, b = flat(found), flat(jax.grad(td3)(state.actor.params))
    assert float(a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b)) > 0.9999


def test_the_scale_of_values_does_not_matter():
    networks, state = started()
    big = networks._replace(critic=Module(lambda p, s, a: 50 * networks.critic.apply(p, s, a)))
    args = state.actor.params, data(), state.critic.params
    chex.assert_trees_all_close(
        actor_gradient(SMALL, networks, *args), actor_gradient(SMALL, big, *args), rtol=1e-4
    )


def test_stationary_point_under_a_quadratic_critic():
    networks = td3_bc.Networks(
        actor=Module(lambda params, obs: Deterministic(params * jnp.ones((len(obs), 1)))),
        critic=Module(lambda params, obs, action: (10 - jnp.square(action - 0.3)).T),
    )
    batch = data(n=4)._replace(action=jnp.full((4, 1), -0.4))
    grad = jax.jit(lambda p: actor_gradient(SMALL, networks, p, batch, None))
    point = jnp.array(0.0)
    for _ in range(200):
        point = point - 0.1 * grad(point)
    scale = 2.5 / (10 - (float(point) - 0.3) ** 2)
    assert float(point) == pytest.approx((scale * 0.3 - 0.4) / (scale + 1), abs=1e-4)
    assert abs(float(point) + 0.4) > 0.05


def test_only_the_first_critic_moves_the_actor():
    networks, state = started()
    swapped = networks._replace(
        critic=Module(lambda p, s, a: networks.critic.apply(p, s, a) * jnp.array([[1.0], [7.0]]))
    )
    args = state.actor.params, data(), state.critic.params
    chex.assert_trees_all_close(
        actor_gradient(SMALL, networks, *args), actor_gradient(SMALL, swapped, *args), rtol=1e-6
    )


def test_users_own_regulariser():
    def pull_to_zero(params, dist, batch, key):
        del params, batch, key
        return jnp.square(dist.mode()).mean(), {}

    config = dataclasses.replace(SMALL, alpha=0.0, delay=1, learning_rate=1e-2)
    networks = td3_bc.build(FLAT, config)._replace(regularizer=pull_to_zero)
    agent = td3_bc.make(FLAT, config, networks)

    def step(state, i):
        return agent.update(state, data(), jax.random.fold_in(jax.random.key(0), i))

    state = agent.init(jax.random.key(1))
    last, _ = jax.jit(lambda s: jax.lax.scan(step, s, jnp.arange(200)))(state)
    before, after = (jnp.abs(agent.act(s, data().obs)).mean() for s in (state, last))
    assert after < 0.2 * before


def test_permuting_the_batch_changes_nothing():
    agent = td3_bc.make(FLAT, dataclasses.replace(SMALL, target_noise=0.0, delay=1))
    state = agent.init(jax.random.key(0))
    order = jax.random.permutation(jax.random.key(1), 16)
    one, _ = agent.update(state, data(), jax.random.key(2))
    two, _ = agent.update(state, jax.tree.map(lambda x: x[order], data()), jax.random.key(2))
    chex.assert_trees_all_close(one, two, rtol=1e-4, atol=1e-5)


def test_exploration_noise():
    agent = td3_bc.make(FLAT, SMALL)
    state, obs = agent.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (500, 5))
    noise = agent.act(state, obs, jax.random.key(2)) - agent.act(state, obs)
    assert 0.08 < float(noise.std()) < 0.11


def test_a_reward_column_is_refused():
    agent = td3_bc.make(FLAT, SMALL)
    batch = data()
    with pytest.raises(AssertionError):
        agent.update(
            agent.init(jax.random.key(0)),
            batch._replace(reward=batch.reward[:, None]),
            jax.random.key(1),
        )


def test_bad_settings_are_refused_by_name():
    with pytest.raises(UserError, match="continuous"):
        td3_bc.make(Spec.categorical(3, 2))
    for name, value in {"gamma": 1.5, "tau": -0.1, "alpha": -1.0, "delay": 0}.items():
        with pytest.raises(UserError, match=name):
            td3_bc.make(FLAT, dataclasses.replace(SMALL, **{name: value}))
