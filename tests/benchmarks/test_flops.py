"""Counts against closed forms."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import flops
from benchmarks.cases import BATCH, CASES, SPEC, transitions

A, B = jnp.zeros((3, 5)), jnp.zeros((5, 7))
PRODUCT = 2 * 3 * 5 * 7


def test_product():
    assert flops.count(jnp.matmul, A, B) == PRODUCT


def test_batched_product():
    x, y = jnp.zeros((4, 3, 5)), jnp.zeros((4, 5, 7))
    assert flops.count(jnp.matmul, x, y) == 4 * PRODUCT


def test_elementwise_work_is_not_counted():
    assert flops.count(lambda x: jnp.tanh(x).sum(), A) == 0


def test_gradient_costs_two_more_products():
    grad = jax.grad(lambda a, b: jnp.sum((a @ b) ** 2), argnums=(0, 1))
    assert flops.count(grad, A, B) == 3 * PRODUCT


def test_nested_scans_multiply():
    def body(x, _):
        return jax.lax.scan(lambda x, _: (x @ x, None), x, None, length=7)[0], None

    x = jnp.zeros((4, 4))
    assert flops.count(lambda x: jax.lax.scan(body, x, None, length=5), x) == 35 * 2 * 4**3


def test_jit_and_custom_gradients_are_entered():
    relu = jax.custom_jvp(lambda x: x @ B)
    relu.defjvp(lambda p, t: (relu(*p), t[0] @ B))
    assert flops.count(jax.jit(relu), A) == PRODUCT


@pytest.mark.parametrize(("taken", "expected"), [(1.0, 2.0), (0.5, 1.5), (0.0, 1.0)])
def test_cond_by_how_often_the_dearer_branch_is_taken(taken, expected):
    def f(p, x):
        return jax.lax.cond(p, lambda x: x @ x, lambda x: x @ x @ x, x)

    x = jnp.zeros((4, 4))
    assert flops.count(f, True, x, taken=taken) == expected * 2 * 4**3


def test_while_of_unknown_length_is_refused_if_it_holds_a_product():
    def loop(x, work):
        return jax.lax.while_loop(lambda x: x.sum() < 0, work, x)

    x = jnp.zeros((4, 4))
    assert flops.count(lambda x: loop(x, lambda x: x + 1), x) == 0
    with pytest.raises(ValueError, match="unknown length"):
        flops.count(lambda x: loop(x, lambda x: x @ x), x)


def test_convolution():
    image, kernel = jnp.zeros((2, 3, 8, 8)), jnp.zeros((6, 3, 5, 5))
    convolve = lambda x, k: jax.lax.conv(x, k, (1, 1), "VALID")  # noqa: E731
    assert flops.count(convolve, image, kernel) == 2 * (2 * 6 * 4 * 4) * (3 * 5 * 5)


def test_sac_update():
    """Forward: 3 actors' worth and 6 critics'; backward: weights, and inputs as far as needed."""
    case = CASES["sac"]
    agent = case.module.make(SPEC, case.config)
    state = jax.eval_shape(agent.init, jax.random.key(0))
    batch = jax.eval_shape(lambda key: transitions(key, BATCH), jax.random.key(0))
    obs, action, units = 17, 6, 256
    hidden = units * units
    actor_in, actor_out, critic_in = obs * units, units * 2 * action, (obs + action) * units
    actor, critic = actor_in + hidden + actor_out, critic_in + hidden + units
    target = actor + 2 * critic
    critics = 2 * (critic + critic + hidden + units)  # forward, weights, inputs but the first
    policy = 2 * actor + hidden + actor_out + 2 * (critic + critic)  # critics: inputs, no weights
    expected = 2 * BATCH * (target + critics + policy)
    assert flops.count(agent.update, state, batch, jax.random.key(1)) == expected
