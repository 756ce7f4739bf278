import sys
import time
import weakref
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxrl.data import pools, sources, transforms
from jaxrl.data.dataset import Dataset, returns, sample
from jaxrl.data.episodes import Source, from_episodes, iterate
from jaxrl.data.sources import rlds
from jaxrl.errors import UserError
from tests.data import synthetic
from tests.data.sources.test_rlds import as_tfrecord, rename

TOTAL = sum(synthetic.LENGTHS)


@pytest.fixture
def source(tmp_path):
    return sources.find(f"local/{rlds.write(tmp_path / 'x', synthetic.episodes(), {})}")


def rewards(dataset: Dataset):
    """What tells every transition of the synthetic data from every other."""
    return sorted(float(r) for episode in iterate(dataset) for r in episode.reward)


def test_an_epoch_has_every_transition_once_and_each_epoch_another_order(source):
    parts = pools.Pools(source, size=2 * TOTAL // 6, blocks=1)
    assert parts.episodes == 2
    epochs = [[parts[3 * e + i] for i in range(3)] for e in range(2)]
    everything = rewards(from_episodes(synthetic.episodes()))
    for epoch in epochs:
        assert sorted(sum(map(rewards, epoch), [])) == everything
    assert rewards(epochs[0][0]) != rewards(epochs[1][0])


def test_a_pool_of_all_episodes_is_the_dataset_in_memory(source):
    parts, whole = pools.Pools(source, size=10**9, blocks=2), from_episodes(synthetic.episodes(), 2)
    for seed in range(3):
        keys = jax.random.key(seed), jax.random.key(seed)
        mine, other = sample(parts[seed], keys[0], 8), sample(whole, keys[1], 8)
        np.testing.assert_allclose(mine.weight, other.weight, rtol=1e-6)
        mine, other = (batch._replace(weight=None) for batch in (mine, other))
        jax.tree.map(np.testing.assert_array_equal, mine, other)


def test_pools_have_one_shape_however_long_their_episodes_are(source):
    parts = pools.Pools(source, size=4 * TOTAL // 6, blocks=2)  # epochs end within a pool
    shapes = {str(jax.tree.map(lambda x: x.shape, parts[i])) for i in range(12)}
    assert len(shapes) == 1


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_weighted_mean_over_an_epoch_is_the_mean_over_the_dataset(source, blocks):
    parts = pools.Pools(source, size=TOTAL // 2 + 1, blocks=blocks)
    sums = []
    for pool in (parts[0], parts[1]):
        for block in range(blocks):
            rows = np.asarray(pool.valid[block, : pool.count[block]])
            reward = np.asarray(pool.steps.reward)[block, rows]
            sums.append(float(pool.weight[block]) * reward.mean())
    true = np.concatenate([e.reward for e in synthetic.episodes()]).mean()
    np.testing.assert_allclose(np.mean(sums), true, rtol=1e-5)


def test_reading_ahead_gives_the_same_pools(source):
    parts = pools.Pools(source, size=2 * TOTAL // 6)
    ahead = parts.ahead(2)
    for i in range(2, 8):
        jax.tree.map(np.testing.assert_array_equal, next(ahead), parts[i])


def test_few_episodes_and_pools_are_held_at_a_time(tmp_path):
    path = rlds.write(tmp_path / "many", synthetic.episodes() * 50, {})
    source, episodes, datasets = sources.find(f"local/{path}"), [], []

    def read(number):
        episode = source.read(number)
        episodes.append(weakref.ref(episode.reward))
        alive.append(sum(ref() is not None for ref in episodes))
        return episode

    def prepare(pool):
        datasets.append(weakref.ref(pool.count))
        return pool

    alive, most = [], 0
    parts = pools.Pools(replace(source, read=read), 5 * TOTAL // 6, prepare=prepare)
    ahead = parts.ahead(0)
    for _ in range(20):
        pool = next(ahead)
        time.sleep(0.02)  # in which a reader without bound would run away
        most = max(most, sum(ref() is not None for ref in datasets))
    assert pool.size and 1 < most <= pools.HELD
    assert len(alive) <= (20 + pools.HELD) * parts.episodes
    assert max(alive) <= 2 * parts.episodes < len(source.lengths) / 10


def test_final_observations_of_d4rl_are_mended(tmp_path):
    wrong = np.full((1, 3), 999.5, np.float32)
    spoiled = [e._replace(obs=np.concatenate([e.obs[:-1], wrong])) for e in synthetic.episodes()]
    directory = rename(rlds.write(tmp_path / "x", spoiled, {}), "d4rl_mujoco_hopper")
    source = sources.find(f"tfds/{directory}")
    pool = pools.Pools(source, size=10**9)[0]
    assert rewards(pool) == rewards(sources.load(f"tfds/{directory}", 1))
    batch = sample(pool, jax.random.key(0), 256)
    assert not (np.asarray(batch.next_obs)[np.asarray(batch.discount) > 0] > 900).any()


def test_statistics_take_one_pass_and_are_those_of_the_dataset(source):
    whole = from_episodes(synthetic.episodes())
    found, true = pools.obs_statistics(source), transforms.obs_statistics(whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, true)
    np.testing.assert_allclose(pools.returns(source), returns(whole), rtol=1e-6)


def test_statistics_of_large_offsets_keep_their_digits():
    data = [e._replace(obs=e.obs + np.float32(1e4)) for e in synthetic.episodes()]
    source = from_list(data)
    true = transforms.obs_statistics(from_episodes(data))
    np.testing.assert_allclose(pools.obs_statistics(source).std, true.std, rtol=1e-6)


def from_list(data):
    spec, lengths = from_episodes(data).spec, np.array([len(e.action) for e in data])
    return Source("list", spec, lengths, lambda put: None, read=lambda i: data[i])


def test_some_episodes_only(source):
    some = pools.only(source, np.array([4, 1]))
    assert some.lengths.tolist() == [synthetic.LENGTHS[1], synthetic.LENGTHS[4]]
    data = synthetic.episodes()
    assert rewards(pools.Pools(some, 10**9)[0]) == rewards(from_episodes([data[1], data[4]]))


def test_a_bad_number_is_said_by_the_pool_that_has_it(tmp_path):
    data = synthetic.episodes()
    data[3].reward[1] = np.nan
    source = sources.find(f"local/{rlds.write(tmp_path / 'x', data, {})}")
    with pytest.raises(UserError, match="steps/reward of episode 3: row 1 is not finite"):
        next(pools.Pools(source, 10**9).ahead(0))


def test_what_cannot_be_streamed_is_refused(source, tmp_path):
    with pytest.raises(UserError, match="stream: found 7, expected at least 13 for 2 blocks"):
        pools.Pools(source, 7, blocks=2)
    with pytest.raises(UserError, match="cannot be read at random"):
        pools.check(sources.find("jaxrl/pendulum-mixed-v0"))
    as_tfrecord(rlds.write(tmp_path / "tf", synthetic.episodes(), {}))
    with pytest.raises(UserError, match="cannot be read at random"):
        pools.check(sources.find(f"tfds/{tmp_path / 'tf'}"))
    discrete = from_list(
        [e._replace(action=np.zeros(len(e.action), np.int32)) for e in synthetic.episodes()]
    )
    pools.check(discrete)
    with pytest.raises(UserError, match="lack num_actions"):
        pools.check(replace(discrete, spec=discrete.spec._replace(num_actions=None)))


def test_without_grain_the_extra_is_named(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(UserError, match="stream needs the extra 'grain'"):
        pools.Pools(source, 10**9)
