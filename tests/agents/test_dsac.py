"""DSAC-T as a whole: what moves when, by which parameters, and what it has in common with SAC."""

import dataclasses
import functools
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from jaxrl.agents import dsac, sac
from jaxrl.errors import UserError
from jaxrl.ops import distributional
from jaxrl.types import Learner, Spec
from tests.agents.catalog import FLAT, transitions

pytestmark = pytest.mark.usefixtures("strict")

SMALL = dsac.Config(hidden=(16, 16), learning_rate=1e-3)
NETWORKS = dsac.build(FLAT, SMALL)


@functools.cache
def built(**changes):
    """An agent whose functions are compiled once for all tests."""
    agent = dsac.make(FLAT, dataclasses.replace(SMALL, **changes))
    return agent._replace(init=jax.jit(agent.init), update=jax.jit(agent.update))


def test_without_variance_it_is_sac(x64):
    state = built().init(jax.random.key(0))
    batch, key = transitions(FLAT, jax.random.key(1)), jax.random.key(2)
    plain = NETWORKS._replace(critic=dsac.Mean(NETWORKS.critic))
    like_sac = sac.State(0, state.actor, None, state.temperature, state.target_critic, None)
    # Theirs draws with the whole key, ours with the first half of it.
    theirs = sac.soft_target(plain, sac.Config(), like_sac, batch, jax.random.split(key)[0])
    ours, _ = dsac.soft_target(NETWORKS, SMALL, state, batch, jax.random.clone(key))
    chex.assert_trees_all_close(ours.mean, theirs, rtol=1e-12)
    error = jnp.array([[0.3, -70.0]])
    d_mean, _ = distributional.paper_gradients(jnp.zeros((1, 2)), error, error, 0.1, 0.1)
    chex.assert_trees_all_close(d_mean, -error)  # Q - y


def changed(old, new):
    return any(bool((a != b).any()) for a, b in zip(*map(jax.tree.leaves, (old, new)), strict=True))


def test_actor_temperature_and_targets_move_at_every_second_update():
    agent = built()
    state, update = agent.init(jax.random.key(0)), agent.update
    for i in range(4):
        new, _ = update(state, transitions(FLAT, jax.random.key(i + 9)), jax.random.key(i))
        for name in ("actor", "temperature", "target_actor", "target_critic"):
            assert changed(getattr(state, name), getattr(new, name)) == (i % 2 == 0), (name, i)
        assert changed(state.critic, new.critic)
        assert changed(state.spread, new.spread)
        state = new


def test_actor_and_temperature_learn_from_old_parameters_and_targets_follow_new_ones():
    smooth = {"learning_rate": 0.1, "adam_eps": 1.0}  # so that a step follows its gradient's size
    agent, key = built(**smooth), jax.random.key(3)
    state, batch = agent.init(jax.random.key(0)), transitions(FLAT, jax.random.key(1))
    new, _ = agent.update(state, batch, key)
    plain = NETWORKS._replace(critic=dsac.Mean(NETWORKS.critic))
    draw = jax.random.fold_in(jax.random.clone(key), dsac.ACTOR)

    @jax.jit
    def step(critic):
        args = plain, batch, critic, jnp.exp(1.0), jax.random.clone(draw)
        grads, metrics = jax.grad(sac.actor_loss, has_aux=True)(state.actor.params, *args)
        updates, _ = optax.adam(0.1, eps=1.0).update(grads, state.actor.opt)
        return optax.apply_updates(state.actor.params, updates), metrics["entropy"]

    actor, entropy = step(state.critic.params)
    chex.assert_trees_all_close(new.actor.params, actor, atol=1e-6)
    other, _ = step(new.critic.params)
    with pytest.raises(AssertionError):  # Gauss-Seidel, as in SAC
        chex.assert_trees_all_close(new.actor.params, other, atol=1e-6)
    log_alpha = new.temperature.params["params"]["value"]
    excess = entropy + FLAT.action.shape[-1]
    toward = 1 - 3e-4 * excess / (jnp.abs(excess) + 1)  # Adam's first step
    chex.assert_trees_all_close(log_alpha, toward, atol=1e-6)
    slow = jax.tree.map(
        lambda x, y: 0.995 * x + 0.005 * y,
        (state.target_actor, state.target_critic),
        (new.actor.params, new.critic.params),
    )
    chex.assert_trees_all_close((new.target_actor, new.target_critic), slow, atol=1e-7)


