import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.data import transforms
from jaxrl.data.dataset import extents, returns
from jaxrl.data.episodes import Episode, from_episodes
from jaxrl.errors import UserError
from tests.data import synthetic


@pytest.fixture
def dataset():
    return from_episodes(synthetic.episodes(), 2)


def acted(dataset, name):
    return np.asarray(getattr(dataset.steps, name))[~np.asarray(dataset.steps.last)]


def test_normalized_observations_have_mean_zero_and_deviation_one(dataset):
    obs = np.concatenate([e.obs[:-1] for e in synthetic.episodes()]).astype(np.float64)
    statistics = transforms.obs_statistics(dataset, eps=0.5)
    np.testing.assert_allclose(statistics.mean, obs.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics.std, obs.std(0) + 0.5, rtol=1e-5)
    normalized = acted(transforms.normalize_obs(dataset), "obs")
    np.testing.assert_allclose(normalized.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(normalized.std(0), 1, rtol=5e-3)


def test_evaluation_normalizes_as_training_did(dataset, strict):
    statistics = transforms.obs_statistics(dataset)
    inside = transforms.normalize_obs(dataset, statistics).steps.obs
    np.testing.assert_array_equal(statistics.normalize(dataset.steps.obs[1, 3]), inside[1, 3])


@pytest.mark.parametrize(
    "name, scale, shift", [("antmaze-iql", 1, -1), ("antmaze-cql", 4, -2), ("antmaze-corl", 10, -5)]
)
def test_antmaze_rewards(dataset, name, scale, shift):
    changed = transforms.NAMED[name](dataset)
    expected = scale * acted(dataset, "reward") + shift
    np.testing.assert_allclose(acted(changed, "reward"), expected, rtol=1e-5, atol=1e-6)
    assert not np.asarray(changed.steps.reward)[np.asarray(dataset.steps.last)].any()


def test_locomotion_returns_span_a_thousand(dataset):
    np.testing.assert_allclose(
        np.ptp(returns(transforms.named_reward(dataset, "locomotion"))), 1000, rtol=1e-5
    )


def test_locomotion_needs_different_returns():
    data = [Episode(np.zeros((2, 1)), np.zeros((1, 1)), np.ones(1), np.ones(1))] * 2
    with pytest.raises(UserError, match="all returns are equal"):
        transforms.reward_affine("locomotion", from_episodes(data))


def test_an_unknown_reward_lists_the_near_ones(dataset):
    with pytest.raises(UserError, match="antmaze-iql"):
        transforms.reward_affine("antmaze", dataset)
    assert transforms.reward_affine("raw", dataset) == (1, 0)


def test_clip_actions(dataset):
    clipped = acted(transforms.clip_actions(dataset, 0.5), "action")
    np.testing.assert_array_equal(clipped, acted(dataset, "action").clip(-0.5, 0.5))
    with pytest.raises(UserError, match="limit"):
        transforms.clip_actions(dataset, 1.5)
    limit = transforms.clip_actions(dataset).steps.action.dtype.type(1 - 1e-5)
    assert np.isfinite(np.arctanh(limit))


def test_top_fraction_keeps_the_best_episodes_within_the_share():
    # Returns 1, 4, 3, 2 with 2, 3, 3, 2 transitions; 60 % of ten are the episodes of 4 and 3.
    data = [
        Episode(np.full((n + 1, 1), n), np.zeros((n, 1)), np.full(n, r / n), np.ones(n))
        for n, r in [(2, 1.0), (3, 4.0), (3, 3.0), (2, 2.0)]
    ]
    best = transforms.top_fraction(from_episodes(data, 2), 0.6)
    assert best.blocks == 2
    np.testing.assert_allclose(sorted(returns(best)), [3, 4], rtol=1e-6)
    assert transforms.top_fraction(from_episodes(data), 0.01).size == 3  # at least one episode


def test_keep_refuses_fewer_episodes_than_blocks(dataset):
    with pytest.raises(UserError, match="blocks"):
        transforms.keep(dataset, np.array([0]))
    assert transforms.keep(dataset, np.array([0, 3])).size == extents(dataset).length[[0, 3]].sum()


def test_transforms_leave_the_rest_alone(dataset):
    for name in ("antmaze-iql", "locomotion", "clip-actions", "normalize-obs"):
        changed = transforms.NAMED[name](dataset)
        assert changed.valid is dataset.valid
        assert changed.steps.discount is dataset.steps.discount
        assert changed.steps.obs.dtype == jnp.float32
