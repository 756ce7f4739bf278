"""The brax adapter: true successors, time limits, starts from the pool, the engine by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import make
from jaxrl.envs.base import Timed
from jaxrl.errors import UserError
from tests.envs.common import check_semantics, rollout


@pytest.fixture(scope="module")
def env():
    return make("brax/inverted_pendulum?backend=spring")


@pytest.fixture(scope="module")
def batched(env):
    return jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))


@pytest.fixture(scope="module")
def played(batched):
    """Acted-on observations and `TimeStep` `[T, n]` of a cart that is always pushed one way."""
    reset, step = batched
    rows, key = [], jax.random.key(0)
    with jax.debug_key_reuse(True), jax.numpy_rank_promotion("raise"):
        state, obs = reset(jax.random.split(jax.random.fold_in(key, 0), 2))
        for t in range(60):
            keys = jax.random.split(jax.random.fold_in(key, t + 1), 2)
            time = step(state, jnp.ones((2, 1)), keys)
            rows.append((obs, time._replace(state=None)))
            state, obs = time.state, time.obs
    assert step._cache_size() == 1
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def test_semantics(env, played):
    acted, step = played
    check_semantics(env.spec, acted, step)
    assert env.spec.obs.shape == (4,) and env.spec.action.shape == (1,)
    assert step.last.sum() > 5
    np.testing.assert_array_equal(step.discount, 1 - step.last)


def test_the_successor_of_the_last_step_has_fallen(played):
    _, step = played
    np.testing.assert_array_equal(np.abs(step.next_obs[..., 1]) > 0.2, step.last)


def test_episodes_start_differently(played):
    _, step = played
    starts = step.obs[step.last]
    assert len(np.unique(starts, axis=0)) > len(starts) / 2
    assert np.abs(starts).max() <= 0.0101


def test_time_limit_and_clipping(batched, strict):
    reset, step = batched
    state, _ = reset(jax.random.split(jax.random.key(0), 2))
    late = Timed(state.inner, jnp.array([998, 999]))
    time = step(late, jnp.array([[1.0], [1.0]]), jax.random.split(jax.random.key(1), 2))
    np.testing.assert_array_equal(time.last, [False, True])
    np.testing.assert_array_equal(time.discount, [1, 1])
    np.testing.assert_array_equal(time.state.time, [999, 0])
    beyond = step(late, jnp.array([[7.0], [7.0]]), jax.random.split(jax.random.key(1), 2))
    np.testing.assert_array_equal(beyond.next_obs, time.next_obs)


def test_render_writes_the_viewer(env, batched, strict, tmp_path):
    state, _ = batched[0](jax.random.split(jax.random.key(0), 2))
    state = jax.tree.map(lambda x: x[0], state)
    path = env.render([state, state], tmp_path / "episode")
    assert path.name == "episode.html" and "<html" in path.read_text()


def test_errors():
    with pytest.raises(UserError, match="halfcheetah"):
        make("brax/HalfCheetah")
    with pytest.raises(UserError, match="spring"):
        make("brax/ant?backend=sprin")
    with pytest.raises(UserError, match="swimmer: not usable"):
        make("brax/swimmer")
    with pytest.raises(UserError, match="no option 'engine=spring'"):
        make("brax/ant?engine=spring")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ant?backend=spring", "hopper", "reacher?backend=positional"])
def test_other_tasks_and_engines(strict, name):
    env = make(f"brax/{name}")
    acted, step = rollout(env, steps=30)
    check_semantics(env.spec, acted, step)
