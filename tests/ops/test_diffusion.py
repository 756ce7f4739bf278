import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import diffusion, sampling

pytestmark = pytest.mark.usefixtures("strict")


def abar_of(beta):
    return np.cumprod(1 - beta)


def noise(n=16, seed=0):
    return jax.random.normal(jax.random.key(seed), (n, 3))


def perfect(abar, mean=0.3, var=0.0):
    """The exact prediction of eps where data are normal, or where all are the same number."""

    def network(x, time):
        level = sampling.at(abar, time.astype(int), x)
        total = level * var + 1 - level
        return (x - jnp.sqrt(level) * mean) * jnp.sqrt(1 - level) / total

    return network


def test_cosine_schedule_by_table():
    beta = diffusion.cosine(100)
    found = beta[[0, 1, 50, 98, 99]]
    np.testing.assert_allclose(found, [0.000631, 0.001117, 0.031546, 0.749939, 0.999], atol=1e-6)
    np.testing.assert_allclose(abar_of(beta)[[0, 50]], [0.999369, 0.478265], atol=1e-6)


def test_variance_preserving_schedule_by_table():
    beta = diffusion.variance_preserving(5)
    np.testing.assert_allclose(beta, [0.195875, 0.458818, 0.635781, 0.754878, 0.835031], atol=1e-6)
    expected = [0.804125, 0.435178, 0.1585, 0.038852, 0.006409]
    np.testing.assert_allclose(abar_of(beta), expected, atol=1e-6)
    for steps in (3, 20, 1000):
        last = abar_of(diffusion.variance_preserving(steps))[-1]
        assert last == pytest.approx(0.006409, abs=1e-6)


def test_posterior_by_table():
    abar = abar_of(diffusion.variance_preserving(5))
    of_clean, of_x, variance = diffusion.coefficients(
        jnp.asarray(abar), jnp.append(1.0, jnp.asarray(abar[:-1]))
    )
    close = {"atol": 1e-5}
    np.testing.assert_allclose(variance, [0, 0.159114, 0.426742, 0.660907, 0.807766], **close)
    np.testing.assert_allclose(of_clean, [1, 0.728435, 0.49841, 0.312681, 0.165654], **close)
    np.testing.assert_allclose(of_x, [0, 0.255116, 0.405078, 0.433466, 0.392901], **close)


@pytest.mark.parametrize("steps", [100, 10])
def test_posterior_keeps_the_signal(steps):
    row = diffusion.grid(abar_of(diffusion.cosine(100)), steps)
    of_clean, of_x, _ = diffusion.coefficients(*map(jnp.asarray, row[1:]))
    kept = of_clean + of_x * np.sqrt(row.abar)
    np.testing.assert_allclose(kept, np.sqrt(row.following), rtol=1e-4)


def test_grid_of_a_short_chain():
    abar = abar_of(diffusion.cosine(100))
    row = diffusion.grid(abar, 8)
    np.testing.assert_array_equal(row.time, [84, 72, 60, 48, 36, 24, 12, 0])
    np.testing.assert_array_equal(row.abar, abar[row.time])
    np.testing.assert_array_equal(row.following, [*row.abar[1:], 1.0])


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v"])
@pytest.mark.parametrize("schedule", diffusion.SCHEDULES)
def test_a_perfect_prediction_recovers_the_data(kind, schedule, x64):
    abar = abar_of(diffusion.SCHEDULES[schedule](100))
    time = jnp.arange(100)
    x0 = 0.5 * noise(100, 1)
    noisy = diffusion.corrupt(abar, kind, x0, noise(100), time)
    np.testing.assert_array_equal(noisy.time, time)
    found = diffusion.clean(abar, kind, lambda x, t: noisy.target, noisy.x, time)
    np.testing.assert_allclose(found, x0, atol=1e-4)


def test_noise_has_the_stated_share(x64):
    abar = abar_of(diffusion.cosine(20))
    x0 = jnp.full((2, 1), 0.5)
    found = diffusion.corrupt(abar, "epsilon", x0, jnp.ones((2, 1)), jnp.array([0, 19]))
    expected = 0.5 * np.sqrt(abar[[0, 19]]) + np.sqrt(1 - abar[[0, 19]])
    np.testing.assert_allclose(found.x[:, 0], expected)


@pytest.mark.parametrize("sampler, steps", [("ddpm", 20), ("ddim", 20), ("ddim", 5), ("idql", 20)])
def test_a_perfect_network_samples_the_one_point(sampler, steps):
    beta = diffusion.cosine(20)
    process = diffusion.process(beta, sampler=sampler, sample_steps=steps)
    found = sampling.sample(process, perfect(abar_of(beta)), noise(), jax.random.key(1))
    np.testing.assert_allclose(found, 0.3, atol=1e-4)