def test_targets_come_from_the_target_policy():
    state, batch = built().init(jax.random.key(0)), transitions(FLAT, jax.random.key(1))
    shift = partial(jax.tree.map, lambda x: x + 0.1)

    @jax.jit
    def target(state):
        return dsac.soft_target(NETWORKS, SMALL, state, batch, jax.random.key(2))[0]

    moved = state._replace(actor=Learner(shift(state.actor.params), state.actor.opt))
    chex.assert_trees_all_equal(target(state), target(moved))
    assert changed(target(state), target(state._replace(target_actor=shift(state.target_actor))))


def test_start_and_bounds_of_temperature_and_policy():
    state = built().init(jax.random.key(0))
    assert float(sac.alpha(NETWORKS, state)) == pytest.approx(2.71828, rel=1e-5)
    far = 1e4 * jax.random.normal(jax.random.key(1), (64, 5))
    std = jnp.exp(NETWORKS.actor.apply(state.actor.params, far).log_std)
    assert float(std.max()) == pytest.approx(1.6487, rel=1e-4)
    assert dsac.Config().hidden == (256, 256, 256)


def test_the_order_of_a_batch_is_irrelevant_and_weights_select(x64):
    state, batch = built().init(jax.random.key(0)), transitions(FLAT, jax.random.key(1))
    target, _ = dsac.soft_target(NETWORKS, SMALL, state, batch, jax.random.key(2))

    @jax.jit
    def grads(batch, target):
        args = NETWORKS, SMALL, batch, target, state.spread
        return jax.grad(dsac.critic_loss, has_aux=True)(state.critic.params, *args)

    def rows(tree, index):
        return jax.tree.map(lambda x: x[index], tree)

    size = len(batch.reward)
    expected = grads(batch, target)
    order = jax.random.permutation(jax.random.key(3), size)
    chex.assert_trees_all_close(grads(*rows((batch, target), order)), expected, rtol=1e-9)
    half = batch._replace(weight=2.0 * (jnp.arange(size) < size // 2))
    selected = grads(*rows((batch, target), jnp.arange(size // 2)))[0]
    chex.assert_trees_all_close(grads(half, target)[0], selected, rtol=1e-9)


def test_column_rewards_are_refused():
    agent, batch = built(), transitions(FLAT, jax.random.key(1))
    state = agent.init(jax.random.key(0))
    column = batch._replace(reward=batch.reward[:, None], discount=batch.discount[:, None])
    with pytest.raises((AssertionError, ValueError)):
        agent.update(state, column, jax.random.key(2))


class Risky(NamedTuple):
    """Returns N(a, (2 a)^2): the larger the action, the better and the riskier."""

    def apply(self, params, obs, action):
        del params, obs
        mean = jnp.stack([action[..., 0], action[..., 0] + 1])
        return mean, 2 * jnp.abs(mean)


def test_risk_averse_acting_trades_mean_against_deviation():
    networks = dsac.Networks(None, Risky(), None)
    state = dsac.State(0, None, Learner(None, None), None, None, None, None, None)
    actions = jnp.array([0.1, 0.5, 0.9])[:, None, None] * jnp.ones((1, 4, 1))
    obs = jnp.zeros((4, 5))
    mean, std = dsac.value_distribution(networks, SMALL, state, obs, actions[1])
    chex.assert_trees_all_close((mean, std), (jnp.full(4, 0.5), jnp.full(4, 1.0)))
    for caution, best in [(0.0, 0.9), (1.0, 0.1)]:
        chosen = dsac.risk_averse(networks, SMALL, state, obs, actions, caution)
        chex.assert_trees_all_close(chosen, jnp.full((4, 1), best))


def test_candidates_for_risk_averse_acting_come_from_the_agent():
    agent, config = built(normalize_obs=True), dataclasses.replace(SMALL, normalize_obs=True)
    state, obs = agent.init(jax.random.key(0)), jnp.ones((4, 5))
    keys = jax.random.split(jax.random.key(1), 8)
    actions = jax.vmap(partial(agent.act, state, obs))(keys)
    chosen = dsac.risk_averse(NETWORKS, config, state, obs, actions, 1.0)
    assert bool((chosen[None] == actions).all(-1).any(0).all())


@pytest.mark.parametrize(
    ("spec", "config", "named"),
    [
        (Spec.categorical(4, 2), SMALL, "2 choices"),
        (FLAT, dataclasses.replace(SMALL, gamma=1.5), "gamma"),
        (FLAT, dataclasses.replace(SMALL, tau=-0.1), "tau"),
        (FLAT, dataclasses.replace(SMALL, delay=0), "delay"),
        (FLAT, dataclasses.replace(SMALL, temperature=-1.0), "temperature"),
        (FLAT, dataclasses.replace(SMALL, temperature=0.0), "temperature"),
    ],
)
def test_bad_settings_are_refused_by_name(spec, config, named):
    with pytest.raises(UserError, match=named):
        dsac.make(spec, config)
