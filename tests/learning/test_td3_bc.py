"""TD3+BC stitches where its value counts, and not where it only clones."""

import jax
import pytest

from jaxrl.agents import td3_bc
from tests import toys

SEEDS = 3


def returns(alpha):
    agent = td3_bc.make(toys.FORK, td3_bc.Config(hidden=(64, 64), alpha=alpha))
    keys = jax.random.split(jax.random.key(0), SEEDS)
    states = toys.train(agent, toys.fork_stitch(), keys, steps=10_000, batch_size=256)
    return [toys.fork_return(agent, state) for state in states]


@pytest.mark.slow
def test_published_alpha_stitches():
    assert returns(2.5) == [1.0] * SEEDS


@pytest.mark.slow
def test_cloning_alone_does_not():
    assert max(returns(0.0)) <= 0.3