def exact_variance(steps, var):
    """Of what DDPM makes of normal data: every step is linear in x. Its own is a little small."""
    found = 1.0
    _, levels, after = diffusion.grid(abar_of(diffusion.cosine(steps)), steps)
    for abar, following in zip(levels, after, strict=True):
        of_clean, of_x, added = diffusion.coefficients(jnp.float32(abar), jnp.float32(following))
        slope = np.sqrt(abar) * var / (abar * var + 1 - abar)
        found = float(of_clean * slope + of_x) ** 2 * found + float(added)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("steps", [100, 400])
def test_normal_data_are_reproduced(steps):
    beta = diffusion.cosine(steps)
    process = diffusion.process(beta, clip=None)
    network = perfect(abar_of(beta), mean=0.3, var=0.25)
    found = sampling.sample(process, network, noise(20_000), jax.random.key(1))
    assert float(found.mean()) == pytest.approx(0.3, abs=0.02)
    assert float(found.var()) == pytest.approx(exact_variance(steps, 0.25), rel=0.02)
    assert float(found.var()) == pytest.approx(0.25, rel={100: 0.1, 400: 0.05}[steps])


def chain(eta, seed, sampler="ddim"):
    beta = diffusion.cosine(20)
    process = diffusion.process(beta, sampler=sampler, eta=eta)
    network = perfect(abar_of(beta), var=0.25)
    return sampling.sample(process, network, noise(), jax.random.key(seed))


def test_ddim_without_noise_is_a_function_of_where_it_starts():
    np.testing.assert_array_equal(chain(0.0, 1), chain(0.0, 2))
    assert float(jnp.abs(chain(0.5, 1) - chain(0.5, 2)).max()) > 0.01


def test_ddim_with_all_the_noise_is_ddpm():
    np.testing.assert_allclose(chain(1.0, 1), chain(1.0, 1, "ddpm"), atol=1e-5)


def test_the_last_step_adds_no_noise():
    row = jax.tree.map(lambda x: jnp.asarray(x[-1]), diffusion.grid(np.array([0.9, 0.5]), 2))
    assert int(row.time) == 0 and float(row.following) == 1
    path = sampling.Path(noise(), noise())
    for step in (diffusion.ddpm_step, diffusion.idql_step):
        found = step(lambda x, t: 0.1 * x, path, row, jax.random.key(0)).x
        np.testing.assert_allclose(found, 0.1 * noise(), rtol=1e-6)


def test_estimates_are_clipped_before_the_posterior():
    abar = np.array([0.9, 0.5])
    process = diffusion.process(1 - abar / np.append(1, abar[:-1]))
    row = jax.tree.map(lambda x: jnp.asarray(x[0]), process.grid)
    x = jnp.zeros((4, 1))

    def three(x, time):  # the noise that makes the estimate 3
        return (x - jnp.sqrt(0.5) * 3) / jnp.sqrt(0.5)

    def denoise(x, time):
        return sampling.estimate(process, three, None, x, time)

    found = diffusion.ddpm_step(denoise, sampling.Path(x, x), row, jax.random.key(0)).x
    of_clean, _, variance = diffusion.coefficients(row.abar, row.following)
    spread = jnp.sqrt(variance) * jax.random.normal(jax.random.key(0), x.shape)
    np.testing.assert_allclose(found, 1 * of_clean + spread, rtol=1e-5)


def test_idql_s_chain_clips_x_itself():
    process = diffusion.process(diffusion.variance_preserving(5), sampler="idql")
    row = jax.tree.map(lambda x: jnp.asarray(x[0]), process.grid)
    path = sampling.Path(jnp.full((1, 1), 50.0), jnp.zeros((1, 1)))
    found = process.step(lambda x, t: jnp.full_like(x, 3.0), path, row, jax.random.key(0))
    assert float(found.x[0, 0]) == 1.0 and float(found.clean[0, 0]) == 3.0


def test_average_s_decay_by_table():
    found = [float(diffusion.ema_decay(jnp.int32(n))) for n in (0, 1, 2, 3, 10, 100, 1000, 10_000)]
    expected = [0, 0, 0.4054, 0.5613, 0.8222, 0.9684, 0.9944, 0.9990]
    np.testing.assert_allclose(found, expected, atol=5e-5)
    assert float(diffusion.ema_decay(jnp.int32(10**7))) == pytest.approx(0.9999)


def test_beso_s_decay_by_hand():
    assert float(diffusion.ema_warmup(jnp.int32(1))) == pytest.approx(2 / 11)
    assert float(diffusion.ema_warmup(jnp.int32(100_000))) == pytest.approx(0.999)
