import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import diffusion_ql
from jaxrl.errors import UserError
from jaxrl.ops import diffusion
from jaxrl.types import Agent, Spec
from tests.agents.catalog import FLAT, transitions
from tests.agents.fakes import Module, Spy

SMALL = diffusion_ql.Config(hidden=(16,), embedding=4, learning_rate=1e-3)
pytestmark = pytest.mark.usefixtures("strict")


def data(seed=0, n=8):
    return transitions(FLAT, jax.random.key(seed), (n,))


def compiled(config=SMALL):
    return Agent(*map(jax.jit, diffusion_ql.make(FLAT, config)))


def built(config=SMALL, **replaced):
    """Networks, and a state whose copies differ from what they copy."""
    agent = compiled(config)
    state, other = (agent.init(jax.random.key(i)) for i in range(2))
    networks = diffusion_ql.build(FLAT, config)._replace(**replaced)
    return networks, state._replace(average=other.average, target=other.target)


def test_gradient_reaches_the_parameter_through_every_step(x64):
    """A network with one parameter, and what a change of it does at each step alone."""
    process = diffusion.process(diffusion.variance_preserving(5), clip=None)

    def of_step(params, x, time, obs, rngs=None):
        return params[time.astype(int)][:, None] * x + obs

    networks = diffusion_ql.Networks(Module(of_step), None, process)
    obs = jnp.full((1, 1), 0.1)

    @jax.jit
    def action(params):
        return diffusion_ql.draw(networks, params, obs, obs, jax.random.key(3))[0, 0]

    params = jnp.full(5, 0.9)
    assert abs(float(action(params))) < 1  # not at its bound
    slope = jax.grad(action)(params)
    for t in range(5):
        step = 1e-6 * (jnp.arange(5) == t)
        expected = (action(params + step) - action(params - step)) / 2e-6
        assert abs(float(slope[t])) > 1e-4
        assert float(slope[t]) == pytest.approx(float(expected), rel=1e-4)


def test_value_loss_by_hand_and_whatever_the_scale_of_values():
    q = jnp.array([[1.0, 3.0], [-2.0, 6.0]])
    batch = data(n=2)
    for coin, expected in [(True, -2 / 4), (False, -2 / 2)]:
        for k in (1.0, 50.0):
            found = diffusion_ql.value_loss(k * q, batch, jnp.array(coin))
            assert float(found) == pytest.approx(expected)


def test_both_critics_are_climbed():
    q = jnp.arange(4.0).reshape(2, 2) + 1

    def slope(coin):
        return jax.grad(diffusion_ql.value_loss)(q, data(n=2), jnp.array(coin))

    np.testing.assert_array_equal(slope(True)[1], [0, 0])
    np.testing.assert_array_equal(slope(False)[0], [0, 0])
    assert (slope(True)[0] < 0).all() and (slope(False)[1] < 0).all()


def test_targets_are_valued_by_the_target_at_the_averaged_actor_s_actions():
    spy = Spy(diffusion_ql.build(FLAT, SMALL).critic)
    networks, state = built(critic=spy)
    batch = data()
    found = diffusion_ql.critic_target(networks, SMALL, state, batch, jax.random.key(1))
    (params, obs, action), expected = (
        spy.calls[0],
        diffusion_ql.draw(networks, state.average, batch.next_obs, batch.action, jax.random.key(1)),
    )
    assert params is state.target
    np.testing.assert_array_equal(obs, batch.next_obs)
    np.testing.assert_allclose(action, expected, rtol=1e-6)
    value = spy.module.apply(state.target, obs, action).min(0)
    np.testing.assert_allclose(found, batch.reward + 0.99 * batch.discount * value, rtol=1e-5)


def test_of_several_actions_each_critic_takes_its_best():
    def critic(params, obs, action):
        return jnp.stack([action[:, 0], -action[:, 0]])

    config = dataclasses.replace(SMALL, backup_actions=4, gamma=1.0)
    networks, state = built(config, critic=Module(critic))
    batch = data()._replace(reward=jnp.zeros(8), discount=jnp.ones(8))
    many = jax.tree.map(lambda x: jnp.repeat(x, 4, 0), (batch.next_obs, batch.action))
    action = diffusion_ql.draw(networks, state.average, *many, jax.random.key(1))
    action = action[:, 0].reshape(8, 4)
    found = diffusion_ql.critic_target(networks, config, state, batch, jax.random.key(1))
    np.testing.assert_allclose(found, jnp.minimum(action.max(1), -action.min(1)), rtol=1e-5)


@pytest.mark.parametrize("step, moves", [(0, False), (995, False), (1000, True), (1001, False)])
def test_the_average_waits_and_then_moves_at_every_fifth_update(step, moves):
    agent = compiled()
    _, state = built()
    state = state._replace(step=jnp.int32(step))
    new, _ = agent.update(state, data(), jax.random.key(0))
    expected = state.average
    if moves:
        expected = jax.tree.map(lambda a, p: 0.995 * a + 0.005 * p, state.average, new.actor.params)
    chex.assert_trees_all_close(new.average, expected, rtol=1e-5, atol=1e-8)


def test_the_actor_climbs_the_new_critic(monkeypatch):
    def loss(params, networks, config, batch, critic, key):
        return sum(x.sum() for x in jax.tree.leaves(params)), {"seen": critic}

    monkeypatch.setattr(diffusion_ql, "actor_loss", loss)
    agent = compiled()
    new, metrics = agent.update(agent.init(jax.random.key(0)), data(), jax.random.key(0))
    chex.assert_trees_all_equal(metrics["seen"], new.critic.params)


def test_without_weight_on_the_value_it_clones():
    config = dataclasses.replace(SMALL, eta=0.0)
    networks, state = built()
    params, key = state.actor.params, jax.random.key(1)

    @jax.jit
    def both(params):
        args = networks, config, data(), state.critic.params, key
        climbing = jax.grad(diffusion_ql.actor_loss, has_aux=True)(params, *args)[0]
        cloning = jax.grad(diffusion_ql.denoising_loss, has_aux=True)
        return climbing, cloning(params, networks, data(), jax.random.clone(key))[0]

    chex.assert_trees_all_close(*both(params), atol=1e-7)


def test_clipping_bounds_the_step_of_plain_descent():
    config = dataclasses.replace(SMALL, max_norm=1e-3)
    agent = compiled(config)
    new, _ = agent.update(agent.init(jax.random.key(0)), data(), jax.random.key(0))
    momentum = new.critic.opt[1][0].mu  # (1 - b1) times the clipped gradient
    norm = jnp.sqrt(sum(jnp.square(x).sum() for x in jax.tree.leaves(momentum)))
    assert float(norm) == pytest.approx(1e-4, rel=1e-3)


def test_bad_settings_are_refused_by_name():
    with pytest.raises(UserError, match="continuous"):
        diffusion_ql.make(Spec.categorical(3, 2))
    bad = {"gamma": 2, "tau": -1, "eta": -0.1, "steps": 0, "average_every": 0}
    bad |= {"max_norm": -1.0, "embedding": 3}
    for name, value in bad.items():
        with pytest.raises(UserError, match=name):
            diffusion_ql.make(FLAT, dataclasses.replace(SMALL, **{name: value}))


def test_scores_are_of_the_slow_critics():
    networks, state = built()
    score = diffusion_ql.scorer(FLAT, SMALL)
    found = score(state, data().obs, data().action)
    expected = networks.critic.apply(state.target, data().obs, data().action).min(0)
    np.testing.assert_array_equal(found, expected)
