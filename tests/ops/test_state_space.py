import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import state_space

pytestmark = pytest.mark.usefixtures("strict")
HOW = pytest.mark.parametrize("associative", [False, True])


def inputs(length=12, batch=2, channels=3, state=4):
    keys = jax.random.split(jax.random.key(0), 5)
    u = jax.random.normal(keys[0], (batch, length, channels))
    dt = jax.random.uniform(keys[1], u.shape)
    a = -jnp.exp(jax.random.normal(keys[2], (channels, state)))
    b, c = jax.random.normal(keys[3], (2, batch, length, state))
    return u, dt, a, b, c


@HOW
def test_a_constant_step_size_gives_a_geometric_memory(associative):
    """dt, b = c = 1, a = -1: y_t = dt sum_{j <= t} exp(-dt (t - j)) u_j."""
    u, dt = inputs()[0], 0.3
    lag = np.arange(12)[:, None] - np.arange(12)[None]
    kernel = np.where(lag >= 0, dt * np.exp(-dt * lag), 0)
    ones = jnp.ones((2, 12, 1))
    args = u, jnp.full_like(u, dt), -jnp.ones((3, 1)), ones, ones
    y = state_space.selective_scan(*args, associative)
    np.testing.assert_allclose(y, np.einsum("tj,bjd->btd", kernel, u), atol=1e-5)


def test_both_scans_agree_and_so_do_their_gradients():
    args = inputs()

    def total(associative, *args):
        return jnp.square(state_space.selective_scan(*args, associative)).sum()

    one, two = (
        jax.jit(jax.value_and_grad(lambda *x: total(how, *x), tuple(range(5))))(*args)  # noqa: B023
        for how in (False, True)
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), one, two)


@HOW
def test_a_growing_history_gives_the_same_outputs(associative):
    u, dt, a, b, c = inputs()
    whole = state_space.selective_scan(u, dt, a, b, c, associative)
    part = (x[:, :7] for x in (u, dt))
    first = state_space.selective_scan(*part, a, b[:, :7], c[:, :7], associative)
    np.testing.assert_allclose(first, whole[:, :7], atol=1e-5)


@HOW
def test_steps_of_size_zero_leave_no_trace(associative):
    u, dt, a, b, c = inputs()
    gated = dt.at[:, :5].set(0)
    y = state_space.selective_scan(u.at[:, :5].set(1e3), gated, a, b, c, associative)
    short = state_space.selective_scan(u[:, 5:], dt[:, 5:], a, b[:, 5:], c[:, 5:], associative)
    np.testing.assert_allclose(y[:, 5:], short, atol=1e-5)


def test_an_impulse_reaches_as_many_steps_as_the_kernel_has():
    u = jnp.zeros((1, 10, 2)).at[0, 3].set(1.0)
    kernel = jnp.arange(1.0, 9).reshape(4, 2)
    y = state_space.causal_conv(u, kernel)
    np.testing.assert_array_equal(y[0, 3:7], kernel[::-1])
    assert not y[0, :3].any()
    assert not y[0, 7:].any()
