"""What makes third-party environments safe to call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs.foreign import check_bounded, foreign, functional, pooled, shapes, to_box
from jaxrl.errors import UserError


def test_outputs_are_strongly_typed():
    reset = foreign(lambda key: (0, {"obs": 1.0, "on": True}))
    count, rest = reset(jax.random.key(0))
    assert not any(leaf.weak_type for leaf in (count, rest["obs"], rest["on"]))
    assert rest["on"].dtype == bool


def test_ranks_may_be_promoted_inside_only(strict):
    add = foreign(lambda a, b: a + b)
    assert add(jnp.ones((2, 3)), jnp.ones(3)).shape == (2, 3)
    with pytest.raises(ValueError, match="rank"):
        jnp.ones((2, 3)) + jnp.ones(3)


def test_keys_may_be_reused_inside(strict):
    draw = foreign(lambda key: (jax.random.uniform(key), jax.random.uniform(key)))
    first, second = jax.vmap(draw)(jax.random.split(jax.random.key(0), 3))
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first)) == 3


def test_arguments_are_not_changed_in_place():
    def count(info):
        info["steps"] += 1
        return info

    info = {"steps": jnp.int32(0)}
    assert foreign(count)(info)["steps"] == 1 and info["steps"] == 0


def test_functional_clips_actions_and_reads_done():
    class Echo:
        def step(self, state, action):
            return State(action, 1, jnp.abs(action).sum())

    class State:
        def __init__(self, obs, reward, done):
            self.obs, self.reward, self.done = obs, reward, done

    jax.tree_util.register_pytree_node(
        State, lambda s: ((s.obs, s.reward, s.done), None), lambda _, leaves: State(*leaves)
    )
    _, dynamics = functional(Echo())
    _, obs, reward, terminal = dynamics(jnp.zeros(()), jnp.array([-3.0, 0.5]), jax.random.key(0))
    np.testing.assert_array_equal(obs, [-1, 0.5])
    assert reward.dtype == jnp.result_type(float) and reward == 1 and terminal
    *_, terminal = dynamics(jnp.zeros(()), jnp.zeros(2), jax.random.key(0))
    assert not terminal


def test_pool_draws_evenly_from_states_of_the_reset(strict):
    calls = []

    def reset(key):
        calls.append(key)
        start = jax.random.normal(key, (2,))
        return start, start

    draw = jax.jit(jax.vmap(pooled(reset, size=4)))
    state, obs = draw(jax.random.split(jax.random.key(1), 400))
    rows, counts = np.unique(state, axis=0, return_counts=True)
    expected = np.stack([reset(key)[0] for key in jax.random.split(jax.random.key(0), 4)])
    np.testing.assert_allclose(rows, expected[np.argsort(expected[:, 0])], rtol=1e-6)
    assert counts.min() > 60
    np.testing.assert_array_equal(state, obs)
    assert len(calls) == 1 + 4  # one trace for the pool, the rest ours


def test_box_scaling():
    low, high = np.array([-1, 0, -3.0]), np.array([1, 4, -1.0])
    action = np.array([[0.1, -1, 5], [-0.3, 0.5, 0]])
    expected = [[0.1, 0, -1], [-0.3, 3, -2]]
    np.testing.assert_array_equal(to_box(action, low, high), expected)
    np.testing.assert_allclose(to_box(jnp.asarray(action), low[None], high[None]), expected)


def test_unbounded_actions_are_refused():
    check_bounded("env", np.zeros(2), np.ones(2))
    with pytest.raises(UserError, match="finite bounds"):
        check_bounded("env", np.zeros(2), np.array([1, np.inf]))


def test_shapes_of_a_tree():
    spec = shapes(lambda key: (0, {"a": jnp.zeros(3), "b": jnp.int32(1)}))
    assert spec["a"] == jax.ShapeDtypeStruct((3,), jnp.float32)
    assert spec["b"] == jax.ShapeDtypeStruct((), jnp.int32)
