import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxrl.distributions import (
    Categorical,
    Deterministic,
    Gaussian,
    TanhGaussian,
    tanh_log_slope,
)
from tests import quadrature

pytestmark = pytest.mark.usefixtures("strict")


def one(mean, std):
    """Parameters of one action dimension, batch size one."""
    return jnp.full((1, 1), float(mean)), jnp.full((1, 1), float(np.log(std)))


@pytest.mark.parametrize(
    "u, exact",
    [(0, 0.0), (3, -4.618657), (5, -8.613796), (8, -14.613706), (20, -38.613706)],
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_log_slope_of_tanh_is_exact_far_out(u, exact, sign):
    assert float(tanh_log_slope(jnp.array(sign * float(u)))) == pytest.approx(exact, abs=1e-5)


def test_log_slope_has_finite_gradients():
    grad = jax.vmap(jax.grad(tanh_log_slope))(jnp.array([-200.0, -20.0, 0.0, 20.0, 200.0]))
    np.testing.assert_allclose(grad, [2, 2, 0, -2, -2], atol=1e-6)


@pytest.mark.parametrize("mean, std", [(0, 0.1), (0.5, 0.5), (-1, 1), (0, 2), (3, 0.3)])
def test_log_prob_agrees_with_double_precision(mean, std):
    u = np.linspace(mean - 3 * std, mean + 3 * std, 101)
    u = u[np.abs(u) < 3.5]  # float32 actions cannot say more precisely where u was
    batch = len(u), 1
    policy = TanhGaussian(*(jnp.broadcast_to(x, batch) for x in one(mean, std)))
    found = policy.log_prob(jnp.tanh(jnp.asarray(u, jnp.float32))[:, None])
    np.testing.assert_allclose(found, quadrature.log_density(u, mean, std), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("mean, std", [(0, 0.1), (0.5, 0.5), (-1, 1), (0, 2)])
def test_density_integrates_to_one(mean, std):
    edge = np.tanh(np.linspace(-6, 6, 20_001))  # fine where the density is steep
    policy = TanhGaussian(*(jnp.broadcast_to(x, (len(edge), 1)) for x in one(mean, std)))
    density = np.exp(np.float64(policy.log_prob(jnp.asarray(edge)[:, None], clip=1e-7)))
    assert np.trapezoid(density, edge) == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize(
    "std, entropy",
    [(0.1, -0.8936), (0.2, -0.2297), (0.5, 0.49997), (1, 0.6698), (2, -0.0012), (np.e, -0.7654)]
    + [(0.874401, 0.683636), (0.0897328, -1.0), (0.150068, -0.5)],
)
def test_entropy_of_a_squashed_normal(std, entropy):
    assert quadrature.entropy(0, std) == pytest.approx(entropy, abs=1e-4)
    n = 100_000
    policy = TanhGaussian(*(jnp.broadcast_to(x, (n, 1)) for x in one(0, std)))
    sampled = jax.jit(lambda key: policy.entropy(key))(jax.random.key(0))
    assert sampled.shape == (n,)
    assert float(sampled.mean()) == pytest.approx(entropy, abs=5 * float(sampled.std()) / n**0.5)


def test_samples_carry_their_own_log_prob():
    policy = TanhGaussian(jnp.array([[0.3, -1.0]]), jnp.array([[-0.5, -2.0]]))
    action, log_prob = policy.sample_and_log_prob(jax.random.key(0))
    assert action.shape == (1, 2)
    assert log_prob.shape == (1,)
    np.testing.assert_allclose(log_prob, policy.log_prob(action), rtol=1e-4)
    np.testing.assert_array_equal(action, policy.sample(jax.random.key(0)))
    np.testing.assert_allclose(policy.mode(), np.tanh([[0.3, -1.0]]), rtol=1e-6)


def test_log_prob_is_finite_at_the_bounds_and_far_out():
    at_bounds = TanhGaussian(*one(0, 1)).log_prob(jnp.array([[1.0], [-1.0]])[:1])
    assert jnp.isfinite(at_bounds).all()
    far = TanhGaussian(*one(20, 1)).sample_and_log_prob(jax.random.key(0))
    assert float(far[0][0, 0]) == 1.0
    assert 30 < float(far[1][0]) < 45  # the density grows as 1 / (1 - a^2)


def test_reparameterised_samples_have_gradients():
    def action(mean):
        return TanhGaussian(mean, jnp.zeros((1, 1))).sample(jax.random.key(0))[0, 0]

    a, slope = jax.value_and_grad(action)(jnp.full((1, 1), 0.2))
    assert float(slope[0, 0]) == pytest.approx(float(1 - a**2), abs=1e-6)


def test_gaussian():
    mean, log_std = jnp.array([[0.5, -1.0], [0.0, 2.0]]), jnp.array([[0.1, -0.7]])
    policy = Gaussian(mean, jnp.broadcast_to(log_std, mean.shape))
    action = jnp.array([[0.0, 0.0], [1.0, 1.0]])
    expected = stats.norm(np.array(mean), np.exp(np.array(log_std))).logpdf(np.array(action))
    np.testing.assert_allclose(policy.log_prob(action), expected.sum(-1), rtol=1e-5)
    np.testing.assert_allclose(
        Gaussian(mean, log_std).log_prob(action), policy.log_prob(action), rtol=1e-6
    )
    entropy = stats.norm(0, np.exp(np.array(log_std[0]))).entropy().sum()
    np.testing.assert_allclose(Gaussian(mean, log_std).entropy(), [entropy] * 2, rtol=1e-6)
    np.testing.assert_array_equal(policy.mode(), mean)


def test_gaussian_samples():
    policy = Gaussian(jnp.full((50_000, 1), 2.0), jnp.full((50_000, 1), np.log(0.5)))
    action, log_prob = policy.sample_and_log_prob(jax.random.key(0))
    assert float(action.mean()) == pytest.approx(2, abs=0.02)
    assert float(action.std()) == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(log_prob, policy.log_prob(action), rtol=1e-5, atol=1e-6)


def test_categorical():
    policy = Categorical(jnp.log(jnp.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]])) + 3)
    np.testing.assert_allclose(jnp.exp(policy.log_probs()).sum(-1), 1, rtol=1e-6)
    found = policy.log_prob(jnp.array([2, 1]))
    np.testing.assert_allclose(found, np.log([0.7, 0.25]), rtol=1e-5)
    entropies = [stats.entropy([0.1, 0.2, 0.7]), stats.entropy([0.5, 0.25, 0.25])]
    np.testing.assert_allclose(policy.entropy(), entropies, rtol=1e-5)
    assert policy.mode().tolist() == [2, 0]


