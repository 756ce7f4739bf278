import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import policies
from jaxrl.envs.base import auto_reset
from jaxrl.loops import evaluate
from jaxrl.types import Agent, Spec
from tests.loops.scripted import ANSWER, counting_agent


def test_a_memoryless_policy_is_the_agents_act(strict):
    agent = counting_agent()
    policy, state = policies.memoryless(agent), agent.init(jax.random.key(0))
    obs, zeros = jnp.ones((4, 1)), jnp.zeros(4)
    memory = policy.start(4)
    assert jax.tree.leaves(memory) == []
    memory, action = policy.step(state, memory, obs, zeros, zeros > 0)
    np.testing.assert_array_equal(action, agent.act(state, obs))
    memory, action = policy.step(state, memory, obs, zeros, zeros > 0, jax.random.key(1))
    np.testing.assert_allclose(action, np.full((4, 1), ANSWER), rtol=1e-6)
    assert jax.tree.leaves(memory) == []


def test_a_squashed_policy_acts_after_tanh():
    agent = counting_agent()
    policy, state = policies.squashed(policies.memoryless(agent)), agent.init(jax.random.key(0))
    obs, zeros = jnp.ones((4, 1)), jnp.zeros(4)
    _, action = policy.step(state, policy.start(4), obs, zeros, zeros > 0, jax.random.key(1))
    np.testing.assert_allclose(action, np.tanh(np.full((4, 1), ANSWER)), rtol=1e-6)


SPEC = Spec.continuous(1, 1)


def asks():
    """An agent that does what is left to reach, a hundredth of it, and shows its context."""

    def act(state, context, key=None):
        del state, key
        return context.return_to_go[:, -1:] / 100

    return Agent(None, None, act)


def play(policy, obs, reward, last):
    """Memory and actions after every step of scripted episodes, `[T, n]`."""
    memory, found = policy.start(obs.shape[1]), []
    step = jax.jit(policy.step)
    for now in zip(obs[..., None], reward, last, strict=True):
        memory, action = step((), memory, *map(jnp.asarray, now))
        found.append((jax.tree.map(np.asarray, memory), np.asarray(action)))
    return found


SCRIPT = np.arange(5.0)[:, None], np.array([0.0, 1, 2, 3, 4])[:, None], np.zeros((5, 1), bool)


def test_a_window_counts_down_what_is_left_to_reach():
    """Rewards 1, 2, 3, 4 from a target of 10: asks for 10, 9, 7, 4, 0; a window keeps three."""
    found = play(policies.windowed(asks(), SPEC, 3, 10.0), *SCRIPT)
    np.testing.assert_allclose([a[0, 0] for _, a in found], np.array([10, 9, 7, 4, 0]) / 100)
    first, last = found[0][0], found[-1][0]
    np.testing.assert_array_equal(first.mask, [[False, False, True]])
    np.testing.assert_array_equal(last.mask, [[True, True, True]])
    np.testing.assert_allclose(last.return_to_go, [[7, 4, 0]])
    np.testing.assert_array_equal(last.timestep, [[2, 3, 4]])
    np.testing.assert_allclose(last.obs[..., 0], [[2, 3, 4]])
    np.testing.assert_allclose(last.action[..., 0], [[0.07, 0.04, 0]], rtol=1e-6)
    np.testing.assert_allclose(last.reward, [[3, 4, 0]])  # the newest is not known yet


def test_a_return_that_was_exceeded_is_not_clipped():
    found = play(policies.windowed(asks(), SPEC, 3, 2.0), *SCRIPT)
    np.testing.assert_allclose(found[-1][0].return_to_go, [[-1, -4, -8]])


def test_delayed_rewards_leave_the_target_alone():
    found = play(policies.windowed(asks(), SPEC, 3, 10.0, spend=False), *SCRIPT)
    np.testing.assert_allclose([a[0, 0] for _, a in found], 0.1, rtol=1e-6)


def test_an_episodes_end_starts_a_new_window():
    """The second of two episodes side by side ends after two steps."""
    obs, reward = np.tile(SCRIPT[0], 2), np.tile(SCRIPT[1], 2)
    last = np.zeros((5, 2), bool)
    last[2, 1] = True
    memory, _ = play(policies.windowed(asks(), SPEC, 4, 10.0), obs, reward, last)[3]
    np.testing.assert_array_equal(memory.mask, [[True] * 4, [False, False, True, True]])
    np.testing.assert_array_equal(memory.timestep[1, 2:], [0, 1])
    np.testing.assert_allclose(memory.return_to_go[1, 2:], [10, 7])
    np.testing.assert_allclose(memory.return_to_go[0], [10, 9, 7, 4])


