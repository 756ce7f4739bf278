import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import networks as nets
from jaxrl.networks import mamba

pytestmark = pytest.mark.usefixtures("strict")


@functools.cache
def parameters(width, **options):
    x, mask = jnp.zeros((1, 2, width)), jnp.ones((1, 2), bool)
    return jax.jit(nets.Mamba(**options).init)(jax.random.key(0), x, mask)


def test_first_step_sizes_are_within_their_range():
    bias = mamba.step_size_bias(jax.random.key(0), (1000,))
    dt = np.asarray(jax.nn.softplus(bias))
    assert dt.min() >= 0.99e-3
    assert dt.max() <= 0.101
    quartiles = np.quantile(np.log(dt), [0.25, 0.5, 0.75])  # uniform between log .001 and log .1
    np.testing.assert_allclose(
        quartiles, np.log(1e-3) + np.log(100) * np.array([1, 2, 3]) / 4, atol=0.3
    )


def test_parameters_of_the_recurrence():
    params = parameters(32, state=3)["params"]
    rates = np.exp(np.asarray(params["a_log"]))
    np.testing.assert_allclose(rates, np.tile([1, 2, 3], (64, 1)), rtol=1e-6)
    np.testing.assert_array_equal(params["skip"], np.ones(64))
    assert params["select"]["kernel"].shape == (64, 2 + 2 * 3)  # rank is width / 16
    assert set(params["in"]) == {"kernel"}  # no bias


def test_weight_decay_spares_the_recurrence_alone():
    flat = jax.tree_util.tree_leaves_with_path(nets.decayed(parameters(32, state=3)))
    spared = {path[-1].key for path, decays in flat if not decays}
    assert spared == {"a_log", "skip"}
