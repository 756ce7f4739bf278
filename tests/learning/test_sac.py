"""SAC swings a pendulum up, and does not where its actor descends the value."""

from functools import partial

import pytest

from jaxrl import envs
from jaxrl.agents import sac
from jaxrl.loops import off_policy
from tests.learning import online

pytestmark = pytest.mark.slow

LOOP = off_policy.Config(batch_size=128, capacity=20_000)


def median_return():
    env = envs.make("jaxrl/Pendulum-v1")
    agent = sac.make(env.spec, sac.Config(hidden=(64, 64), learning_rate=1e-3))
    return online.median_return(agent, env, LOOP, steps=15_000)


def test_pendulum_is_solved():
    assert median_return() >= -200


def test_an_actor_that_descends_the_value_fails(monkeypatch):
    def flipped(params, networks, batch, critic, temperature, key):
        loss, metrics = sac.actor_loss(params, networks, batch, critic, -temperature, key)
        return -loss, metrics  # alpha log pi + Q

    monkeypatch.setattr(sac, "improve", partial(sac.improve, loss=flipped))
    assert median_return() < -600
