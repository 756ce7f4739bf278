"""The embedded CartPole against Gymnasium's."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxrl.envs import cartpole, make
from tests.envs.common import check_semantics, rollout


def compare_steps(atol):
    generator = np.random.default_rng(0)
    states = generator.uniform(-1, 1, (300, 4)) * [2.6, 3, 0.23, 3]
    actions = generator.integers(0, 2, 300)
    step = jax.vmap(lambda s, a: cartpole.dynamics(s, a, jax.random.key(0)))
    start = cartpole.CartPole(*jnp.asarray(states).T)
    _, obs, reward, terminal = jax.device_get(jax.jit(step)(start, jnp.asarray(actions)))
    env = gymnasium.make("CartPole-v1").unwrapped
    for i in range(300):
        env.reset()
        env.state = states[i]
        expected, expected_reward, terminated, _, _ = env.step(int(actions[i]))
        np.testing.assert_allclose(obs[i], expected, atol=atol)
        assert reward[i] == expected_reward and terminal[i] == terminated
    assert 20 < terminal.sum() < 280


def test_a_step_equals_gymnasium(x64):
    compare_steps(atol=1e-6)


def test_a_step_equals_gymnasium_in_single_precision():
    compare_steps(atol=2e-6)


def push_randomly(obs, generator):
    return int(generator.integers(2))


def balance(obs, generator):
    """A linear controller that keeps the pole up for a whole episode."""
    del generator
    return int(0.1 * obs[0] + 0.3 * obs[1] + 3 * obs[2] + obs[3] > 0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("policy", [push_randomly, balance])
def test_an_episode_equals_gymnasium(x64, policy, seed):
    ours, theirs = make("jaxrl/CartPole-v1"), gymnasium.make("CartPole-v1")
    state, obs = ours.reset(jax.random.key(seed))
    theirs.reset(seed=seed)
    theirs.unwrapped.state = np.array(obs)
    generator, step = np.random.default_rng(seed), jax.jit(ours.step)
    terminated, truncated, length = False, False, 0
    while not (terminated or truncated):
        if length % 50 == 0:  # an unstable pole blows up differences of rounding
            theirs.unwrapped.state = np.array(state.inner)
        action = policy(obs, generator)
        expected, reward, terminated, truncated, _ = theirs.step(action)
        time = step(state, jnp.int32(action), jax.random.key(length))
        np.testing.assert_allclose(time.next_obs, expected, atol=1e-6)
        assert time.reward == reward and time.last == (terminated or truncated)
        assert time.discount == 1 - terminated
        state, obs, length = time.state, time.obs, length + 1
    assert (length == 500 and truncated) == (policy is balance)


def test_semantics(strict):
    env = cartpole.make()
    acted, step = rollout(env, steps=100)
    check_semantics(env.spec, acted, step)
    assert step.last.sum() > 5
    np.testing.assert_array_equal(step.discount, 1 - step.last)  # no time limit this early
    assert env.spec.discrete and env.spec.num_actions == 2


def test_double_precision_is_kept(x64):
    env = cartpole.make()
    state, obs = env.reset(jax.random.key(0))
    step = env.step(state, jnp.int32(1), jax.random.key(1))
    assert obs.dtype == step.reward.dtype == step.next_obs.dtype == env.spec.obs.dtype == "float64"


def test_render_writes_a_playable_gif(tmp_path):
    env = cartpole.make()
    states = [env.reset(jax.random.key(i))[0] for i in range(5)]
    path = env.render(states, tmp_path / "episode")
    with Image.open(path) as film:
        assert path.name == "episode.gif" and film.n_frames == 5
