import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.ops import optimizers


def test_cosine_falls_to_nothing_over_its_steps():
    rate = optimizers.cosine(0.4, 10)
    np.testing.assert_allclose([rate(0), rate(5), rate(10)], [0.4, 0.2, 0.0], atol=1e-7)


def test_no_steps_keep_the_rate():
    assert optimizers.cosine(0.4, 0) == 0.4


@pytest.mark.parametrize(("max_norm", "expected"), [(1.0, [-0.6, -0.8]), (None, [-3.0, -4.0])])
def test_clipping_bounds_the_norm_of_a_gradient_of_norm_five(max_norm, expected):
    optimizer = optimizers.clipped(optax.sgd(1.0), max_norm)
    gradient = jnp.array([3.0, 4.0])
    step, _ = optimizer.update(gradient, optimizer.init(gradient))
    np.testing.assert_allclose(step, expected, rtol=1e-6)
