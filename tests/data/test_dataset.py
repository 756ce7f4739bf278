import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrl import parallel
from jaxrl.data.dataset import extents, returns, sample, with_probabilities
from jaxrl.data.episodes import Episode, from_episodes
from jaxrl.errors import UserError
from tests.data import synthetic


def counted(lengths, terminal=False):
    """Episodes whose transitions are numbered: obs i, action -, reward i, next obs i + 0.5."""
    total, data = 0, []
    for n in lengths:
        number = np.arange(total, total + n + 1, dtype=np.float32)
        discount = np.ones(n, np.float32)
        discount[-1] = not terminal
        data.append(Episode(number[:, None], np.zeros((n, 1), np.float32), number[:-1], discount))
        total += n + 1
    return data


def draw(dataset, n, seed=0):
    return jax.jit(sample, static_argnums=2)(dataset, jax.random.key(seed), n)


def test_sample_gives_whole_transitions(strict):
    data = synthetic.episodes()
    batch = draw(from_episodes(data, 2), 512)
    expected = {
        tuple(e.obs[t]): (
            e.action[t],
            e.reward[t],
            e.discount[t],
            e.obs[t + 1],
            t + 1 == len(e.action),
        )
        for e in data
        for t in range(len(e.action))
    }
    fields = batch.action, batch.reward, batch.discount, batch.next_obs, batch.last
    for obs, *found in zip(np.asarray(batch.obs), *map(np.asarray, fields), strict=True):
        for x, y in zip(found, expected[tuple(obs)], strict=True):
            np.testing.assert_array_equal(x, y)
    assert len({tuple(obs) for obs in np.asarray(batch.obs)}) == len(expected)  # all are drawn


def test_a_batch_that_the_blocks_do_not_divide_is_refused():
    data = from_episodes(counted([3] * 8), 8)
    with pytest.raises(UserError, match=r"blocks: found 8, .* 100 samples.*try \[5, 10\]"):
        sample(data, jax.random.key(0), 100)


def test_time_limits_keep_their_discount_and_cut_episodes():
    batch = draw(from_episodes(counted([3, 4])), 64)
    assert (batch.discount == 1).all()
    np.testing.assert_array_equal(np.unique(batch.reward[batch.last]), [2, 7])
    terminal = draw(from_episodes(counted([3, 4], terminal=True)), 64)
    np.testing.assert_array_equal(terminal.discount == 0, terminal.last)


def test_sampling_is_uniform():
    dataset = from_episodes(counted([3, 5, 2, 6]), 2)  # 8 transitions a block
    assert dataset.weight is None
    batch = draw(dataset, 64_000)
    assert batch.weight is None
    counts = np.unique(np.asarray(batch.reward), return_counts=True)[1]
    assert len(counts) == 16
    assert abs(counts - 4000).max() < 5 * np.sqrt(4000)


def test_weights_correct_unequal_blocks():
    dataset = from_episodes(counted([1, 3]), 2)
    batch = draw(dataset, 4000)
    np.testing.assert_allclose(batch.weight.mean(), 1, rtol=1e-6)
    # Rewards are 0 | 2, 3, 4: halves of the batch come from either block, yet the mean is theirs.
    np.testing.assert_allclose((batch.weight * batch.reward).mean(), 9 / 4, rtol=0.02)
    assert abs(float(batch.reward.mean()) - 9 / 4) > 0.5


@pytest.mark.parametrize("blocks", [1, 2])
def test_probabilities_are_followed(blocks):
    dataset = from_episodes(counted([4, 4]), blocks)
    p = np.array([0, 1, 2, 1, 8, 0, 4, 0.0])
    dataset = with_probabilities(dataset, p)
    batch = draw(dataset, 40_000)
    rewards = np.array([0, 1, 2, 3, 5, 6, 7, 8])
    weight = np.ones(40_000) if batch.weight is None else np.asarray(batch.weight)
    share = [weight[np.asarray(batch.reward) == r].sum() / 40_000 for r in rewards]
    np.testing.assert_allclose(share, p / 16, atol=0.01)
    assert not any(s for s, q in zip(share, p, strict=True) if q == 0)  # exactly none


def test_probabilities_hold_over_a_million_entries():
    """A table in float32 cannot tell entries of 1e-6 apart near its end."""
    n = 1_000_000
    dataset = from_episodes(counted([n]))
    p = np.ones(n)
    p[-1000:] = 3
    table = np.asarray(with_probabilities(dataset, p).table)[0].astype(np.float64)
    np.testing.assert_allclose(np.diff(table)[-999:] / 2**32, 3 / p.sum(), rtol=1e-3)
    np.testing.assert_allclose(np.diff(table)[:1000] / 2**32, 1 / p.sum(), rtol=1e-3)


