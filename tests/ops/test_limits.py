import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import limits
from jaxrl.ops.limits import Limits

pytestmark = pytest.mark.usefixtures("strict")


def test_limits_map_to_the_unit_box_and_back_and_constants_to_zero():
    of = Limits(jnp.array([-3.0, 2.0, 0.5]), jnp.array([5.0, 2.0, 0.50001]))
    x = jnp.array([[-3.0, 2.0, 0.5], [5.0, 2.0, 0.5], [1.0, 2.5, 0.5]])
    found = limits.normalize(of, x)
    np.testing.assert_allclose(found, [[-1, 0, 0], [1, 0, 0], [0, 0.5, 0]], atol=1e-5)
    np.testing.assert_allclose(limits.unnormalize(of, found), x, atol=1e-6)


def test_leading_axes_are_free_and_trees_are_kept():
    of = Limits({"a": jnp.zeros(2)}, {"a": jnp.array([2.0, 4.0])})
    found = limits.normalize(of, {"a": jnp.full((3, 5, 2), 2.0)})
    np.testing.assert_array_equal(found["a"], jnp.broadcast_to(jnp.array([1.0, 0.0]), (3, 5, 2)))


def test_unit_limits_change_nothing():
    spec = {"a": jax.ShapeDtypeStruct((2,), jnp.float32), "b": jax.ShapeDtypeStruct((), jnp.int32)}
    x = {"a": jnp.array([[3.0, -0.1]]), "b": jnp.array([7])}
    found = limits.normalize(limits.unit(spec), x)
    jax.tree.map(np.testing.assert_array_equal, found, x)
