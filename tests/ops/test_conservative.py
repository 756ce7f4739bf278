import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import conservative


def single(x):
    """Candidates `[M]` as `[E, B, M]` with one critic and one state."""
    return jnp.asarray(x)[None, None]


@pytest.mark.parametrize("dims", [1, 3, 6])
def test_constant_critic_and_uniform_candidates(dims):
    q, q_data = jnp.full((2, 4, 30), 1.5), jnp.full((2, 4), 1.5)
    log_density = jnp.full((4, 30), -dims * jnp.log(2.0))
    found = conservative.gap(q, q_data, log_density)
    np.testing.assert_allclose(found, np.log(30) + dims * np.log(2), rtol=1e-6)
    assert found.shape == (2, 4)


def test_importance_weights_make_it_an_integral():
    # log of the integral of exp(2 a) over [-1, 1], from uniform samples.
    action = jax.random.uniform(jax.random.key(0), (100_000,), minval=-1.0, maxval=1.0)
    log_density = jnp.full((1, 100_000), -jnp.log(2.0))
    found = conservative.gap(single(2 * action), jnp.zeros((1, 1)), log_density)
    assert float(found[0, 0]) - np.log(100_000) == pytest.approx(1.2884, abs=0.01)


def test_unweighted_version_counts_the_data_among_the_candidates():
    found = conservative.gap(single([0.0, 0.0]), jnp.array([[1.0]]), None)
    assert float(found[0, 0]) == pytest.approx(np.log(2 + np.e) - 1)


def test_densities_carry_no_gradient():
    def total(log_density):
        return conservative.gap(single([1.0, 2.0]), jnp.zeros((1, 1)), log_density).sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.zeros((1, 2))), jnp.zeros((1, 2)))


def test_temperature_spans_maximum_and_mean():
    q = single([1.0, 2.0, 6.0])
    cold = float(conservative.log_sum_exp(q, 0.01)[0, 0])
    hot = float(conservative.log_sum_exp(q, 1e3)[0, 0])
    assert cold == pytest.approx(6.0, abs=1e-4)
    assert hot == pytest.approx(3.0 + 1e3 * np.log(3), abs=0.02)


def test_log_sum_exp_of_large_values_is_finite_and_full_precision():
    assert float(conservative.log_sum_exp(single([1e4, 1e4]))[0, 0]) == pytest.approx(1e4, rel=1e-3)
    assert conservative.log_sum_exp(single([1.0]).astype(jnp.bfloat16)).dtype == jnp.float32


def test_order_of_max_backups():
    q = jnp.array([[1.0, 5.0], [4.0, 2.0]])[:, None]  # [E, B, N]
    np.testing.assert_array_equal(conservative.min_of_max(q), [4.0])
    value, which = conservative.max_of_min(q)
    np.testing.assert_array_equal(value, [2.0])
    np.testing.assert_array_equal(which, [1])
