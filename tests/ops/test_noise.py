import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops.noise import normal


@pytest.mark.parametrize("shape", [(), (5,), (256, 6), (4, 3, 2)])
def test_it_is_what_jax_draws(shape):
    key = jax.random.key(0)
    drawn = normal(key, shape, jnp.float32)
    np.testing.assert_array_equal(drawn, jax.random.normal(key, shape, jnp.float32))
    assert drawn.shape == shape


def test_seeds_in_one_program_draw_what_each_draws_alone():
    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.vmap(lambda key: normal(key, (4, 2), jnp.float32))(keys)
    alone = jnp.stack([normal(key, (4, 2), jnp.float32) for key in keys])
    np.testing.assert_array_equal(together, alone)


def test_it_draws_in_the_type_that_is_asked_for():
    assert normal(jax.random.key(0), (3,), jnp.bfloat16).dtype == jnp.bfloat16
