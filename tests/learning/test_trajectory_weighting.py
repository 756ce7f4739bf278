"""Drawing good trajectories more often lifts offline agents on data that is mostly bad.

The effect of Hong et al. (2023): an agent that stays close to its data does as well as the data
that it is shown. Uniform drawing is the negative control. CQL has a task of its own: on Pendulum it
learns from random episodes, which reach every state, and weighting made it worse there.
"""

import jax
import numpy as np
import pytest

from jaxrl import envs, policies
from jaxrl.agents import cql, iql, td3_bc
from jaxrl.data import sampling, transforms
from jaxrl.data.dataset import with_probabilities
from jaxrl.data.episodes import Episode, from_episodes
from jaxrl.data.sources import pendulum
from jaxrl.loops import evaluate, offline
from tests import toys

SMALL = {"hidden": (64, 64), "learning_rate": 1e-3}
PENDULUM = {
    "td3_bc": (td3_bc, td3_bc.Config(**SMALL, alpha=2.5)),
    "iql": (iql, iql.Config(**SMALL, expectile=0.7, beta=0.3)),
}
WEIGHTED = [sampling.return_weighted, sampling.advantage_weighted]


def trained(module, config, data, probabilities):
    """The agent and its state after 3,000 updates."""
    data = with_probabilities(data, probabilities(data))
    agent, key = module.make(data.spec, config), jax.random.key(0)
    loop = offline.make(agent, data, offline.Config(batch_size=128))
    run, _ = loop.advance(loop.begin(jax.random.clone(key)), key, 3_000)
    return agent, run.state


def mostly_random():
    """Pendulum: nine random episodes for each one of the controller's."""
    noise = np.repeat([0.0, 1.0], [8, 72])
    columns = map(np.asarray, pendulum.generate(jax.random.key(0), noise))
    rows = zip(*columns, np.ones((80, 200), np.float32), strict=True)
    data = from_episodes([Episode(*row) for row in rows])
    return transforms.named_reward(data, "locomotion")


def pendulum_return(name, probabilities):
    """Mean return of the greedy policy."""
    agent, state = trained(*PENDULUM[name], mostly_random(), probabilities)
    score = evaluate.make(envs.make("jaxrl/Pendulum-v1"), policies.memoryless(agent), 32)
    return float(np.mean(score(state, jax.random.key(1)).returns))


@pytest.mark.slow
@pytest.mark.parametrize("name", PENDULUM)
def test_weighted_trajectories_lift(name):
    uniform = pendulum_return(name, sampling.uniform)
    lifted = [pendulum_return(name, weighted) for weighted in WEIGHTED]
    assert min(lifted) > uniform + 300, (uniform, lifted)


def fork(rng, signs, rewards):
    """An episode of the fork: A, perhaps M, and the end."""
    states = [toys.A, toys.M][: len(signs)]
    action = np.array(signs) * rng.normal(0.7, 0.1, len(signs)).clip(0, 1)
    discount = np.append(np.ones(len(signs) - 1), 0.0)
    columns = np.stack([*states, toys.END]), action[:, None], np.array(rewards), discount
    return Episode(*(np.asarray(x, np.float32) for x in columns))


def mostly_bad():
    """60 % of the episodes end at once with 0.3, 30 % later with nothing, and 10 % with 1."""
    rng = np.random.default_rng(0)
    kinds = [((-1,), (0.3,), 600), ((1, -1), (0, 0), 300), ((1, 1), (0, 1), 100)]
    return from_episodes([fork(rng, s, r) for s, r, n in kinds for _ in range(n)])


def fork_return(probabilities):
    config = cql.Config(**SMALL, actor_learning_rate=3e-4, actions=4, weight=5.0)
    return toys.fork_return(*trained(cql, config, mostly_bad(), probabilities))


@pytest.mark.slow
def test_weighted_trajectories_lift_cql():
    assert fork_return(sampling.uniform) == 0.3
    assert [fork_return(weighted) for weighted in WEIGHTED] == [1.0, 1.0]
