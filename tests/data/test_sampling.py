import numpy as np
import pytest

from jaxrl.data import sampling
from jaxrl.data.episodes import Episode, from_episodes
from jaxrl.errors import UserError


def dataset(starts, rewards, lengths):
    """Episodes that start at `starts` and pay `rewards` once, at the end."""
    data = []
    for start, reward, n in zip(starts, rewards, lengths, strict=True):
        obs = np.full((n + 1, 1), start, np.float32)
        pay = np.where(np.arange(n) == n - 1, reward, 0).astype(np.float32)
        data.append(Episode(obs, np.zeros((n, 1), np.float32), pay, np.ones(n, np.float32)))
    return from_episodes(data)


def test_return_weighting_by_hand():
    # Scaled returns 0, 1/2, 1 at temperature 1/2: weights 1, e, e^2 on 1, 2 and 1 transitions.
    p = sampling.return_weighted(dataset([0, 0, 0], [10, 20, 30], [1, 2, 1]), 0.5)
    weights = np.array([1, np.e, np.e, np.e**2])
    np.testing.assert_allclose(p, weights / weights.sum(), rtol=1e-6)


def test_advantage_weighting_by_hand():
    # Starts 0, 0, 1, 1 and returns 0, 2, 10, 12: V = 1 + 10 s, advantages -1, 1, -1, 1.
    data = dataset([0, 0, 1, 1], [0, 2, 10, 12], [1, 1, 1, 1])
    p = sampling.advantage_weighted(data, 1.0)
    weights = np.array([1, np.e, 1, np.e])
    np.testing.assert_allclose(p, weights / weights.sum(), rtol=1e-5)
    rw = sampling.return_weighted(data, 1.0)
    assert rw[2] > rw[1]  # which started well and played badly


def test_low_temperature_takes_the_best_alone():
    p = sampling.return_weighted(dataset([0, 0], [1, 2], [3, 3]), 1e-3)
    np.testing.assert_allclose(p, [0, 0, 0, 1 / 3, 1 / 3, 1 / 3], atol=1e-12)


def test_equal_returns_are_uniform():
    data = dataset([0, 1], [5, 5], [2, 3])
    for probabilities in (sampling.return_weighted, sampling.advantage_weighted):
        np.testing.assert_allclose(probabilities(data), sampling.uniform(data), rtol=1e-6)


def test_probabilities_follow_the_order_of_blocks():
    data = from_episodes(
        [
            Episode(np.zeros((n + 1, 1)), np.zeros((n, 1)), np.full(n, r), np.ones(n))
            for n, r in [(3, 1.0), (5, 2.0), (4, 3.0), (6, 4.0)]
        ],
        2,
    )
    p = sampling.return_weighted(data)
    rewards = [np.asarray(data.steps.reward)[b][~np.asarray(data.steps.last)[b]] for b in range(2)]
    rewards = np.concatenate(rewards)
    np.testing.assert_array_equal(rewards[np.argsort(-p, kind="stable")], np.sort(rewards)[::-1])


def test_temperature_must_be_positive():
    with pytest.raises(UserError, match="temperature"):
        sampling.return_weighted(dataset([0], [0], [1]), 0.0)
