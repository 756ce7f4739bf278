import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrl import parallel
from jaxrl.data import replay
from jaxrl.errors import UserError
from jaxrl.types import Spec, Transition

pytestmark = pytest.mark.usefixtures("strict")
SPEC = Spec.continuous(1, 1)
GAMMA = 0.5


def row(time, blocks, envs, last=False, discount=1.0):
    """The row of one moment, whose numbers name block, environment and time."""
    name = 100.0 * np.arange(blocks)[:, None] + 10.0 * np.arange(envs)[None] + time
    full = np.ones((blocks, envs))
    return Transition(
        obs=name[..., None],
        action=name[..., None] / 1000,
        reward=2.0**time * full,
        discount=discount * full,
        next_obs=name[..., None] + 1,
        last=last * full > 0,
    )


add = jax.jit(replay.add)
sample = jax.jit(replay.sample, static_argnames=("batch", "n_step", "gamma"))


def filled(times, capacity, blocks=1, envs=1, ends=None):
    """A ring after the rows `0 .. times - 1`; `ends` gives the discount where episodes end."""
    ring, ends = replay.empty(SPEC, blocks, capacity, envs), ends or {}
    for t in range(times):
        ring = add(ring, row(t, blocks, envs, t in ends, ends.get(t, 1.0)), jnp.int32(t))
    return ring


def drawn(ring, count, batch=64, seed=0, **options):
    return sample(ring, jnp.int32(count), jax.random.key(seed), batch=batch, **options)


@pytest.mark.parametrize(
    "times, held", [(1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (6, [2, 3, 4, 5])]
)
def test_only_what_is_held_is_drawn(times, held):
    batch = drawn(filled(times, capacity=4), times)
    assert sorted(set(batch.obs[:, 0].tolist())) == held
    assert (batch.reward >= 1).all()  # what was never written pays 0


def test_rows_stay_together():
    batch = drawn(filled(6, 4, blocks=2, envs=3), 6)
    name = batch.obs[:, 0]
    np.testing.assert_allclose(batch.action[:, 0], name / 1000, rtol=1e-6)
    np.testing.assert_array_equal(batch.next_obs[:, 0], name + 1)
    np.testing.assert_array_equal(batch.reward, 2.0 ** (name % 10))
    assert not batch.last.any()


def test_draws_are_uniform():
    n = 60_000
    batch = drawn(filled(6, 4, blocks=2, envs=3), 6, batch=n)
    names, counts = np.unique(np.asarray(batch.obs), return_counts=True)
    assert len(names) == 2 * 3 * 4
    p = 1 / len(names)
    assert np.abs(counts - n * p).max() < 5 * np.sqrt(n * p * (1 - p))


def test_a_draw_is_a_function_of_its_key():
    ring = filled(6, 4)
    chex.assert_trees_all_equal(drawn(ring, 6), drawn(ring, 6))
    assert not (drawn(ring, 6).obs == drawn(ring, 6, seed=1).obs).all()


HAND = {  # start: (rewards 1, 2, 4, 8, 16 discounted by a half, discount, next observation, last)
    "going on": (
        {},
        {0: (1 + 1 + 1, 0.25, 3, False), 1: (6, 0.25, 4, False), 2: (12, 0.25, 5, False)}
        | {3: (8 + 8, 0.5, 5, False), 4: (16, 1, 5, False)},  # stops at the newest row
    ),
    "time limit": (
        {1: 1.0},
        {0: (1 + 1, 0.5, 2, True), 1: (2, 1, 2, True), 2: (12, 0.25, 5, False)},
    ),
    "terminal": (
        {1: 0.0},
        {0: (1 + 1, 0, 2, True), 1: (2, 0, 2, True), 2: (12, 0.25, 5, False)},
    ),
    "the last of three": ({2: 0.0}, {0: (3, 0, 3, True), 1: (2 + 2, 0, 3, True)}),
}


@pytest.mark.parametrize("capacity", [5, 8])
@pytest.mark.parametrize("name", HAND)
def test_three_step_returns_by_hand(name, capacity):
    ends, expected = HAND[name]
    batch = drawn(filled(5, capacity, ends=ends), 5, n_step=3, gamma=GAMMA)
    for start, numbers in expected.items():
        i = int(jnp.argmax(batch.obs[:, 0] == start))
        assert batch.obs[i, 0] == start
        assert batch.action[i, 0] == pytest.approx(start / 1000)
        found = batch.reward[i], batch.discount[i], batch.next_obs[i, 0], batch.last[i]
        assert tuple(map(float, found)) == numbers, start


def test_returns_cross_the_seam_of_a_ring_but_not_its_newest_row():
    batch = drawn(filled(7, capacity=4), 7, n_step=3, gamma=GAMMA)  # slots hold 4, 5, 6, 3
    expected = {3: (8 + 8 + 8, 6), 4: (16 + 16 + 16, 7), 5: (32 + 32, 7), 6: (64, 7)}
    for name, reward, successor in zip(batch.obs, batch.reward, batch.next_obs, strict=True):
        assert (float(reward), float(successor[0])) == expected[int(name[0])]


def test_environments_do_not_mix_in_returns():
    batch = drawn(filled(5, 5, blocks=2, envs=3), 5, n_step=3, gamma=GAMMA)
    steps = batch.next_obs[:, 0] - batch.obs[:, 0]
    np.testing.assert_array_equal(steps, jnp.minimum(3, 5 - batch.obs[:, 0] % 10))


def test_blocks_draw_independently_and_alike_on_every_mesh():
    ring = filled(6, 4, blocks=8, envs=2)
    alone = drawn(ring, 6)
    blocks = alone.obs.reshape(8, 8) // 100
    np.testing.assert_array_equal(blocks, np.arange(8)[:, None].repeat(8, 1))
    within = alone.obs.reshape(8, 8) % 100
    assert len(np.unique(np.asarray(within), axis=0)) == 8

    mesh = parallel.make_mesh(parallel.MeshConfig(data=8))
    split = NamedSharding(mesh, P("data"))
    drawn_there = jax.jit(drawn, static_argnums=(1, 2), out_shardings=split)
    spread = jax.device_put(ring, split)
    chex.assert_trees_all_equal(jax.device_get(drawn_there(spread, 6, 64)), jax.device_get(alone))
    text = drawn_there.lower(spread, 6, 64).compile().as_text()
    assert "all-" not in text  # all-gather, all-reduce, all-to-all
    assert "collective-permute" not in text


def test_any_observation_and_action_fits():
    obs = {"pixels": jax.ShapeDtypeStruct((2, 2), jnp.uint8), "x": SPEC.obs}
    spec = Spec(obs, jax.ShapeDtypeStruct((), jnp.int32), 3)
    ring = replay.empty(spec, 2, 4, 1)
    pixels = jnp.full((2, 1, 2, 2), 255, jnp.uint8)
    seen = {"pixels": pixels, "x": jnp.ones((2, 1, 1))}
    one = jnp.ones((2, 1))
    new = Transition(seen, one.astype(jnp.int32) * 2, one, one, seen, one > 0)
    ring = replay.add(ring, new, jnp.int32(0))
    batch = drawn(ring, 1, batch=4)
    assert batch.obs["pixels"].shape == (4, 2, 2)
    assert batch.obs["pixels"].dtype == jnp.uint8
    assert batch.obs["pixels"].min() == 255
    assert batch.action.tolist() == [2, 2, 2, 2]


def test_capacity_counts_transitions_of_all_environments():
    assert replay.rows(100, 8) == 12
    with pytest.raises(UserError, match="capacity: found 7, expected at least one row of 8"):
        replay.rows(7, 8)
