import jax.numpy as jnp
import numpy as np

from jaxrl.data.episodes import Episode, from_episodes
from jaxrl.data.limits import ranges
from jaxrl.ops.limits import normalize, unnormalize


def episode(obs, action):
    n = len(action)
    obs = {"a": np.array(obs, np.float32)[:, None], "b": np.full((n + 1, 2), 7, np.float32)}
    return Episode(obs, np.array(action, np.float32)[:, None], np.ones(n), np.ones(n))


def test_limits_are_of_what_was_acted_on_and_of_no_padding():
    # Blocks of unequal length: one has rows of zeros behind its episode.
    data = [episode([3, 5, 99], [0.2, 0.5]), episode([4, 2, 6, 50], [0.3, 0.4, 0.6])]
    obs, action, goal = ranges(from_episodes(data, 2))
    assert goal is None
    np.testing.assert_array_equal(obs.low["a"], [2])
    np.testing.assert_array_equal(obs.high["a"], [6])
    np.testing.assert_array_equal(obs.low["b"], [7, 7])
    np.testing.assert_allclose([action.low[0], action.high[0]], [0.2, 0.6], rtol=1e-6)


def test_the_data_fill_the_unit_box_and_come_back():
    obs, _, _ = ranges(from_episodes([episode([3, 5, 7, 0], [0, 0, 0])]))
    x = {"a": jnp.array([[3.0], [7.0]]), "b": jnp.full((2, 2), 7.0)}
    found = normalize(obs, x)
    np.testing.assert_allclose(found["a"], [[-1], [1]], atol=1e-6)
    np.testing.assert_array_equal(found["b"], np.zeros((2, 2)))
    np.testing.assert_allclose(unnormalize(obs, found)["a"], x["a"], atol=1e-6)