def test_a_block_without_probability_has_weight_zero():
    dataset = with_probabilities(from_episodes(counted([2, 2]), 2), np.array([0, 0, 1, 3.0]))
    batch = draw(dataset, 64)
    np.testing.assert_array_equal(np.unique(batch.weight), [0, 2])
    assert set(np.asarray(batch.reward[batch.weight > 0]).tolist()) == {3.0, 4.0}


@pytest.mark.parametrize(
    "p, message",
    [
        (np.ones(3), r"found shape \(3,\), expected \(4,\)"),
        (np.array([1, 1, np.nan, 1]), "finite"),
        (np.array([1, 1, -1, 1]), ">= 0"),
        (np.zeros(4), "> 0"),
    ],
)
def test_bad_probabilities_are_refused(p, message):
    with pytest.raises(UserError, match=message):
        with_probabilities(from_episodes(counted([2, 2])), p)


def test_blocks_draw_alike_on_every_mesh():
    dataset = from_episodes(synthetic.episodes() * 4, 8)
    dataset = with_probabilities(dataset, np.arange(1.0, dataset.size + 1))
    alone = draw(dataset, 64)
    for devices in (2, 8):
        mesh = parallel.make_mesh(parallel.MeshConfig(data=devices))
        spread = jax.device_put(dataset, NamedSharding(mesh, P("data")))
        jax.tree.map(np.testing.assert_array_equal, alone, draw(spread, 64))


def test_sampling_moves_no_data_between_devices():
    dataset = from_episodes(synthetic.episodes() * 4, 8)
    mesh = parallel.make_mesh()
    dataset = jax.device_put(dataset, NamedSharding(mesh, P("data")))
    compiled = jax.jit(sample, static_argnums=2, out_shardings=NamedSharding(mesh, P("data")))
    text = compiled.lower(dataset, jax.random.key(0), 64).compile().as_text()
    assert "all-gather" not in text
    assert "all-reduce" not in text


def test_block_keys_differ():
    dataset = from_episodes(counted([8]) * 2, 2)  # the same episode in both blocks
    batch = draw(dataset, 64)
    assert (batch.reward[:32] != batch.reward[32:]).any()


def test_spec_and_size_come_from_the_arrays():
    dataset = from_episodes(synthetic.episodes(), 2)
    assert dataset.size == sum(synthetic.LENGTHS)
    assert dataset.blocks == 2
    assert dataset.spec.obs.shape == (3,)
    assert dataset.spec.action.shape == (2,)
    assert not dataset.spec.discrete


def test_discrete_actions_are_counted():
    data = [e._replace(action=np.arange(len(e.action))) for e in synthetic.episodes()]
    spec = from_episodes(data).spec
    assert spec.num_actions == 9
    assert spec.action == jax.ShapeDtypeStruct((), jnp.int32)
    assert from_episodes(data, num_actions=12).spec.num_actions == 12


def test_observations_may_be_trees():
    data = [e._replace(obs={"a": e.obs, "b": e.obs[:, :1]}) for e in synthetic.episodes()]
    batch = draw(from_episodes(data, 2), 32)
    assert batch.next_obs["b"].shape == (32, 1)
    np.testing.assert_array_equal(batch.next_obs["a"][:, :1], batch.next_obs["b"])


def test_extents_and_returns():
    data = synthetic.episodes()
    dataset = from_episodes(data, 3)
    where = extents(dataset)
    assert sorted(where.length) == sorted(synthetic.LENGTHS)
    for block, start, length, value in zip(*where, returns(dataset), strict=True):
        obs = np.asarray(dataset.steps.obs)[block, start : start + length + 1]
        (episode,) = [e for e in data if e.obs.shape == obs.shape and (e.obs == obs).all()]
        np.testing.assert_allclose(value, episode.reward.astype(np.float64).sum(), rtol=1e-6)


def test_dataset_is_a_pytree_of_arrays(x64):
    dataset = from_episodes(synthetic.episodes(), 2)
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(dataset))
    batch = draw(dataset, 16)
    assert batch.obs.dtype == jnp.float32  # as in the file, whatever the default is
    assert dataclasses.replace(dataset, num_actions=3).spec.discrete
