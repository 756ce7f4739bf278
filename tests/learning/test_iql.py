"""IQL stitches: no trajectory from A scores above 0.3, dynamic programming finds 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import bc, iql
from tests import toys

SMALL = {"hidden": (64, 64), "learning_rate": 3e-4}
SEEDS = 3


def trained(module, **config):
    agent = module.make(toys.FORK, module.Config(**SMALL, **config))
    keys = jax.random.split(jax.random.key(0), SEEDS)
    states = toys.train(agent, toys.fork_stitch(), keys, steps=10_000, batch_size=256)
    return agent, states, [toys.fork_return(agent, state) for state in states]


def values(states):
    """V at A and at M, median over seeds."""
    networks = iql.build(toys.FORK, iql.Config(**SMALL))
    obs = jnp.asarray(np.stack([toys.A, toys.M]), jnp.float32)
    return np.median([networks.value.apply(s.value.params, obs) for s in states], axis=0)


@pytest.mark.slow
def test_high_expectile_stitches():
    _, states, returns = trained(iql, expectile=0.9, beta=10.0)
    assert returns == [1.0] * SEEDS
    # Expectile of a Bernoulli(10/55) at M; of {0.3, gamma V(M)} in equal parts at A.
    np.testing.assert_allclose(values(states), [0.624, 0.6667], atol=0.02)


@pytest.mark.slow
def test_mean_regression_evaluates_the_behaviour_and_does_not_stitch():
    _, states, returns = trained(iql, expectile=0.5, beta=10.0)
    assert returns == [0.3] * SEEDS
    np.testing.assert_allclose(values(states), [0.24, 0.1818], atol=0.02)


@pytest.mark.slow
def test_cloning_does_not_stitch():
    # At A both signs are as frequent, at M the wrong one is: never 1.
    assert max(trained(bc)[2]) <= 0.3
