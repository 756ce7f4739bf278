"""PPO learns over eight devices what it learns on one."""

import jax
import numpy as np
import pytest

from jaxrl import envs, loops, parallel, policies
from jaxrl.agents import ppo
from jaxrl.loops import evaluate, on_policy


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


@pytest.mark.slow
def test_eight_devices_reach_what_one_reaches():
    """In float32 rounding parts the curves; the intervals over seeds still agree."""
    one, eight = interval(returns_on(1)), interval(returns_on(8))
    assert one[0] > 200  # it has learned, and not yet everything
    assert one[0] < eight[1] and eight[0] < one[1]
