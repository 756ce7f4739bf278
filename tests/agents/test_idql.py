import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import policies
from jaxrl.agents import diffusion_ql, idql, iql
from jaxrl.errors import UserError
from jaxrl.types import Agent, Spec
from tests.agents.catalog import FLAT, transitions

SMALL = idql.Config(
    hidden=(16,), width=16, blocks=1, embedding=8, learning_rate=1e-2, decay_steps=0
)
pytestmark = pytest.mark.usefixtures("strict")


def data(seed=0):
    return transitions(FLAT, jax.random.key(seed), (16,))


def updated(config=SMALL, n=2, **replaced):
    networks = idql.build(FLAT, config)._replace(**replaced)
    agent = Agent(*map(jax.jit, idql.make(FLAT, config, networks)))
    state = agent.init(jax.random.key(0))
    for i in range(n):
        state, metrics = agent.update(state, data(i), jax.random.key(i))
    return agent, state, metrics


def test_values_and_critics_are_iql_s():
    agent = iql.make(FLAT, iql.Config(hidden=(16,), learning_rate=1e-2))
    agent = Agent(*map(jax.jit, agent))
    ours, start, _ = updated(n=1)
    other = agent.init(jax.random.key(0))
    other = other._replace(critic=start.critic, value=start.value, target=start.target)
    for i in range(2):
        start, _ = ours.update(start, data(i), jax.random.key(i))
        other, _ = agent.update(other, data(i), jax.random.key(i))
    for name in ("critic", "value", "target"):
        chex.assert_trees_all_close(getattr(start, name), getattr(other, name), rtol=1e-6)


def seen_weights(config):
    """The weight of the batch that the policy is trained on."""

    def imitation(params, networks, batch, key):
        loss, _ = diffusion_ql.denoising_loss(params, networks, batch, key)
        return loss, {"seen": batch.weight}

    return np.asarray(updated(config, 1, imitation=imitation)[2]["seen"])


def test_without_an_inverse_temperature_all_weigh_alike():
    np.testing.assert_array_equal(seen_weights(SMALL), np.ones(16))


def test_advantage_weights_are_capped():
    weight = seen_weights(dataclasses.replace(SMALL, beta=1e4))
    assert weight.max() == pytest.approx(100.0)
    assert weight.min() < 1


def test_the_average_acts():
    agent, state, _ = updated()
    spoiled = state._replace(actor=jax.tree.map(jnp.zeros_like, state.actor))
    np.testing.assert_array_equal(agent.act(state, data().obs), agent.act(spoiled, data().obs))
    new, _ = agent.update(state, data(), jax.random.key(5))
    expected = jax.tree.map(lambda a, p: 0.999 * a + 0.001 * p, state.average, new.actor.params)
    chex.assert_trees_all_close(new.average, expected, rtol=1e-5, atol=1e-7)


def test_one_candidate_is_a_draw_and_many_are_valued_higher():
    agent, state, _ = updated()
    score, obs, key = idql.scorer(FLAT, SMALL), data().obs, jax.random.key(9)
    zeros = jnp.zeros(16)

    def value(candidates):
        policy = policies.reranked(agent, score, candidates)
        action = policy.step(state, (), obs, zeros, zeros > 0, key)[1]
        return action, score(state, obs, action)

    action, alone = value(1)
    drawn = agent.act(state, obs, jax.random.fold_in(key, policies.PROPOSE))
    np.testing.assert_allclose(action, drawn, rtol=1e-6)
    assert float((value(64)[1] - alone).mean()) > 0


def test_bad_settings_are_refused_by_name():
    with pytest.raises(UserError, match="continuous"):
        idql.make(Spec.categorical(3, 2))
    bad = {"expectile": 1.5, "average_tau": -1.0, "candidates": 0, "steps": 0}
    bad |= {"width": 0, "dropout": 1.0, "embedding": 3}
    for name, value in bad.items():
        with pytest.raises(UserError, match=name):
            idql.make(FLAT, dataclasses.replace(SMALL, **{name: value}))
