import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import edm, sampling

pytestmark = pytest.mark.usefixtures("strict")
MEAN, VAR = 0.4, 0.09


def test_preconditioning_keeps_unit_variance(x64):
    # Linear in independent data of variance sd^2 and noise: variances add up.
    sigma, sd = jnp.array([1e-3, 0.1, 0.5, 2.0, 80.0]), 0.5
    c = edm.precondition(sigma, sd)
    np.testing.assert_allclose(c.scale**2 * (sd**2 + sigma**2), 1, rtol=1e-6)
    target = ((1 - c.skip) ** 2 * sd**2 + (c.skip * sigma) ** 2) / c.out**2
    np.testing.assert_allclose(target, 1, rtol=1e-6)
    np.testing.assert_allclose(c.noise, np.log(sigma) / 4)


def test_without_noise_the_estimate_is_the_input():
    x = jnp.array([[0.3, -2.0]])
    found = edm.clean(0.5, lambda x, t: 7 * jnp.ones_like(x), x, jnp.array([1e-6]))
    np.testing.assert_allclose(found, x, atol=1e-5)


def test_noise_levels_are_truncated_log_logistic():
    found = edm.log_logistic(0.05, 1.0, jnp.log(0.5), 0.5, jax.random.key(0), 20_000)
    assert float(found.min()) >= 0.05 and float(found.max()) <= 1.0

    def share(x):  # of the logistic below x
        return 1 / (1 + np.exp(-(np.log(x) - np.log(0.5)) / 0.5))

    median = (share(0.05) + share(1.0)) / 2
    expected = np.exp(np.log(0.5) + 0.5 * np.log(median / (1 - median)))
    assert float(jnp.median(found)) == pytest.approx(expected, rel=0.02)


def test_beso_s_three_levels():
    found = edm.sigmas(0.005, 1.0, 3, "exponential")
    np.testing.assert_allclose(found, [1, 0.0707, 0.005, 0], atol=1e-4)
    np.testing.assert_allclose(edm.sigmas(0.002, 80.0, 1, "karras"), [80, 0], rtol=1e-5)


def test_seventh_roots_are_evenly_spaced(x64):
    found = edm.sigmas(0.002, 80.0, 5, "karras")
    roots = np.asarray(found[:-1]) ** (1 / 7)
    np.testing.assert_allclose(np.diff(roots), np.diff(roots)[0])
    assert float(found[0]) == pytest.approx(80) and float(found[-2]) == pytest.approx(0.002)


@pytest.mark.parametrize("sampler", ["dpm1", "dpm2m", "heun"])
def test_the_last_step_lands_on_the_estimate(sampler):
    process = edm.process(sampler=sampler)
    row = jax.tree.map(lambda x: x[-1], process.grid)
    path = sampling.Path(jnp.ones((2, 1)), jnp.zeros((2, 1)))
    found = process.step(lambda x, t: jnp.full_like(x, 0.2), path, row, jax.random.key(0))
    np.testing.assert_allclose(found.x, 0.2, rtol=1e-6)


def gap(sampler, steps):
    """Distance from the exact end of a path, for normal data whose score is known."""
    levels = jnp.geomspace(2.0, 0.02, steps + 1)
    process = edm.process(sampler=sampler, sigma_max=2.0)._replace(
        grid=edm.grid(levels, sampler == "dpm2m"),
        clean=lambda network, x, s: MEAN + VAR / (VAR + sampling.column(s, x) ** 2) * (x - MEAN),
    )
    noise = jax.random.normal(jax.random.key(0), (8, 1))
    found = sampling.sample(process, None, noise, jax.random.key(1))
    shrunk = jnp.sqrt((VAR + 0.02**2) / (VAR + 2.0**2))
    return float(jnp.abs(found - MEAN - (2 * noise - MEAN) * shrunk).max())


@pytest.mark.parametrize("sampler, order", [("dpm1", 1), ("dpm2m", 2), ("heun", 2)])
def test_order_of_convergence(sampler, order, x64):
    ratio = gap(sampler, 40) / gap(sampler, 80)
    assert ratio == pytest.approx(2**order, rel=0.2)


def test_more_steps_reproduce_normal_data(x64):
    noise = jax.random.normal(jax.random.key(0), (4000, 1))
    process = edm.process(sampler="heun", sample_steps=20, sigma_max=20.0, spacing="karras")
    process = process._replace(
        clean=lambda network, x, s: MEAN + VAR / (VAR + sampling.column(s, x) ** 2) * (x - MEAN)
    )
    found = sampling.sample(process, None, noise, jax.random.key(1))
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(found.var()) == pytest.approx(VAR, rel=0.05)
