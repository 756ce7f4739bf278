import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import flow, sampling

pytestmark = pytest.mark.usefixtures("strict")
MEAN, VAR = 0.4, 0.09


def noise(n=16):
    return jax.random.normal(jax.random.key(0), (n, 2))


def test_the_path_is_straight_from_noise_to_data():
    data = 0.5 * noise()[::-1]
    for t, expected in [(0.0, noise()), (1.0, data), (0.25, 0.75 * noise() + 0.25 * data)]:
        found = flow.corrupt(data, noise(), jnp.full(16, t))
        np.testing.assert_allclose(found.x, expected, rtol=1e-6)
        np.testing.assert_allclose(found.target, data - noise(), rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_a_single_point_is_hit_exactly(steps):
    def velocity(x, time):
        return (0.7 - x) / (1 - sampling.column(time / flow.TICKS, x))

    found = sampling.sample(flow.process(steps), velocity, noise(), jax.random.key(1))
    np.testing.assert_allclose(found, 0.7, rtol=1e-5)


def test_steps_are_euler_s(x64):
    def velocity(x, time):
        return jnp.sin(x) + sampling.column(time, x) / flow.TICKS

    x = noise()
    for i in range(4):
        x = x + 0.25 * velocity(x, jnp.full(16, 25.0 * i))
    found = sampling.sample(flow.process(4), velocity, noise(), jax.random.key(1))
    np.testing.assert_allclose(found, x, rtol=1e-6)


def normal_velocity(x, time):
    """E[x_1 - z | x_t] for normal data."""
    t = sampling.column(time, x) / flow.TICKS
    total = (1 - t) ** 2 + t**2 * VAR
    return MEAN + (t * VAR - (1 - t)) / total * (x - t * MEAN)


def test_error_on_normal_data_falls_as_the_step_does(x64):
    def gap(steps):
        found = sampling.sample(flow.process(steps), normal_velocity, noise(), jax.random.key(1))
        return float(jnp.abs(found - MEAN - jnp.sqrt(VAR) * noise()).max())

    assert gap(40) / gap(80) == pytest.approx(2, rel=0.1)
