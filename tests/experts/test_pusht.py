"""The scripted expert: its model of the physics, its plans, its demonstrations."""

import numpy as np
import pytest

from jaxrl.envs import make
from jaxrl.experts import pusht, tee

pytest.importorskip("gym_pusht")


@pytest.fixture(scope="module")
def expert():
    return pusht.Expert()


@pytest.fixture
def env():
    env = make(pusht.TASKS["state"])
    env.reset([1])
    return env


def test_the_model_does_what_the_environment_does(expert, env):
    state = pusht.state_of(env.simulators[0])
    targets = np.linspace(state.agent, state.pose[:2], 20)  # into the block
    expert.model.set(state)
    agents, poses = expert.model.play(targets)
    obs = [env.step((target / 256 - 1)[None]).obs[0] for target in targets]
    assert np.linalg.norm(poses[-1, :2] - state.pose[:2]) > 10  # it was pushed
    np.testing.assert_allclose(agents, np.stack(obs)[:, :2], atol=0.1)
    np.testing.assert_allclose(poses[:, :2], np.stack(obs)[:, 2:4], atol=0.5)


def test_ways_keep_clear_of_the_block(expert):
    pose = np.array([256.0, 200, 0])
    state = pusht.State(np.array([100.0, 215]), np.zeros(2), pose)
    expert.model.set(state)
    start = np.array([400.0, 215])
    assert not expert.model.free(state.agent, start)
    way = expert.way(state, start)
    _, poses = expert.model.play(way)
    np.testing.assert_array_equal(way[-1], start)
    np.testing.assert_allclose(poses[-1], pose, atol=1)


def test_an_agent_in_contact_first_leaves(expert):
    state = pusht.State(np.array([256.0, 190]), np.zeros(2), np.array([256.0, 200, 0]))
    expert.model.set(state)
    clear = expert.model.clear_of(state.agent)
    np.testing.assert_allclose(clear, [256, 200 - tee.AGENT - tee.GAP / 2])
    np.testing.assert_array_equal(expert.model.clear_of(np.array([50.0, 50])), [50, 50])


def test_a_plan_brings_the_block_closer(expert):
    state = pusht.State(np.array([100.0, 100]), np.zeros(2), np.array([300.0, 200, 2]))
    plan = expert.planned(state)
    expert.model.set(state)
    _, poses = expert.model.play(plan)
    before, after = tee.errors(np.stack([state.pose, poses[-1]]))
    assert after < 0.8 * before


def test_a_demonstration_succeeds_and_pays_its_best(expert):
    env = make(pusht.TASKS["keypoints"])
    episode = pusht.demonstration(env, expert, 5)
    n = len(episode.action)
    assert n < 300 and episode.obs.shape == (n + 1, 18) and np.abs(episode.action).max() <= 1
    np.testing.assert_array_equal(episode.discount, np.arange(n) < n - 1)
    assert episode.reward.sum() == pytest.approx(1, abs=1e-6)
    again = env.reset([5])
    for action in episode.action:  # the same start, the same actions
        again = env.step(action[None]).next_obs
    np.testing.assert_array_equal(again[0], episode.obs[-1])
