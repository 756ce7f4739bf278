"""Conditioning on a return: obeyed where actions decide it, misleading where chance does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import policies
from jaxrl.agents import decision_transformer as dt
from jaxrl.data import segments
from jaxrl.data.episodes import Episode, from_episodes
from jaxrl.envs.base import auto_reset
from jaxrl.loops import evaluate, offline
from jaxrl.types import Spec

SMALL = dt.Config(
    width=16, layers=2, state=2, max_timestep=8, dropout=None, learning_rate=3e-3, warmup=100
)
UPDATES, BATCH = 1000, 64
SEEDS = 3
NO_RETURN = 1e9  # a scale that leaves nothing of a return


def trained(config, dataset, seeds=SEEDS):
    """An agent, and its state after training with each seed."""
    agent = dt.make(dataset.spec, config)
    windows = segments.contexts(dataset, config.context)
    loop = offline.make(agent, windows, offline.Config(batch_size=BATCH), segments.draw)
    keys = [jax.random.key(seed) for seed in range(seeds)]
    runs = [loop.advance(loop.begin(jax.random.clone(key)), key, UPDATES)[0] for key in keys]
    return agent, [run.state for run in runs]


def mean_returns(agent, config, env, states, targets, episodes, greedy=True):
    """Mean return for every target, median over seeds."""
    policy = policies.windowed(agent, env.spec, config.context, jnp.asarray(targets, float))
    score = evaluate.make(env, policy, episodes, greedy)
    returns = [score(state, jax.random.key(9)).returns for state in states]
    return np.median(np.reshape(returns, (len(states), -1, len(targets))).mean(1), axis=0)


COUNT = 5  # steps


def count_env():
    """Pays 1 for every positive action, five times."""

    def reset(key):
        del key
        return jnp.int32(0), jnp.ones(1)

    def dynamics(state, action, key):
        del key
        return state, jnp.ones(1), (action[0] > 0).astype(float), jnp.asarray(False)

    return auto_reset(Spec.continuous(1, 1), reset, dynamics, COUNT)


def count_data(episodes=2000):
    rng = np.random.default_rng(0)
    ones = np.ones((COUNT + 1, 1)), np.ones(COUNT)
    actions = rng.uniform(-1, 1, (episodes, COUNT, 1))
    return from_episodes(
        [Episode(ones[0], a, (a[:, 0] > 0).astype(float), ones[1]) for a in actions], 8
    )


def counted(seeds=SEEDS, **changes):
    config = dataclasses.replace(SMALL, context=COUNT, **changes)
    agent, states = trained(config, count_data(), seeds)
    return mean_returns(agent, config, count_env(), states, [5.0, 0.0], 8)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["transformer", "mamba"])
def test_the_return_that_is_asked_for_is_reached(backbone):
    high, low = counted(backbone=backbone, return_scale=5.0)
    assert high >= 4.8
    assert low <= 0.2


@pytest.mark.slow
def test_without_its_return_it_cannot_choose():
    high, low = counted(seeds=1, return_scale=NO_RETURN)
    assert high == low


LUCK = 0.1  # arm 0 pays with this probability and arm 1 with the rest; arm 1 is seldom pulled


def gamble_env():
    """One pull of an arm."""

    def reset(key):
        del key
        return jnp.int32(0), jnp.ones(1)

    def dynamics(state, action, key):
        paid = jax.random.bernoulli(key, jnp.where(action == 1, 1 - LUCK, LUCK))
        return state, jnp.ones(1), paid.astype(float), jnp.asarray(True)

    return auto_reset(Spec.categorical(1, 2), reset, dynamics, 1)


def gamble_data(pulls=8000):
    rng = np.random.default_rng(0)
    arm = rng.random(pulls) < LUCK
    paid = rng.random(pulls) < np.where(arm, 1 - LUCK, LUCK)
    ones = np.ones((2, 1))
    data = [
        Episode(ones, np.array([a], np.int32), np.array([r], float), np.zeros(1))
        for a, r in zip(arm, paid, strict=True)
    ]
    return from_episodes(data, 8, num_actions=2)


@pytest.mark.slow
@pytest.mark.parametrize("scale, expected", [(1.0, 0.5), (NO_RETURN, 2 * LUCK * (1 - LUCK))])
def test_luck_is_mistaken_for_skill(scale, expected):
    """P(arm 1 | paid) is 1/2 for any LUCK: it earns 0.5, the best arm 0.9, cloning 0.18."""
    config = dataclasses.replace(SMALL, context=1, return_scale=scale)
    agent, states = trained(config, gamble_data())
    found = mean_returns(agent, config, gamble_env(), states, [1.0], 20_000, greedy=False)
    np.testing.assert_allclose(found, [expected], atol=0.05)
