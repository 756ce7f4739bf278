from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import loops, parallel
from jaxrl.agents import sac
from jaxrl.data.dataset import sample, with_probabilities
from jaxrl.data.episodes import from_episodes
from jaxrl.errors import UserError
from jaxrl.loops import offline
from jaxrl.ops import losses
from jaxrl.types import Agent
from tests.data import synthetic

BATCH = offline.Config(batch_size=16)


class Log(NamedTuple):
    step: jax.Array
    rewards: jax.Array  # [100, B], of every batch seen
    noise: jax.Array  # [100]


def recorder():
    """An agent that remembers its batches."""

    def update(state, batch, key):
        log = Log(
            state.step + 1,
            state.rewards.at[state.step].set(batch.reward),
            state.noise.at[state.step].set(jax.random.normal(key)),
        )
        return log, {"reward": batch.reward.mean()}

    return Agent(lambda key: Log(jnp.int32(0), jnp.zeros((100, 16)), jnp.zeros(100)), update, None)


class Fit(NamedTuple):
    step: jax.Array
    w: jax.Array  # [S]


def regression():
    """Rewards from observations by gradient descent: a learner that compiles at once."""

    def loss(w, batch):
        return losses.mean(jnp.square(batch.obs @ w - batch.reward), batch.weight)

    def update(state, batch, key):
        noise = 0.01 * jax.random.normal(key, state.w.shape)
        value, grad = jax.value_and_grad(loss)(state.w, batch)
        return Fit(state.step + 1, state.w - 0.1 * grad + noise), {"loss": value}

    return Agent(lambda key: Fit(jnp.int32(0), jax.random.normal(key, (3,))), update, None)


def dataset(blocks=4, copies=4):
    return from_episodes(synthetic.episodes() * copies, blocks)


def play(loop, key, *counts):
    run = loop.begin(jax.random.clone(key))
    for n in counts:
        run, _ = loop.advance(run, jax.random.clone(key), n)
    return run


def equal(a, b, rtol=0.0, atol=0.0):
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)  # noqa: E731
    jax.tree.map(close, a, b)


def test_a_batch_is_a_function_of_key_and_step():
    loop = offline.make(recorder(), dataset(), BATCH)
    whole = play(loop, jax.random.key(0), 10)
    equal(whole, play(loop, jax.random.key(0), 3, 1, 6))
    other = play(loop, jax.random.key(1), 10)
    assert (whole.state.rewards != other.state.rewards).any()
    seen = np.asarray(whole.state.rewards)[:10]
    assert len(np.unique(seen, axis=0)) == 10  # no batch is drawn twice
    assert len(np.unique(np.asarray(whole.state.noise)[:10])) == 10
    assert int(whole.step) == 10


def test_a_run_resumes_from_its_leaves():
    data, key = dataset(), jax.random.key(0)
    loop = offline.make(regression(), data, BATCH)
    half = jax.tree.map(np.array, play(loop, key, 5))  # as a checkpoint holds it
    fresh = offline.make(regression(), data, BATCH)
    resumed, _ = fresh.advance(jax.tree.map(jnp.asarray, half), jax.random.clone(key), 5)
    equal(resumed, play(loop, key, 10))


def test_metrics_are_means_over_updates():
    loop = offline.make(recorder(), dataset(), BATCH)
    key = jax.random.key(0)
    run, metrics = loop.advance(loop.begin(jax.random.clone(key)), key, 8)
    np.testing.assert_allclose(metrics["reward"], run.state.rewards[:8].mean(), rtol=1e-5)
    assert metrics["updates"] == 8


def test_the_dataset_is_neither_copied_nor_a_constant():
    data = from_episodes(synthetic.episodes(obs_dim=100) * 500, 4)
    agent = sac.make(data.spec, sac.Config(hidden=(8,)))  # a whole update beside the dataset
    loop = offline.make(agent, data, BATCH)
    key = jax.random.key(0)
    run = loop.begin(jax.random.clone(key))
    compiled = loop.advance.func.lower(run, key, 10, data=loop.data).compile()
    obs, memory = data.steps.obs, compiled.memory_analysis()
    assert memory.argument_size_in_bytes > obs.nbytes
    assert memory.temp_size_in_bytes < obs.nbytes / 4
    shape = ",".join(map(str, obs.shape))
    lines = [line for line in compiled.as_text().splitlines() if f"f32[{shape}]" in line]
    assert lines
    assert not any(" copy(" in line or " constant(" in line for line in lines)


def test_the_dataset_outlives_a_donated_run():
    data = dataset()
    loop = offline.make(regression(), data, BATCH)
    play(loop, jax.random.key(0), 2, 2)
    assert not any(x.is_deleted() for x in jax.tree.leaves(data))


def test_a_run_holds_no_data():
    data = dataset()
    shapes = jax.tree.leaves(offline.make(regression(), data, BATCH).shapes(jax.random.key(0)))
    assert not any(data.steps.reward.shape == x.shape[:2] for x in shapes)


@pytest.mark.parametrize("how", ["map", "vmap"])
def test_seeds_equal_single_runs(how):
    data = dataset()
    loop = offline.make(regression(), data, BATCH)
    keys = jax.random.split(jax.random.key(0), 3)
    runs = play(loops.seeds(loop, 3, how), keys, 5)
    for i in range(3):
        alone = play(loop, keys[i], 5).state
        mine = runs[i].state if how == "map" else _seed(runs.state, i)
        equal(mine, alone, *((0.0, 0.0) if how == "map" else (1e-5, 1e-6)))


def _seed(state, i):
    return jax.tree.map(lambda x: x[i], state._replace(step=state.step[None].repeat(3)))


@pytest.mark.parametrize("axes", [(8, 1), (2, 4), (1, 8)])
def test_meshes_equal_one_device(axes):
    data = dataset(blocks=8)
    data = with_probabilities(data, np.arange(1.0, data.size + 1))
    loop = offline.make(regression(), data, BATCH)
    mesh = parallel.make_mesh(parallel.MeshConfig(*axes))
    sharded = loops.shard(loop, mesh)
    assert all(len(x.sharding.device_set) == 8 for x in jax.tree.leaves(sharded.data))
    one, many = (play(x, jax.random.key(0), 3).state for x in (loop, sharded))
    equal(many, one, rtol=1e-5, atol=1e-5)


def test_a_mesh_moves_no_data_between_devices():
    data = from_episodes(synthetic.episodes(obs_dim=100) * 100, 8)
    mesh = parallel.make_mesh()
    loop = loops.shard(offline.make(recorder(), data, BATCH), mesh)
    key = jax.random.key(0)
    run = loop.begin(jax.random.clone(key))
    text = loop.advance.func.lower(run, key, 4, data=loop.data).compile().as_text()
    rows = data.steps.reward.shape[1]
    gathered = [line for line in text.splitlines() if "all-gather" in line and f",{rows}" in line]
    assert not gathered


def test_iterations_follow_the_strict_rules(strict):
    data = dataset()
    loop = offline.make(regression(), data, BATCH)
    key = jax.random.key(0)
    jax.jit(loop.step)(loop.begin(jax.random.clone(key)), jax.random.clone(key), *loop.data)
    sample(data, jax.random.key(0), 16)


def test_bad_sizes_are_refused():
    data = dataset()
    with pytest.raises(UserError, match="loop.batch_size: 18 does not split into 4 blocks"):
        offline.make(recorder(), data, offline.Config(batch_size=18))
    with pytest.raises(UserError, match="loop.report_every"):
        offline.make(recorder(), data, offline.Config(report_every=0))
