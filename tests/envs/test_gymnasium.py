"""The host adapter: episodes, scaling, spaces, and errors."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from jaxrl.envs import HostEnv, make
from jaxrl.errors import UserError


class Scripted(gymnasium.Env):
    """Counts its steps and remembers its controls; terminal at 5, or by the time limit of 3."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = spaces.Box(np.float32([-1, 0]), np.float32([1, 4]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.controls = 0, []
        return np.array([0.0]), {}

    def step(self, action):
        self.count += 1
        self.controls.append(action)
        return np.array([float(self.count)]), self.count, self.count >= 5, False, {}


gymnasium.register("Limited-v0", Scripted, max_episode_steps=3)
gymnasium.register("Unlimited-v0", Scripted)


def play(env, steps):
    obs, rows = env.reset(range(env.num_envs)), []
    for _ in range(steps):
        step = env.step(np.zeros((env.num_envs, *env.spec.action.shape)))
        rows.append((obs, *step))
        obs = step.obs
    return [np.stack(column) for column in zip(*rows, strict=True)]


def test_time_limit_keeps_the_successor_and_the_discount():
    acted, obs, reward, discount, next_obs, last = play(HostEnv("Limited-v0", 2), 7)
    np.testing.assert_array_equal(acted[:, 1, 0], [0, 1, 2, 0, 1, 2, 0])
    np.testing.assert_array_equal(next_obs[:, 1, 0], [1, 2, 3, 1, 2, 3, 1])
    np.testing.assert_array_equal(last[:, 1], [0, 0, 1, 0, 0, 1, 0])
    assert (discount == 1).all()
    assert acted.dtype == obs.dtype == reward.dtype == discount.dtype == np.float32


def test_termination_has_discount_zero():
    _, _, _, discount, _, last = play(HostEnv("Unlimited-v0"), 6)
    np.testing.assert_array_equal(discount[:, 0], [1, 1, 1, 1, 0, 1])
    np.testing.assert_array_equal(last[:, 0], [0, 0, 0, 0, 1, 0])


def test_actions_are_clipped_then_scaled():
    env = HostEnv("Limited-v0", 2)
    env.step(np.array([[0.1, -1], [-9, 0.5]], np.float32))
    controls = [e.unwrapped.controls[-1] for e in env._envs]
    np.testing.assert_array_equal(controls, np.array([[0.1, 0], [-1, 3]], np.float32))


def test_equals_gymnasium_step_by_step():
    ours, theirs = HostEnv("Hopper-v5", 2), gymnasium.make("Hopper-v5")
    obs = ours.reset([5, 6])
    expected, _ = theirs.reset(seed=6)
    generator = np.random.default_rng(0)
    for _ in range(300):
        np.testing.assert_array_equal(obs[1], expected.astype(np.float32))
        action = generator.uniform(-1, 1, (2, 3)).astype(np.float32)
        obs, reward, discount, next_obs, last = ours.step(action)
        expected, expected_reward, terminated, truncated, _ = theirs.step(action[1])
        np.testing.assert_array_equal(next_obs[1], expected.astype(np.float32))
        assert reward[1] == np.float32(expected_reward) and discount[1] == 1 - terminated
        assert last[1] == (terminated or truncated)
        if last[1]:
            expected, _ = theirs.reset()


def test_discrete_spaces():
    env = HostEnv("FrozenLake-v1", 3)
    assert env.spec.num_actions == 4 and env.spec.action.shape == ()
    obs = env.step(np.array([0, 1, 2])).obs
    assert obs.shape == (3, *env.spec.obs.shape) == (3, 16)
    np.testing.assert_array_equal(obs.sum(1), 1)


def test_unsupported_actions_are_refused():
    class Many(Scripted):
        action_space = spaces.MultiDiscrete([2, 2])

    class Endless(Scripted):
        action_space = spaces.Box(-np.inf, np.inf, (1,))

    gymnasium.register("Many-v0", Many)
    gymnasium.register("Endless-v0", Endless)
    with pytest.raises(UserError, match="MultiDiscrete.*expected Box or Discrete"):
        HostEnv("Many-v0")
    with pytest.raises(UserError, match="expected finite bounds"):
        HostEnv("Endless-v0")


def test_bad_input_is_refused():
    with pytest.raises(UserError, match="HalfCheetah-v5"):
        HostEnv("HalfCheeta-v5")
    with pytest.raises(UserError, match="HalfCheetah-v2"):
        HostEnv("HalfCheetah-v2")
    with pytest.raises(UserError, match="num_envs"):
        HostEnv("CartPole-v1", 0)
    with pytest.raises(UserError, match="seeds: found 3"):
        HostEnv("CartPole-v1", 2).reset([1, 2, 3])


def test_video_of_a_mujoco_task(tmp_path):
    env = make("gymnasium/HalfCheetah-v5")
    poses = [env.pose() for _ in range(4) if env.step(np.ones((1, 6))) is not None]
    path = env.render(poses, tmp_path / "episode")
    with Image.open(path) as film:
        assert film.n_frames == 4 and film.info["duration"] == 50
        extrema = film.convert("L").getextrema()
    assert extrema[0] < 100  # something is drawn
    env.close()


def test_other_tasks_have_no_video():
    env = HostEnv("CartPole-v1")
    assert env.pose() is None and env.render is None
