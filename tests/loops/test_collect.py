import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs, policies
from jaxrl.agents import sac
from jaxrl.data import rollouts
from jaxrl.errors import UserError
from jaxrl.loops import collect
from tests.loops.scripted import ANSWER, counter_env, counting_agent

pytestmark = pytest.mark.usefixtures("strict")


def rolled(env, policy, state=None, envs=2, steps=7, seed=0):
    return collect.rollout(env, policy, state, envs, steps, jax.random.key(seed))


def test_rows_are_those_of_the_environments():
    env, agent = counter_env(3), counting_agent()
    state = agent.init(jax.random.key(0))
    rows = rolled(env, policies.memoryless(agent), state)
    assert rows.obs[:, 1, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert rows.next_obs[:, 1, 0].tolist() == [1, 2, 3, 1, 2, 3, 1]
    np.testing.assert_array_equal(rows.action, np.float32(ANSWER))
    assert [len(e.reward) for e in rollouts.episodes(rows)] == [3, 3, 1] * 2


def test_random_actions_fill_the_box(monkeypatch):
    monkeypatch.setattr(collect, "STRETCH", 20)
    env = envs.make("jaxrl/Pendulum-v1")
    rows = rolled(env, collect.uniform(env.spec), steps=50)
    assert rows.action.shape == (50, 2, 1)
    assert np.unique(rows.action).size == 100
    assert rows.action.min() < -0.8 and rows.action.max() > 0.8
    again = rolled(env, collect.uniform(env.spec), steps=50)
    jax.tree.map(np.testing.assert_array_equal, rows, again)


@pytest.mark.parametrize("name", ["jaxrl/Pendulum-v1", "gymnasium/Pendulum-v1"])
def test_a_policy_is_sampled_in_either_kind_of_environment(name):
    env = envs.make(name)
    agent = sac.make(env.spec, sac.Config(hidden=(8,)))
    state = agent.init(jax.random.key(0))
    rows = rolled(env, policies.memoryless(agent), state, steps=30)
    mode = agent.act(state, jnp.asarray(rows.obs[:, 0]))
    assert np.abs(rows.action[:, 0] - mode).mean() > 0.1
    np.testing.assert_array_equal(rows.obs[1:], rows.next_obs[:-1])
    assert rows.obs.dtype == np.float32


def test_choices_are_collected_as_integers():
    env = envs.make("jaxrl/CartPole-v1")
    rows = rolled(env, collect.uniform(env.spec))
    assert rows.action.dtype == np.int32 and set(np.unique(rows.action)) <= {0, 1}


def test_a_number_that_is_not_finite_is_refused():
    env = envs.make("jaxrl/Pendulum-v1")

    def step(state, action, key):
        return env.step(state, action, key)._replace(reward=jnp.nan)

    with pytest.raises(UserError, match="non-finite"):
        rolled(env._replace(step=step), collect.uniform(env.spec))
