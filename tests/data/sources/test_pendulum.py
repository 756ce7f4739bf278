import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data import sources
from jaxrl.data.dataset import extents, returns
from jaxrl.data.sources import pendulum
from jaxrl.envs import pendulum as env


def test_quality_is_mixed():
    _, _, reward = pendulum.generate(jax.random.key(1), jnp.array([0.0] * 20 + [1.0] * 20))
    scores = np.asarray(reward).sum(1)
    assert np.median(scores[:20]) > -200  # swings up and holds
    assert np.median(scores[20:]) < -900  # random


def test_dataset_is_the_same_every_time():
    first, second = (sources.load("jaxrl/pendulum-mixed-v0") for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert first.size == pendulum.EPISODES * 200
    assert first.weight is None  # equal blocks
    assert (extents(first).length == 200).all()
    assert np.percentile(returns(first), 25) < -1000 < -200 < np.percentile(returns(first), 95)


def test_transitions_are_those_of_the_environment():
    obs, action, reward = pendulum.generate(jax.random.key(0), jnp.array([0.5]))
    t = 17
    state = env.Pendulum(jnp.arctan2(obs[0, t, 1], obs[0, t, 0]), obs[0, t, 2])
    _, following, pay, _ = env.dynamics(state, action[0, t], jax.random.key(0))
    np.testing.assert_allclose(following, obs[0, t + 1], atol=1e-5)
    np.testing.assert_allclose(pay, reward[0, t], rtol=1e-5)


def test_noise_is_mixed_as_stated():
    noise = np.asarray(pendulum.noise(pendulum.EPISODES))
    assert len(noise) == pendulum.EPISODES
    assert (noise == 0).mean() == 0.1
    assert (noise == 1).mean() == 0.4
