"""Saving Gymnasium environments and continuing elsewhere, to the bit."""

import numpy as np
import pytest

from jaxrl.envs import HostEnv
from jaxrl.envs.resume import EXACT, generator_words, set_generator
from jaxrl.errors import UserError

STEPS = {"HalfCheetah-v5": 1010, "HumanoidStandup-v5": 250, "Swimmer-v5": 1010}


def actions(env, steps, seed=0):
    shape = (steps, env.num_envs, *env.spec.action.shape)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def continue_both(first, second, steps):
    """Whether an episode ended; fails unless both environments give the same bits."""
    ended = False
    for action in actions(first, steps, seed=1):
        ours, theirs = first.step(action), second.step(action)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
        ended |= ours.last.any()
    return ended


@pytest.mark.parametrize("id", sorted(EXACT))
def test_continues_exactly_across_an_episode_end(id):
    env = HostEnv(id, 2)
    env.reset([3, 4])
    for action in actions(env, 33):
        obs = env.step(action).obs
    copy = HostEnv(id, 2)
    np.testing.assert_array_equal(copy.restore(env.snapshot()), obs)
    ended = continue_both(env, copy, STEPS.get(id, 220))
    assert ended or id == "HumanoidStandup-v5"  # which never ends before its 1000 dear steps
    assert env.exact_resume and env.resume_note == ""


@pytest.mark.parametrize("id", ["Ant-v5", "Hopper-v5", "Humanoid-v5", "Pusher-v5"])
def test_continues_exactly_from_right_after_a_reset(id):
    env = HostEnv(id, 2)
    obs = env.reset([8, 9])
    copy = HostEnv(id, 2)
    np.testing.assert_array_equal(copy.restore(env.snapshot()), obs)
    continue_both(env, copy, 60)


def test_continues_exactly_from_an_automatic_reset():
    env = HostEnv("InvertedPendulum-v5")
    for action in actions(env, 100):
        step = env.step(action)
        if step.last[0]:
            break
    copy = HostEnv("InvertedPendulum-v5")
    np.testing.assert_array_equal(copy.restore(env.snapshot()), step.obs)
    assert continue_both(env, copy, 100)


def test_a_snapshot_is_a_copy_of_fixed_shapes():
    env = HostEnv("Hopper-v5", 2)
    before = env.snapshot()
    kept = {name: leaf.copy() for name, leaf in before.items()}
    for action in actions(env, 50):
        env.step(action)
    after = env.snapshot()
    for name, leaf in before.items():
        np.testing.assert_array_equal(leaf, kept[name])
        assert leaf.shape == after[name].shape and leaf.dtype == after[name].dtype
        assert isinstance(leaf, np.ndarray) and leaf.shape[0] == 2


def test_the_current_state_alone_would_not_do():
    """Negative control: without repeating the last step, Ant observes other contact forces."""
    env = HostEnv("Ant-v5")
    for action in actions(env, 30):
        obs = env.step(action).obs
    tree = env.snapshot()
    env._recorders[0].after_reset()  # records the state after the step instead of before it
    tree["physics"], tree["fresh"] = env.snapshot()["physics"], np.array([True])
    assert not np.array_equal(HostEnv("Ant-v5").restore(tree), obs)


def test_other_environments_start_new_episodes_with_new_draws():
    env = HostEnv("CartPole-v1", 2)
    first = env.reset([0, 1])
    for action in np.zeros((3, 2), int):
        env.step(action)
    tree = env.snapshot()
    obs = HostEnv("CartPole-v1", 2).restore(tree)
    assert not np.array_equal(obs, first)
    np.testing.assert_array_equal(HostEnv("CartPole-v1", 2).restore(tree), obs)
    assert not env.exact_resume and "start anew" in env.resume_note


def test_a_snapshot_of_another_number_of_environments_is_refused():
    with pytest.raises(UserError, match="snapshot of gymnasium/Hopper-v5"):
        HostEnv("Hopper-v5", 2).restore(HostEnv("Hopper-v5", 1).snapshot())


def test_generators_round_trip():
    generator = np.random.default_rng(5)
    generator.integers(10, dtype=np.uint32)  # leaves half a word behind
    words = generator_words(generator)
    assert words.shape == (6,) and words.dtype == np.uint64 and words[4] == 1
    copy = np.random.default_rng(0)
    set_generator(copy, words)
    for dtype in (np.uint32, np.int64):
        expected = generator.integers(1000, size=9, dtype=dtype)
        np.testing.assert_array_equal(copy.integers(1000, size=9, dtype=dtype), expected)
