"""PPO balances a pole and swings up a pendulum, and learns nothing from advantages turned round."""

import jax
import numpy as np
import pytest

from jaxrl import envs, loops, parallel, policies
from jaxrl.agents import ppo
from jaxrl.loops import evaluate, on_policy
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


def returns_on(devices: int, seeds: int = 8) -> np.ndarray:
    """Mean returns of as many seeds, each after 49,152 steps of CartPole over so many devices."""
    env, sizes = envs.make("jaxrl/CartPole-v1"), on_policy.Config(envs=8, steps=128)
    config = ppo.Config(learning_rate=1e-3, epochs=4, minibatches=4, entropy_cost=0.01, blocks=8)
    agent = ppo.make(env.spec, config)
    loop = on_policy.make(agent, env, sizes, blocks=8)
    if devices > 1:
        loop = loops.shard(loop, parallel.make_mesh(parallel.MeshConfig(data=devices)))
    score, found = evaluate.make(env, policies.memoryless(agent), 50), []
    for key in map(jax.random.key, range(seeds)):
        run = loop.begin(jax.random.clone(key))
        *_, (run, _) = loops.train(loop, key, run, 48, 48)
        found.append(score(jax.device_get(run.state), jax.random.key(100)).returns.mean())
    return np.array(found)


def interval(returns: np.ndarray) -> np.ndarray:
    """Bounds of the mean, 95 % (Student's t with seven degrees of freedom)."""
    return returns.mean() + np.array([-1, 1]) * 2.365 * returns.std(ddof=1) / np.sqrt(len(returns))


def test_eight_devices_reach_what_one_reaches():
    """In float32 rounding parts the curves; the intervals over seeds still agree."""
    one, eight = interval(returns_on(1)), interval(returns_on(8))
    assert one[0] > 200  # it has learned, and not yet everything
    assert one[0] < eight[1] and eight[0] < one[1]
