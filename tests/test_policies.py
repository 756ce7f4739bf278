import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import policies
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
