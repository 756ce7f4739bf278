"""CQL stitches where rewards are large beside its penalty, and is only as good as their scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import cql
from jaxrl.types import Spec, Transition
from tests import toys

SMALL = cql.Config(hidden=(64, 64), actor_learning_rate=1e-4, actions=4, weight=1.0)
SEEDS = 3


def returns(scale):
    agent = cql.make(toys.FORK, SMALL)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    data = toys.fork_stitch(scale=scale)
    states = toys.train(agent, data, keys, steps=6_000, batch_size=128)
    return [toys.fork_return(agent, state) for state in states]


@pytest.mark.slow
def test_large_rewards_are_stitched():
    assert returns(10.0) == [1.0] * SEEDS


@pytest.mark.slow
def test_the_penalty_drowns_small_rewards():
    assert returns(1.0) == [0.3] * SEEDS


def narrow_bandit() -> Transition:
    """Actions in [-0.2, 0.2] of a one-step task whose reward is -a^2."""
    action = jnp.asarray(np.random.default_rng(0).uniform(-0.2, 0.2, (1000, 1)), jnp.float32)
    obs, nothing = jnp.zeros((1000, 1)), jnp.zeros(1000)
    reward = -jnp.square(action[:, 0])
    return Transition(obs, action, reward, nothing, obs, jnp.ones(1000, bool))


def values_over_the_box(weight):
    """Q over [-1, 1] after training on `narrow_bandit`, median over seeds, and the actions."""
    config = cql.Config(hidden=(64, 64), actions=4, weight=weight)
    spec = Spec.continuous(1, 1)
    agent, networks = cql.make(spec, config), cql.build(spec, config)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    states = toys.train(agent, narrow_bandit(), keys, steps=5_000, batch_size=128)
    action = jnp.linspace(-1, 1, 201)[:, None]
    obs = jnp.zeros_like(action)
    q = [networks.critic.apply(s.critic.params, obs, action).min(0) for s in states]
    return np.median(q, axis=0), action[:, 0]


@pytest.mark.slow
def test_actions_outside_the_data_are_not_overestimated():
    free, action = values_over_the_box(0.0)
    held, _ = values_over_the_box(1.0)
    truth, outside = -np.square(action), np.abs(action) > 0.5
    assert (free - truth)[outside].max() > (held - truth)[outside].max() + 0.2
    assert abs(action[held.argmax()]) <= 0.3