def test_categorical_samples():
    policy = Categorical(jnp.broadcast_to(jnp.log(jnp.array([0.1, 0.2, 0.7])), (50_000, 3)))
    action, log_prob = policy.sample_and_log_prob(jax.random.key(0))
    np.testing.assert_allclose(np.bincount(action) / 50_000, [0.1, 0.2, 0.7], atol=0.01)
    np.testing.assert_array_equal(log_prob, policy.log_prob(action))


def test_deterministic():
    policy = Deterministic(jnp.array([[0.5, -0.5]]))
    np.testing.assert_array_equal(policy.sample(jax.random.key(0)), policy.mode())


def test_impossible_choices_have_no_entropy_of_their_own():
    policy = Categorical(jnp.array([[0.0, 0.0, -1e9]]))
    assert float(policy.entropy()[0]) == pytest.approx(np.log(2), abs=1e-6)


def test_half_precision_parameters_give_float32_numbers():
    half = jnp.zeros((2, 3), jnp.bfloat16)
    for policy in (Gaussian(half, half), TanhGaussian(half, half), Categorical(half)):
        action, log_prob = policy.sample_and_log_prob(jax.random.key(0))
        assert log_prob.dtype == jnp.float32
        assert policy.log_prob(action).dtype == jnp.float32
        if not isinstance(policy, Categorical):
            assert action.dtype == policy.mode().dtype == jnp.float32
    assert Gaussian(half, half).entropy().dtype == Categorical(half).entropy().dtype == jnp.float32


def test_double_precision_stays(x64):
    mean, log_std = one(0.5, 0.5)
    assert mean.dtype == jnp.float64
    found = TanhGaussian(mean, log_std).log_prob(jnp.tanh(jnp.array([[0.7]])))
    exact = quadrature.log_density(np.array([0.7]), 0.5, 0.5)
    np.testing.assert_allclose(found, exact, rtol=1e-9)
