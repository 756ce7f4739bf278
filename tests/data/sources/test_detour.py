import jax
import numpy as np

from jaxrl.data import sources
from jaxrl.data.dataset import extents, returns
from jaxrl.data.sources import detour
from jaxrl.envs import detour as env


def test_every_demonstration_arrives_and_half_of_them_above():
    dataset = sources.load("jaxrl/detour-v0")
    assert dataset.size == detour.EPISODES * detour.LENGTH
    assert (extents(dataset).length == detour.LENGTH).all()
    assert (returns(dataset) == 1).all()  # which the last step alone pays, and it ends the task
    assert dataset.weight is None
    steps = jax.tree.map(np.asarray, dataset.steps)
    np.testing.assert_array_equal(steps.discount[~steps.last], 1 - steps.reward[~steps.last])


def test_both_ways_from_every_start():
    obs, action, _, terminal = map(np.asarray, detour.generate(jax.random.key(1), 40))
    np.testing.assert_array_equal(obs[::2, 0], obs[1::2, 0])
    middle = obs[:, detour.LENGTH // 2, 1]
    assert (middle[::2] > env.RADIUS).all() and (middle[1::2] < -env.RADIUS).all()
    assert not terminal[:, :-1].any() and terminal[:, -1].all()
    np.testing.assert_allclose(action[::2, 0, 1] + action[1::2, 0, 1], 0, atol=0.3)


def test_a_first_step_across_cannot_be_lost():
    """The mean of the ways is straight ahead, and then full speed across comes too late."""
    position = np.array([-1.0, env.START])
    for t in range(8):
        across = 0.0 if t == 0 else 1.0
        position, _, _, hit = env.dynamics(
            position, np.array([detour.PACE, across]), jax.random.key(0)
        )
        if hit:
            return
    raise AssertionError("passed the obstacle")


def test_the_dataset_is_the_same_every_time():
    one, two = (sources.load("jaxrl/detour-v0") for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, two)
