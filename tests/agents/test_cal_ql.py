"""CQL's calibrated penalty: values below the return of the data are not pressed further down."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import cql
from jaxrl.ops import conservative
from tests.agents.catalog import BATCH, CQL, FLAT, transitions

pytestmark = pytest.mark.usefixtures("strict")
CALIBRATED = dataclasses.replace(CQL, hidden=(16, 16), calibrated=True)


def updated(config, bound):
    agent = cql.make(FLAT, config)
    batch = transitions(FLAT, jax.random.key(1))._replace(return_to_go=bound)
    state = jax.jit(agent.init)(jax.random.key(0))
    return jax.jit(agent.update)(state, batch, jax.random.key(2))


def test_the_bound_holds_for_the_policy_s_candidates_alone():
    q = jnp.array([[[0.0, 1.0, 2.0, 5.0]]])  # the first is uniform
    found = conservative.calibrated(q, jnp.array([1.5]), 1)
    np.testing.assert_array_equal(found, [[[0.0, 1.5, 2.0, 5.0]]])


def test_an_unknown_return_leaves_cql_as_it_is():
    plain = dataclasses.replace(CALIBRATED, calibrated=False)
    known, unknown = updated(plain, None), updated(CALIBRATED, jnp.full(BATCH, -jnp.inf))
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)  # noqa: E731
    jax.tree.map(close, known, unknown)


def test_a_bound_above_all_values_takes_the_policy_s_actions_out_of_the_penalty():
    """Above the bound nothing depends on Q but the uniform actions', so the gap is the bound's."""
    _, metrics = updated(CALIBRATED, jnp.full(BATCH, 1e4))
    _, plain = updated(CALIBRATED, jnp.full(BATCH, -1e4))
    assert metrics["gap"] > 9e3 > plain["gap"]
    assert np.isfinite(metrics["critic_loss"])


def test_a_batch_without_returns_is_refused():
    with pytest.raises(ValueError, match="no return_to_go"):
        updated(CALIBRATED, None)
