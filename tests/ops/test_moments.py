import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import moments
from jaxrl.types import Transition

pytestmark = pytest.mark.usefixtures("strict")
SPEC = {"x": jax.ShapeDtypeStruct((3,), jnp.float32), "y": jax.ShapeDtypeStruct((), jnp.float32)}


def data(n, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(2, 3, (n, 3)) + shift, rng.normal(-1, 0.5, n) + shift
    return {"x": jnp.asarray(x, jnp.float32), "y": jnp.asarray(y, jnp.float32)}


def rows(tree, *index):
    return jax.tree.map(lambda x: x[slice(*index)], tree)


def check(found, batch, **tolerance):
    assert float(found.count) == len(batch["y"])
    for name, x in batch.items():
        x = np.float64(x)
        np.testing.assert_allclose(found.mean[name], x.mean(0), **tolerance)
        np.testing.assert_allclose(moments.std(found)[name], x.std(0), **tolerance)


def test_pieces_of_any_size_add_up_to_the_whole():
    batch, found = data(100), moments.zeros(SPEC)
    for start, end in [(0, 1), (1, 40), (40, 41), (41, 100)]:
        found = moments.update(found, rows(batch, start, end))
    check(found, batch, rtol=1e-5)


def test_several_batch_axes_count_alike():
    batch = data(24)
    shaped = jax.tree.map(lambda x: x.reshape((4, 6, *x.shape[1:])), batch)
    check(moments.update(moments.zeros(SPEC), shaped), batch, rtol=1e-5)


def test_a_large_mean_does_not_drown_the_deviation():
    batch, found = data(1000, shift=1e4), moments.zeros(SPEC)
    for start in range(0, 1000, 100):
        found = moments.update(found, rows(batch, start, start + 100))
    check(found, batch, rtol=2e-3)


def test_deviation_has_a_floor_and_starts_at_one():
    nothing = moments.zeros(SPEC)
    assert moments.std(nothing)["y"] == 1
    constant = jax.tree.map(jnp.ones_like, data(10))
    assert float(moments.std(moments.update(nothing, constant))["y"]) == pytest.approx(1e-6)


def test_normalize():
    batch = data(1000)
    seen = moments.update(moments.zeros(SPEC), batch)
    normal = moments.normalize(seen, batch)
    for x in normal.values():
        np.testing.assert_allclose(x.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(x.std(0), 1, atol=1e-4)
    far = moments.normalize(seen, {"x": jnp.full((3,), 1e6), "y": jnp.full((2, 2), -1e6)})
    assert far["x"].tolist() == [10, 10, 10]
    assert far["y"].tolist() == [[-10, -10], [-10, -10]]


def test_nothing_seen_yet_and_no_normalizer_leave_numbers_alone():
    batch = data(4)
    assert moments.normalize(None, batch) is batch
    unseen = moments.normalize(moments.zeros(SPEC), batch)
    np.testing.assert_allclose(unseen["x"], np.clip(batch["x"], -10, 10), rtol=1e-6)


def test_integers_are_normalized_as_numbers():
    spec = jax.ShapeDtypeStruct((2,), jnp.uint8)
    batch = jnp.array([[0, 255], [100, 155]], jnp.uint8)
    seen = moments.update(moments.zeros(spec), batch)
    np.testing.assert_allclose(seen.mean, [50, 205])
    np.testing.assert_allclose(moments.normalize(seen, batch), [[-1, 1], [1, -1]], rtol=1e-6)


def test_double_precision_stays(x64):
    seen = moments.update(moments.zeros(SPEC), jax.tree.map(np.float64, data(10)))
    assert {x.dtype for x in jax.tree.leaves(seen)} == {jnp.dtype("float64")}


def test_transitions_are_normalised_at_both_ends():
    seen = moments.update(moments.zeros(jax.ShapeDtypeStruct((), float)), jnp.array([1.0, 3.0]))
    batch = Transition(jnp.array([4.0]), *[None] * 3, jnp.array([0.0]), None)
    found = moments.normalize_transitions(seen, batch)
    assert (found.obs, found.next_obs) == (jnp.array([2.0]), jnp.array([-2.0]))
    assert moments.normalize_transitions(None, batch).obs is batch.obs
    assert moments.update(None, batch.obs) is None
