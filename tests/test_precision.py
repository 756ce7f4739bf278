"""What `bfloat16` computes in, and what stays in single precision under it."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import pytest

from jaxrl.types import Agent
from tests.agents.catalog import CASES
from tests.test_protocol import on_mesh, updates

AGENTS = [case for case in CASES if not case.variant]
# Of probabilities, schedules and targets. Activations, which use exp and tanh, may be halves.
PRECISE = {"log", "pow", "logistic", "erf_inv", "cumsum", "cumlogsumexp", "sqrt", "rsqrt"}


def low(config):
    return dataclasses.replace(config, dtype="bfloat16")


def equations(jaxpr):
    """All equations of a program and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def traced(case, change=None):
    agent = case.make(change)
    state = jax.eval_shape(agent.init, jax.random.key(0))
    batch = jax.eval_shape(lambda: case.batch_of(0))
    return state, jax.make_jaxpr(agent.update)(state, batch, jax.random.key(0))


def in_halves(jaxpr):
    """Names of the operations whose results are bfloat16."""
    return [
        equation.primitive.name
        for equation in equations(jaxpr.jaxpr)
        if any(getattr(out.aval, "dtype", None) == jnp.bfloat16 for out in equation.outvars)
    ]


@pytest.mark.parametrize("case", AGENTS, ids=lambda case: case.name)
def test_products_are_halves_and_everything_else_that_counts_is_not(case):
    state, jaxpr = traced(case, low)
    kept = {str(x.dtype) for x in jax.tree.leaves(state)}
    told = {str(out.aval.dtype) for out in jaxpr.jaxpr.outvars}
    assert kept == told == {"float32", "int32"}
    operations = in_halves(jaxpr)
    assert operations.count("dot_general") >= 5
    assert not PRECISE & set(operations)


@pytest.mark.parametrize("case", AGENTS, ids=lambda case: case.name)
def test_single_precision_has_no_halves(case):
    assert not in_halves(traced(case)[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sac", "diffusion_policy"])
def test_meshes_agree_in_half_precision_to_half_a_hundredth(name):
    """Gradients are then summed over devices as halves, and Adam moves by their signs."""
    case = next(case for case in AGENTS if case.name == name)
    agent, batch = Agent(*map(jax.jit, case.make(low))), case.batch_of(0)
    state = agent.init(jax.random.key(1))
    one = updates(agent, state, batch, 3)
    chex.assert_trees_all_close(on_mesh(agent, (2, 4, 1), state, batch, 3), one, atol=5e-3)