def test_several_targets_are_tried_in_one_evaluation():
    def reset(key):
        del key
        return jnp.int32(0), jnp.zeros(1)

    def dynamics(state, action, key):
        del key
        return state, jnp.zeros(1), action[0], jnp.asarray(False)

    env = auto_reset(SPEC, reset, dynamics, time_limit=2)
    policy = policies.windowed(asks(), SPEC, 2, jnp.array([100.0, 50.0]))
    scores = evaluate.make(env, policy, 6)((), jax.random.key(0))
    both = 1 + 0.99, 0.5 + 0.495  # the first reward is subtracted from what is left
    np.testing.assert_allclose(scores.returns, np.tile(both, 3), rtol=1e-5)


def plans(state, obs, key=None):
    """Two actions: the newest observation, and the oldest plus a tenth; the state counts plans."""
    del state, key
    return jnp.stack([obs[:, -1], obs[:, 0] + 0.1], 1)


def chunked(obs_horizon=3, action_horizon=2):
    return policies.chunked(Agent(None, None, plans), SPEC, obs_horizon, action_horizon)


def test_a_chunk_is_played_to_its_end_before_the_next_plan(strict):
    zeros = np.zeros((6, 1))
    found = play(chunked(), np.arange(6.0)[:, None], zeros, zeros > 0)
    # Plans at 0, 2 and 4, from observations (0, 0, 0), (0, 1, 2) and (2, 3, 4).
    np.testing.assert_allclose([a[0, 0] for _, a in found], [0, 0.1, 2, 0.1, 4, 2.1], rtol=1e-6)
    np.testing.assert_array_equal(found[-1][0].obs[0, :, 0], [3, 4, 5])


def test_a_new_episode_makes_a_new_plan_for_itself_alone():
    obs = np.stack([np.arange(5.0), 10 + np.arange(5.0)], 1)
    last = np.zeros((5, 2), bool)
    last[3, 1] = True  # what is observed at 3 is the first of the second episode
    found = play(chunked(), obs, np.zeros((5, 2)), last)
    played = np.array([a[:, 0] for _, a in found])
    np.testing.assert_allclose(played[:, 0], [0, 0.1, 2, 0.1, 4], rtol=1e-6)
    np.testing.assert_allclose(played[:, 1], [10, 10.1, 12, 13, 13.1], rtol=1e-6)
    np.testing.assert_array_equal(found[3][0].obs[1, :, 0], [13, 13, 13])


def test_nothing_is_planned_while_every_chunk_lasts():
    calls = []

    def act(state, obs, key=None):
        jax.debug.callback(lambda: calls.append(0))
        return plans(state, obs)

    policy = policies.chunked(Agent(None, None, act), SPEC, 3, 2)
    play(policy, np.zeros((6, 1)), np.zeros((6, 1)), np.zeros((6, 1), bool))
    jax.effects_barrier()
    assert len(calls) == 3


def test_a_goal_is_given_to_every_plan():
    def act(state, obs, key, goal):
        return jnp.broadcast_to(goal[:, None], (len(goal), 2, 1))

    policy = policies.chunked(Agent(None, None, act), SPEC, 1, 2, jnp.array([0.7]))
    found = play(policy, np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3), bool))
    np.testing.assert_allclose(found[-1][1], np.full((3, 1), 0.7), rtol=1e-6)


def proposals(state, obs, key):
    """Uniform actions, the same for any state."""
    return jax.random.uniform(key, (len(obs), 1), minval=-1.0)


def played(candidates, temperature=0.0, n=4000, seed=0):
    def score(state, obs, action):
        return jnp.log(jnp.where(action[:, 0] > 0, 3.0, 1.0)) + obs[:, 0]

    agent = Agent(None, None, proposals)
    policy = policies.reranked(agent, score, candidates, temperature)
    obs, zeros = jnp.arange(float(n))[:, None] / n, jnp.zeros(n)
    assert policy.start(n) == ()
    return np.asarray(policy.step((), (), obs, zeros, zeros > 0, jax.random.key(seed))[1])


def test_one_candidate_is_the_agent_and_many_find_the_best():
    assert (played(1) > 0).mean() == pytest.approx(0.5, abs=0.03)
    assert (played(16) > 0).mean() == pytest.approx(1.0, abs=1e-3)


def test_a_softmax_picks_by_score():
    # Two candidates: both good 1/4, one good 1/2 (picked with 3/4): 5/8.
    assert (played(2, 1.0) > 0).mean() == pytest.approx(5 / 8, abs=0.03)
    assert (played(2) > 0).mean() == pytest.approx(3 / 4, abs=0.03)
