"""Learning in a simulator, for the checks beside this file."""

import jax
import jax.numpy as jnp

from jaxrl import envs, loops, policies
from jaxrl.loops import evaluate, off_policy
from jaxrl.types import Agent

SEEDS = 3
EPISODES = 20


def median_return(agent: Agent, env: envs.Env, config: off_policy.Config, steps: int) -> float:
    """`median_of` off-policy learning for `steps` environment steps."""
    return median_of(off_policy.make(agent, env, config), agent, env, steps // config.envs)


def median_of(loop: loops.Loop, agent: Agent, env: envs.Env, iterations: int) -> float:
    """Median over seeds of the greedy policy's mean return, after `iterations` of `loop`."""
    loop = loops.seeds(loop, SEEDS, "map")
    keys = jax.vmap(jax.random.key)(jnp.arange(SEEDS))
    start = loop.begin(jax.random.clone(keys))
    *_, (run, _) = loops.train(loop, keys, start, iterations, iterations)
    score = evaluate.make(env, policies.memoryless(agent), EPISODES)
    starts = jax.random.key(100)
    returns = [score(one.state, jax.random.clone(starts)).returns.mean() for one in run]
    return float(jnp.median(jnp.stack(returns)))
