import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import losses

POINTS = (jnp.arange(20_000) + 0.5) / 20_000
LAWS = {
    "bernoulli": jnp.array([0.0, 1.0]),
    "uniform": POINTS,
    "normal": jax.scipy.stats.norm.ppf(POINTS),
}


def fit(samples, tau):
    """The constant with the least expectile loss, by Newton's method."""

    def loss(v):
        return losses.expectile(samples - v, tau).mean()

    v = samples.mean()
    for _ in range(20):
        v = v - jax.grad(loss)(v) / jax.hessian(loss)(v)
    return float(v)


@pytest.mark.parametrize(
    "law, tau, expected",
    [
        ("bernoulli", 0.5, 0.5),
        ("bernoulli", 0.9, 0.9),
        ("uniform", 0.7, 0.604356),
        ("uniform", 0.9, 0.75),
        ("normal", 0.7, 0.337120),
        ("normal", 0.8, 0.549156),
        ("normal", 0.9, 0.861592),
        ("normal", 0.95, 1.140171),
    ],
)
def test_expectiles_of_known_laws(law, tau, expected):
    assert fit(LAWS[law], tau) == pytest.approx(expected, abs=1e-3)


def test_expectile_of_a_half_is_half_the_squared_error():
    error = jnp.array([-2.0, 0.0, 3.0])
    np.testing.assert_allclose(losses.expectile(error, 0.5), 0.5 * jnp.square(error))


def test_expectile_grows_with_tau_towards_the_maximum():
    samples = jnp.array([0.0, 1.0, 4.0])
    fits = [fit(samples, tau) for tau in (0.1, 0.5, 0.7, 0.9, 0.999)]
    assert fits == sorted(fits)
    assert fits[0] < fits[-1]
    assert fits[-1] == pytest.approx(4.0, abs=0.02)


def test_advantage_weights_are_bounded_exactly():
    advantage = jnp.array([10.0, -jnp.inf, 0.0, 0.1, jnp.inf])
    weight = losses.advantage_weight(advantage, beta=3.0, cap=100.0)
    np.testing.assert_allclose(weight, [100, 0, 1, np.exp(0.3), 100], rtol=1e-6)
    assert weight[0] == weight[4] == 100.0


def test_advantage_weights_carry_no_gradient():
    grad = jax.grad(lambda a: losses.advantage_weight(a, 3.0, 100.0).sum())(jnp.array([0.1, 50.0]))
    np.testing.assert_array_equal(grad, [0.0, 0.0])


def test_advantage_weights_are_computed_in_full_precision():
    weight = losses.advantage_weight(jnp.array([0.1], jnp.bfloat16), 10.0, 100.0)
    assert weight.dtype == jnp.float32


def test_zero_inverse_temperature_weighs_all_alike():
    weight = losses.advantage_weight(jnp.array([-5.0, 0.0, 5.0]), 0.0, 100.0)
    np.testing.assert_array_equal(weight, [1.0, 1.0, 1.0])


def test_weighted_mean():
    x, weight = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([0.5, 1.5])
    assert losses.mean(x) == 2.5
    assert losses.mean(x, weight) == pytest.approx((0.5 + 3 + 1.5 + 6) / 4)
    with pytest.raises(AssertionError):
        losses.mean(x, jnp.ones(3))


def test_standardized_numbers_have_mean_zero_and_deviation_one():
    x = jnp.array([1.0, 2.0, 3.0, 10.0])
    np.testing.assert_allclose(losses.standardize(x), (x - 4) / np.std(x), rtol=1e-6)
    np.testing.assert_array_equal(losses.standardize(jnp.ones(3)), 0)


def test_a_weight_of_two_counts_a_row_twice():
    x, weight = jnp.array([1.0, 2.0, 4.0]), jnp.array([1.5, 0.75, 0.75])
    twice = losses.standardize(jnp.array([1.0, 1.0, 2.0, 4.0]))
    np.testing.assert_allclose(losses.standardize(x, weight), twice[1:], rtol=1e-5)


def test_a_masked_mean_is_over_the_steps_that_count():
    x = jnp.array([[1.0, 2, 3], [4, jnp.nan, jnp.inf]])
    mask = jnp.array([[True, True, True], [True, False, False]])
    assert float(losses.masked_mean(x, mask)) == pytest.approx(10 / 4)
    weighted = losses.masked_mean(x, mask, jnp.array([0.5, 1.5]))
    assert float(weighted) == pytest.approx((0.5 * 6 + 1.5 * 4) / (0.5 * 3 + 1.5))
    assert float(losses.masked_mean(x, mask & False)) == 0
    grad = jax.grad(losses.masked_mean)(x, mask)
    np.testing.assert_allclose(grad, np.array([[0.25, 0.25, 0.25], [0.25, 0, 0]]))
