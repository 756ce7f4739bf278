"""DSAC-T swings a pendulum up, and does not where its actor descends the value."""

import pytest

from jaxrl import envs
from jaxrl.agents import dsac
from jaxrl.loops import off_policy
from tests.learning import online

pytestmark = pytest.mark.slow

LOOP = off_policy.Config(batch_size=128, capacity=20_000)


def median_return(critic_loss="paper"):
    env = envs.make("jaxrl/Pendulum-v1")
    config = dsac.Config(hidden=(64, 64), learning_rate=3e-4, critic_loss=critic_loss)
    return online.median_return(dsac.make(env.spec, config), env, LOOP, steps=20_000)


@pytest.mark.parametrize("critic_loss", ["paper", "huber2025"])
def test_pendulum_is_solved(critic_loss):
    assert median_return(critic_loss) >= -200


def test_an_actor_that_descends_the_value_fails(monkeypatch):
    def flipped(self, params, obs, action):
        return -self.critic.apply(params, obs, action)[0]

    monkeypatch.setattr(dsac.Mean, "apply", flipped)
    assert median_return() < -600
