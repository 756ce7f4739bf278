from functools import partial

import jax
import numpy as np
import pytest

from jaxrl import loops, parallel
from jaxrl.data import pools, sources
from jaxrl.data.episodes import from_episodes
from jaxrl.data.sources import rlds
from jaxrl.errors import UserError
from jaxrl.loops import offline, streaming
from tests.data import synthetic
from tests.loops.test_offline import equal, play, recorder, regression

BATCH = offline.Config(batch_size=16)
DATA = synthetic.episodes() * 8
SIZE = sum(synthetic.LENGTHS) * 2  # a quarter of the data; pools stay for 5 updates


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "x"
    return sources.find(f"local/{rlds.write(path, DATA, {})}")


def key(seed=0):
    return jax.random.key(seed)[None]


def make(agent, source, size=SIZE, blocks=4, **options):
    return streaming.make(agent, pools.Pools(source, size, blocks), BATCH, **options)


def seen(run):
    """Rewards of all batches so far."""
    return np.asarray(run[0].state.rewards)[: int(run[0].step)]


def test_a_pool_stays_for_one_draw_per_transition():
    assert streaming.updates(78, 16) == 5
    assert streaming.updates(10_000, 256) == 25  # divides the stretch of a hundred
    assert streaming.updates(10**6, 256) == 3900  # a multiple of it
    assert streaming.updates(1, 256) == 1


def test_batches_come_from_the_pool_of_their_time(source):
    parts = pools.Pools(source, SIZE, 4)
    run = play(streaming.make(recorder(), parts, BATCH, how="map"), key(), 20)
    for number in range(4):
        steps = parts[number].steps
        inside = np.asarray(steps.reward)[~np.asarray(steps.last)]
        assert np.isin(seen(run)[5 * number : 5 * number + 5], inside).all()


def test_a_stream_of_one_pool_is_the_dataset_in_memory(source):
    streamed = play(make(recorder(), source, 10**9, how="map"), key(), 12)
    whole = loops.seeds(offline.make(recorder(), from_episodes(DATA, 4), BATCH), 1, "map")
    equal(streamed, play(whole, key(), 12))


SLOW = [pytest.param((1, 1, 9, 9), marks=pytest.mark.slow)]


@pytest.mark.parametrize("stops", [(3, 17), (10, 10), *SLOW])
def test_a_run_resumes_bit_equal_within_and_between_pools(source, stops):
    run, everything = None, play(make(regression(), source, how="map"), key(), 20)
    for n in stops:  # a new process each time, as it were
        loop = make(regression(), source, how="map")
        run = loop.begin(key()) if run is None else jax.tree.map(np.array, run)
        run, _ = loop.advance(jax.tree.map(jax.numpy.asarray, run), key(), n)
    equal(run, everything)


@pytest.mark.parametrize("how", ["map", "vmap"])
def test_seeds_equal_single_runs(source, how):
    keys = jax.random.split(jax.random.key(0), 2)
    loop = make(regression(), source, num_seeds=2, how=how)
    assert loops.seeds(loop, 2, how) is loop
    runs, metrics = loop.advance(loop.begin(jax.random.clone(keys)), jax.random.clone(keys), 12)
    assert metrics["loss"].shape == (2,) and (metrics["updates"] == 12).all()
    for i in range(2):
        (alone,) = play(make(regression(), source, how="map"), keys[i : i + 1], 12)
        mine = runs[i].state.w if how == "map" else runs.state.w[i]
        np.testing.assert_allclose(mine, alone.state.w, rtol=0 if how == "map" else 1e-5)


@pytest.mark.parametrize("axes", [(8, 1), pytest.param((2, 4), marks=pytest.mark.slow)])
def test_meshes_equal_one_device(source, axes):
    mesh = parallel.make_mesh(parallel.MeshConfig(*axes))
    make_one = partial(make, regression(), source, blocks=8, how="vmap")
    one, many = (play(loop, key(), 12) for loop in (make_one(), make_one(mesh=mesh)))
    np.testing.assert_allclose(one.state.w, many.state.w, rtol=1e-5)


def test_metrics_are_means_over_updates_of_all_pools(source):
    loop = make(recorder(), source, how="map")
    run, metrics = loop.advance(loop.begin(key()), key(), 13)
    np.testing.assert_allclose(metrics["reward"], seen(run).mean()[None], rtol=1e-5)
    assert metrics["updates"] == 13


def test_one_program_plays_all_pools(source):
    traced = []

    def update(state, batch, key, agent=regression()):
        traced.append(1)
        return agent.update(state, batch, key)

    loop = make(regression()._replace(update=update), source, how="map")
    play(loop, key(), 25)
    assert len(traced) <= 2  # a trace of `scan` may take two


def test_bad_sizes_are_refused(source):
    with pytest.raises(UserError, match="loop.batch_size: 16 does not split into 3 blocks"):
        make(recorder(), source, blocks=3)
