import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.errors import UserError, check_range
from jaxrl.types import Spec, Transition, descend, learner


def squared(params, target):
    error = params["w"] - target
    return 0.5 * jnp.square(error).sum(), {"error": jnp.abs(error).max()}


def test_descend_is_one_optimiser_step(strict):
    optimizer = optax.sgd(0.5, momentum=0.9)
    old = learner(optimizer, {"w": jnp.array([1.0, 3.0])})
    one, metrics = descend(optimizer, squared, old, jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(one.params["w"], [0.5, 2.0])  # half the gradient (1, 2)
    assert metrics["error"] == 2  # of the parameters before the step
    two, _ = descend(optimizer, squared, one, jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(two.params["w"], [0.5 - 0.5 * (0.5 + 0.9), 2 - 0.5 * (1 + 1.8)])
    np.testing.assert_array_equal(old.params["w"], [1, 3])


def test_descend_gives_parameters_to_decay():
    optimizer = optax.adamw(0.1, weight_decay=0.5)
    still = learner(optimizer, {"w": jnp.array([2.0])})
    new, _ = descend(optimizer, squared, still, jnp.array([2.0]))
    np.testing.assert_allclose(new.params["w"], [2.0 - 0.1 * 0.5 * 2.0], rtol=1e-6)


def test_specs():
    box, choice = Spec.continuous(3, 2), Spec.categorical(4, 5)
    assert (box.obs.shape, box.action.shape, box.discrete) == ((3,), (2,), False)
    assert (choice.obs.shape, choice.action.shape, choice.num_actions) == ((4,), (), 5)
    assert choice.discrete
    assert choice.action.dtype == jnp.int32


def test_absent_fields_of_a_transition_are_no_leaves():
    x = jnp.zeros(2)
    assert len(jax.tree.leaves(Transition(x, x, x, x, x, x))) == 6
    assert len(jax.tree.leaves(Transition(x, x, x, x, x, x, weight=x))) == 7


def test_ranges_name_what_was_found_and_expected():
    check_range("gamma", 0.0, 0, 1)
    check_range("gamma", 1.0, 0, 1)
    with pytest.raises(UserError, match=r"gamma: found 1.5, expected a number in \[0, 1\]"):
        check_range("gamma", 1.5, 0, 1)
    with pytest.raises(ValueError, match=r"gamma: found nan"):
        check_range("gamma", float("nan"), 0, 1)
    jax.jit(lambda gamma: check_range("gamma", gamma, 0, 1))(7.0)  # a sweep's, known only later
