"""The embedded Pendulum against Gymnasium's."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxrl.envs import make, pendulum
from tests.envs.common import check_semantics, rollout


def random_states(n, seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform([-np.pi, -8], [np.pi, 8], (n, 2)), generator.uniform(-1.5, 1.5, (n, 1))


def gymnasium_step(state, action):
    env = gymnasium.make("Pendulum-v1").unwrapped
    env.state = state
    obs, reward, terminated, _, _ = env.step(2 * np.clip(action, -1, 1))
    return obs, reward, terminated


def our_steps(states, actions):
    start = pendulum.Pendulum(*jnp.asarray(states).T)
    step = jax.vmap(lambda s, a: pendulum.dynamics(s, a, jax.random.key(0)))
    return jax.device_get(jax.jit(step)(start, jnp.asarray(actions)))


def compare_steps(atol):
    states, actions = random_states(300)
    _, obs, reward, terminal = our_steps(states, actions)
    expected = [gymnasium_step(s, a) for s, a in zip(states, actions, strict=True)]
    np.testing.assert_allclose(obs, np.stack([e[0] for e in expected]), atol=atol)
    np.testing.assert_allclose(reward, np.stack([e[1] for e in expected]), atol=atol)
    assert not terminal.any()


def test_a_step_equals_gymnasium(x64):
    compare_steps(atol=1e-6)


def test_a_step_equals_gymnasium_in_single_precision():
    compare_steps(atol=5e-6)  # a unit in the last place of a reward of 16 is 1.9e-6


@pytest.mark.parametrize("seed", range(3))
def test_an_episode_equals_gymnasium(x64, seed):
    ours, theirs = make("jaxrl/Pendulum-v1"), gymnasium.make("Pendulum-v1")
    state, obs = ours.reset(jax.random.key(seed))
    theirs.reset(seed=seed)
    theirs.unwrapped.state = np.array(state.inner)
    step = jax.jit(ours.step)
    actions = np.random.default_rng(seed).uniform(-1, 1, (200, 1))
    for t, action in enumerate(actions):
        expected, reward, _, truncated, _ = theirs.step(2 * action)
        time = step(state, jnp.asarray(action), jax.random.key(t))
        np.testing.assert_allclose(time.next_obs, expected, atol=1e-6)
        np.testing.assert_allclose(time.reward, reward, atol=1e-6)
        assert bool(time.last) == truncated == (t == 199)
        assert time.discount == 1
        state = time.state
    assert state.time == 0 and not np.allclose(time.obs, time.next_obs)


def test_semantics(strict):
    env = pendulum.make()
    acted, step = rollout(env, steps=201)
    check_semantics(env.spec, acted, step)
    assert step.last.sum() == 4
    assert env.spec.action.shape == (1,) and not env.spec.discrete


def test_start_states_cover_the_circle():
    state, _ = jax.vmap(pendulum.reset)(jax.random.split(jax.random.key(0), 2000))
    assert state.angle.min() < -3.1 and state.angle.max() > 3.1
    assert -1 <= state.velocity.min() < -0.95 and 0.95 < state.velocity.max() <= 1


def test_double_precision_is_kept(x64):
    env = pendulum.make()
    state, obs = env.reset(jax.random.key(0))
    step = env.step(state, jnp.zeros(1), jax.random.key(1))
    assert obs.dtype == step.reward.dtype == step.next_obs.dtype == env.spec.obs.dtype == "float64"


def test_wrap_leaves_the_principal_range_alone():
    angle = jnp.array([-3.1, 0.1, 3.1, 4.0, -10.0])
    expected = [-3.1, 0.1, 3.1, 4 - 2 * np.pi, -10 + 4 * np.pi]
    np.testing.assert_allclose(pendulum.wrap(angle), expected, atol=1e-6)
    np.testing.assert_array_equal(pendulum.wrap(angle)[:3], angle[:3])


def test_render_writes_a_playable_gif(tmp_path):
    env = pendulum.make()
    states = [env.reset(jax.random.key(i))[0] for i in range(5)]
    path = env.render(states, tmp_path / "films" / "episode")
    with Image.open(path) as film:
        assert path.suffix == ".gif" and film.n_frames == 5
        assert film.info["duration"] == 50  # milliseconds, as simulated
