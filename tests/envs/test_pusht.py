"""Push-T through the host adapter: spaces, units, and the published score."""

import gymnasium
import numpy as np
import pytest

from jaxrl.envs import make
from jaxrl.errors import UserError

NAME = "gymnasium/gym_pusht/PushT-v0"
KEYPOINTS = "obs_type=environment_state_agent_pos"


def solved(env):
    """Put the block where it is to be, but for a pixel."""
    block = env.simulators[0].block
    block.angle, block.position = np.pi / 4, (257, 256)
    env.simulators[0].space.reindex_shapes_for_body(block)


def test_five_numbers_or_corners_and_agent():
    env, corners = make(NAME), make(f"{NAME}?{KEYPOINTS}")
    assert env.spec.obs.shape == (5,) and corners.spec.obs.shape == (18,)
    assert env.spec.action.shape == (2,)
    state, points = env.reset([3])[0], corners.reset([3])[0]
    np.testing.assert_allclose(points[:2], state[:2])  # the agent
    centre = points[2:].reshape(8, 2)[[0, 1]].mean(0)  # the middle of the bar's outer edge
    np.testing.assert_allclose(centre, state[2:4], atol=1e-3)


def test_actions_are_positions_in_the_arena():
    env = make(NAME)
    env.reset([0])
    for _ in range(15):
        obs = env.step(np.array([[-0.5, 0.75]])).obs
    np.testing.assert_allclose(obs[0, :2], [128, 448], atol=1)


def test_rewards_are_the_coverage_over_95_percent_and_success_is_terminal():
    env = make(NAME)
    env.reset([0])
    far = env.step(np.array([[0.9, 0.9]]))
    assert 0 <= far.reward[0] < 0.9 and far.discount[0] == 1 and not far.last[0]
    covered = env.simulators[0]._get_coverage()
    assert far.reward[0] == pytest.approx(min(covered / 0.95, 1), rel=1e-6)
    solved(env)
    done = env.step(np.array([[0.9, 0.9]]))
    assert done.reward[0] == 1 and done.discount[0] == 0 and done.last[0]


class Rewards(gymnasium.Env):
    """Pays what it was told to."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, scale=1, name="none"):
        self.scale, self.name, self.script = scale, name, (-2, -3, 1, 0, 4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1), {}

    def step(self, action):
        self.time += 1
        reward = self.scale * self.script[self.time - 1]
        return np.zeros(1), reward, self.time == 5, False, {}


gymnasium.register("Rewards-v0", Rewards)


@pytest.mark.parametrize(
    "query, expected",
    [
        ("", [-2, -3, 1, 0, 4]),
        ("?return=sum", [-2, -3, 1, 0, 4]),
        ("?return=best", [-2, 0, 3, 0, 3]),
        ("?return=best&scale=2", [-4, 0, 6, 0, 6]),
    ],
)
def test_returns_are_sums_or_the_best_reward(query, expected):
    env = make(f"gymnasium/Rewards-v0{query}", 2)
    for _ in range(2):  # the second episode forgets the first
        rewards = [env.step(np.zeros((2, 1))).reward for _ in range(5)]
        np.testing.assert_array_equal(rewards, np.transpose([expected] * 2))


def test_a_restored_episode_starts_from_nothing():
    env = make("gymnasium/Rewards-v0?return=best")
    for _ in range(4):
        env.step(np.zeros((1, 1)))
    env.restore(env.snapshot())
    assert env.step(np.zeros((1, 1))).reward == [-2]


def test_options_reach_the_constructor_as_numbers_or_text():
    env = make("gymnasium/Rewards-v0?scale=0.5&name=x").simulators[0]
    assert env.scale == 0.5 and env.name == "x"


@pytest.mark.parametrize(
    "query, message",
    [
        ("?best", "found 'best' after the question mark"),
        ("?return=max", "return=max, expected sum or best"),
        ("?speed=3", "unexpected keyword argument 'speed'"),
    ],
)
def test_options_that_do_not_exist_are_refused(query, message):
    with pytest.raises(UserError, match=message):
        make(f"gymnasium/Rewards-v0{query}")


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gym_pusht.envs", None)
    with pytest.raises(UserError, match=r"pip install 'jaxrl\[pusht\]'"):
        make(NAME)


def test_a_wrong_observation_type_is_refused():
    with pytest.raises(UserError, match="Unknown obs_type points"):
        make(f"{NAME}?obs_type=points")
