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
from tests import toys

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


def one_pull(pay):
    """One pull of arm 0 or 1, which earns `pay(arm, key)`."""

    def reset(key):
        del key
        return jnp.int32(0), jnp.ones(1)

    def dynamics(state, action, key):
        return state, jnp.ones(1), pay(action, key), jnp.asarray(True)

    return auto_reset(Spec.categorical(1, 2), reset, dynamics, 1)


def pulls(arms, paid):
    """Episodes of one pull each."""
    ones = np.ones((2, 1))
    data = [
        Episode(ones, np.array([a], np.int32), np.array([r], float), np.zeros(1))
        for a, r in zip(arms, paid, strict=True)
    ]
    return from_episodes(data, 8, num_actions=2)


LUCK = 0.1  # arm 0 pays with this probability and arm 1 with the rest; arm 1 is seldom pulled


def gamble_env():
    def pay(arm, key):
        return jax.random.bernoulli(key, jnp.where(arm == 1, 1 - LUCK, LUCK)).astype(float)

    return one_pull(pay)


def gamble_data(n=8000):
    rng = np.random.default_rng(0)
    arms = rng.random(n) < LUCK
    return pulls(arms, rng.random(n) < np.where(arms, 1 - LUCK, LUCK))


@pytest.mark.slow
@pytest.mark.parametrize("scale, expected", [(1.0, 0.5), (NO_RETURN, 2 * LUCK * (1 - LUCK))])
def test_luck_is_mistaken_for_skill(scale, expected):
    """P(arm 1 | paid) is 1/2 for any LUCK: it earns 0.5, the best arm 0.9, cloning 0.18."""
    config = dataclasses.replace(SMALL, context=1, return_scale=scale)
    agent, states = trained(config, gamble_data())
    found = mean_returns(agent, config, gamble_env(), states, [1.0], 20_000, greedy=False)
    np.testing.assert_allclose(found, [expected], atol=0.05)


def risky_env():
    """Arm 0 pays 1, arm 1 either 5 or -15."""

    def pay(arm, key):
        return jnp.where(arm == 1, jnp.where(jax.random.bernoulli(key), 5.0, -15.0), 1.0)

    return one_pull(pay)


def risky_data(n=8000):
    rng = np.random.default_rng(0)
    arms = rng.random(n) < 0.5
    return pulls(arms, np.where(arms, np.where(rng.random(n) < 0.5, 5.0, -15.0), 1.0))


@pytest.mark.slow
def test_the_best_return_of_the_data_is_asked_of_the_arm_that_loses_on_average():
    config = dataclasses.replace(SMALL, context=1, return_scale=5.0)
    agent, states = trained(config, risky_data())
    found = mean_returns(agent, config, risky_env(), states, [5.0, 1.0], 20_000, greedy=False)
    np.testing.assert_allclose(found, [-5.0, 1.0], atol=0.5)


def fork_env(start):
    """The task of `toys.fork_stitch`, begun at the state of that number: A, B or M."""

    def reset(key):
        del key
        return jnp.int32(start), jnp.eye(3)[start]

    def dynamics(state, action, key):
        del key
        up, at_a, at_m = action[0] >= 0, state == 0, state == 2
        reward = jnp.where(at_m, jnp.where(up, 1.0, 0.0), jnp.where(at_a & ~up, 0.3, 0.0))
        return jnp.int32(2), jnp.eye(3)[2], reward, at_m | (at_a & ~up)

    return auto_reset(Spec.continuous(3, 1), reset, dynamics, 2)


def fork_data():
    rows = jax.tree.map(np.asarray, toys.fork_stitch())
    first, second = rows.obs[:, 2] == 0, rows.obs[:, 2] == 1
    alone = rows.last & first  # (A -): the only episodes of one step
    long = [np.flatnonzero(first & ~alone), np.flatnonzero(second)]  # in the same order
    return from_episodes(
        [episode(rows, [i]) for i in np.flatnonzero(alone)]
        + [episode(rows, list(pair)) for pair in zip(*long, strict=True)],
        8,
    )


def episode(rows, steps):
    obs = np.concatenate([rows.obs[steps], rows.next_obs[steps[-1:]]])
    return Episode(obs, rows.action[steps], rows.reward[steps], rows.discount[steps])


@pytest.mark.slow
def test_trajectories_are_ranked_and_not_stitched():
    """No trajectory from A scores above 0.3, though 1 is to be had; from B one does."""
    config = dataclasses.replace(SMALL, context=2)
    agent, states = trained(config, fork_data())
    a, b = (mean_returns(agent, config, fork_env(s), states, [1.0], 8)[0] for s in (0, 1))
    assert a <= 0.4
    assert b == 1.0
