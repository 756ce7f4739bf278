"""An update does not depend on the order of its batch, whose noise comes with each sample."""

import chex
import jax
import pytest

from tests.agents.catalog import BATCH, CASES

pytestmark = pytest.mark.usefixtures("strict")
NOISY = [case for case in CASES if case.name in ("diffusion_policy", "diffusion_ql", "idql")]


@pytest.mark.parametrize("case", NOISY, ids=lambda case: case.name)
def test_permuting_samples_with_their_noise_changes_nothing(case, monkeypatch):
    state, batch = case.make().init(jax.random.key(0)), case.batch_of(0)
    order = jax.random.permutation(jax.random.key(1), BATCH)
    mixed = jax.tree.map(lambda x: x[order], batch)

    update, key = jax.jit(case.make(case.calm).update), jax.random.key(2)
    expected, other = update(state, batch, key), update(state, mixed, jax.random.clone(key))
    for name in ("normal", "randint", "bits"):  # with a row for each sample
        draw = getattr(jax.random, name)
        monkeypatch.setattr(jax.random, name, lambda *args, draw=draw: draw(*args)[order])
    found = jax.jit(case.make(case.calm).update)(state, mixed, jax.random.clone(key))
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(AssertionError):  # it is the noise that makes the difference
        chex.assert_trees_all_close(other, expected, rtol=1e-3, atol=1e-4)
