"""Discrete SAC balances a pole, and does not where it cannot look ahead."""

import pytest

from jaxrl import envs
from jaxrl.agents import sac_discrete
from jaxrl.loops import off_policy
from tests.learning import online

pytestmark = pytest.mark.slow

LOOP = off_policy.Config(batch_size=128, capacity=20_000)


def median_return(**changes):
    env = envs.make("jaxrl/CartPole-v1")
    config = sac_discrete.Config(
        hidden=(64, 64), learning_rate=3e-3, tau=0.02, target_entropy=0.3, **changes
    )
    return online.median_return(sac_discrete.make(env.spec, config), env, LOOP, steps=15_000)


def test_cartpole_is_balanced():
    assert median_return() >= 400


def test_without_a_future_it_is_not():
    assert median_return(gamma=0.0) < 200
