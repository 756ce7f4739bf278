"""PPO balances a pole and swings up a pendulum, and learns nothing from advantages turned round."""

import pytest

from jaxrl import envs
from jaxrl.agents import ppo
from jaxrl.loops import on_policy
from jaxrl.ops import losses
from tests.learning import online

pytestmark = pytest.mark.slow


def median_return(name: str, agent: ppo.Config, loop: on_policy.Config, steps: int) -> float:
    """Median over seeds of the mean return of the greedy policy."""
    env, iterations = envs.make(name), steps // loop.iteration_steps
    made = ppo.make(env.spec, agent)
    playing = on_policy.make(made, env, loop, agent.blocks, agent.gamma)
    return online.median_of(playing, made, env, iterations)


def cartpole(steps: int, **change) -> float:
    loop = on_policy.Config(envs=4, steps=128)
    agent = ppo.Config(
        learning_rate=2.5e-4,
        total_updates=steps // loop.iteration_steps,
        epochs=4,
        minibatches=4,
        entropy_cost=0.01,
        blocks=4,
        **change,
    )
    return median_return("jaxrl/CartPole-v1", agent, loop, steps)


def test_cartpole_is_balanced():
    assert cartpole(500_000) >= 475


def test_cartpole_is_balanced_in_half_precision():
    assert cartpole(500_000, dtype="bfloat16") >= 475


def test_advantages_turned_round_unlearn(monkeypatch):
    right = losses.standardize
    monkeypatch.setattr(losses, "standardize", lambda *x: -right(*x))
    assert cartpole(100_000) < 30


def test_pendulum_is_swung_up():
    loop = on_policy.Config(envs=16, steps=256, normalize_reward=True)
    agent = ppo.Config(gamma=0.9, learning_rate=1e-3, normalize_obs=True, blocks=8)
    assert median_return("jaxrl/Pendulum-v1", agent, loop, 400_000) >= -400
