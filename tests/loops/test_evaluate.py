import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import policies
from jaxrl.envs.base import auto_reset
from jaxrl.errors import UserError
from jaxrl.loops import evaluate
from jaxrl.types import Policy
from tests.loops.scripted import ANSWER, SPEC, counter_env, counting_agent

pytestmark = pytest.mark.usefixtures("strict")
AGENT = counting_agent()
STATE = AGENT.init(jax.random.key(0))


def scored(env, episodes=4, policy=None, **options):
    score = evaluate.make(env, policy or policies.memoryless(AGENT), episodes, **options)
    return score(STATE, jax.random.key(1))


def random_length_env():
    """Episodes last 1 to 9 steps; every step pays 1."""

    def reset(key):
        return jax.random.randint(key, (), 1, 10), jnp.zeros(1)

    def dynamics(left, action, key):
        del action, key
        return left - 1, jnp.zeros(1), jnp.ones(()), left == 1

    return auto_reset(SPEC, reset, dynamics, 100)


def test_returns_are_sums_over_one_episode():
    scores = scored(counter_env(time_limit=4))
    assert scores.returns.tolist() == [10] * 4  # 1 + 2 + 3 + 4
    assert scores.lengths.tolist() == [4] * 4
    assert scores.finished.all()


def test_every_episode_ends_by_itself_and_counts_once():
    scores = scored(random_length_env(), episodes=64)
    assert sorted(set(scores.lengths.tolist())) == list(range(1, 10))
    np.testing.assert_array_equal(scores.returns, scores.lengths)


def test_what_follows_the_end_does_not_count_even_where_it_is_not_finite():
    def reset(key):
        return jax.random.randint(key, (), 1, 4), jnp.zeros(1)

    def dynamics(left, action, key):
        del action, key
        # the first episode pays 1 a step; those that follow it, nothing that is a number
        return left - 1, jnp.zeros(1), jnp.ones(()), left == 1

    env = auto_reset(SPEC, reset, dynamics, 100)

    def spoiled(state, action, key):
        (inner, ended) = state
        time = env.step(inner, action, key)
        reward = jnp.where(ended, jnp.nan, time.reward)
        return time._replace(state=(time.state, ended | time.last), reward=reward)

    def start(key):
        state, obs = env.reset(key)
        return (state, jnp.array(False)), obs

    scores = scored(env._replace(reset=start, step=spoiled), episodes=16)
    assert np.unique(scores.lengths).size > 1
    np.testing.assert_array_equal(scores.returns, scores.lengths)


def test_long_episodes_are_cut_and_said_to_be_unfinished():
    scores = scored(counter_env(time_limit=50), max_steps=3)
    assert scores.lengths.tolist() == [3] * 4
    assert scores.returns.tolist() == [6] * 4
    assert not scores.finished.any()


def test_the_same_key_gives_the_same_episodes():
    score = evaluate.make(random_length_env(), policies.memoryless(AGENT), 32)
    one, two, other = (score(STATE, jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.lengths, two.lengths)
    assert (one.lengths != other.lengths).any()


@pytest.mark.parametrize("greedy, expected", [(True, 0.0), (False, 2 * ANSWER)])
def test_a_greedy_policy_gets_no_key(greedy, expected):
    def dynamics(state, action, key):
        del key
        return state, jnp.zeros(1), action.sum(), jnp.array(False)

    env = auto_reset(SPEC, lambda key: ((), jnp.zeros(1)), dynamics, 2)
    assert scored(env, greedy=greedy).returns.tolist() == pytest.approx([expected] * 4)


def test_a_policy_remembers_and_sees_what_happened():
    """Acts by the sum of the rewards it was shown, which the task pays back."""

    def step(state, memory, obs, reward, last, key=None):
        del state, obs, last, key
        memory = memory + reward
        return memory, memory[:, None]

    def dynamics(count, action, key):
        del key
        return count, jnp.zeros(1), 1 + action.sum(), jnp.array(False)

    env = auto_reset(SPEC, lambda key: ((), jnp.zeros(1)), dynamics, 4)
    scores = scored(env, policy=Policy(jnp.zeros, step))
    assert scores.returns.tolist() == [1 + 2 + 4 + 8] * 4


@pytest.mark.parametrize("options", [{"episodes": 0}, {"max_steps": 0}])
def test_nothing_to_play_is_refused(options):
    with pytest.raises(UserError, match=f"{next(iter(options))}: found 0"):
        scored(counter_env(), **options)
