import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import networks as nets
from tests.loops.scripted import keys

pytestmark = pytest.mark.usefixtures("strict")
INIT = nets.orthogonal(2.0)


def drawn(key, shape=(48, 32)):
    return INIT(key, shape)


def test_columns_are_orthogonal_and_of_that_length():
    kernel = drawn(jax.random.key(0))
    np.testing.assert_allclose(kernel.T @ kernel, 4 * np.eye(32), atol=1e-5)


def test_it_draws_what_jax_draws():
    expected = jax.nn.initializers.orthogonal(2.0)(jax.random.key(0), (48, 32))
    np.testing.assert_array_equal(drawn(jax.random.key(0)), expected)


def test_stacks_hold_what_each_key_draws_alone():
    nested = jnp.stack([keys(2), jax.random.split(jax.random.key(7), 2)])
    stack = jax.jit(jax.vmap(jax.vmap(drawn)))(jax.random.clone(nested))
    for i, j in np.ndindex(2, 2):
        np.testing.assert_allclose(stack[i, j], drawn(jax.random.clone(nested)[i, j]), atol=1e-6)


def factorised(draw):
    """Ranks of what the program for two seeds hands to the factorisation, on this CPU."""
    text = jax.jit(jax.vmap(draw)).lower(keys(2)).compile().as_text()
    calls = [line for line in text.splitlines() if "geqrf" in line and "custom-call" in line]
    return {len(re.search(r"f32\[([\d,]+)\]", line)[1].split(",")) for line in calls}


def test_no_stack_is_factorised_at_once():
    """Several at once never end on a machine of two cores."""
    assert factorised(drawn) == {2}
    theirs = jax.nn.initializers.orthogonal(2.0)
    assert factorised(lambda key: theirs(key, (48, 32))) == {3}
