import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxrl import networks as nets
from jaxrl.errors import UserError
from jaxrl.networks.mlp import RowDense, drop
from jaxrl.types import Spec

pytestmark = pytest.mark.usefixtures("strict")
DICT = Spec(
    {
        "image": jax.ShapeDtypeStruct((2, 2), jnp.uint8),
        "speed": jax.ShapeDtypeStruct((), jnp.float32),
        "joints": jax.ShapeDtypeStruct((3,), jnp.float32),
    },
    jax.ShapeDtypeStruct((1,), jnp.float32),
)


def observation(*lead):
    return {
        "image": jnp.full((*lead, 2, 2), 255, jnp.uint8),
        "speed": jnp.full(lead, 7.0),
        "joints": jnp.broadcast_to(jnp.arange(3.0), (*lead, 3)),
    }


@pytest.mark.parametrize("lead", [(), (5,), (4, 5)])
def test_encoder_concatenates_entries_by_name(lead):
    vector = nets.encoder(DICT)(observation(*lead))
    assert vector.shape == (*lead, 8)
    assert vector.dtype == jnp.float32
    np.testing.assert_array_equal(vector.reshape(-1, 8)[0], [255] * 4 + [0, 1, 2, 7])


def test_encoder_reads_chosen_entries_in_the_order_of_their_names():
    vector = nets.encoder(DICT, ("speed", "joints"))(observation(1))
    np.testing.assert_array_equal(vector, [[0, 1, 2, 7]])


def test_encoder_of_a_flat_observation_leaves_it_alone():
    x = jnp.ones((2, 3))
    np.testing.assert_array_equal(nets.encoder(Spec.continuous(3, 1))(x), x)


def test_large_integers_are_kept_exactly():
    spec = Spec(jax.ShapeDtypeStruct((1,), jnp.int32), DICT.action)
    assert nets.encoder(spec)(jnp.array([[100_001]]))[0, 0] == 100_001


@pytest.mark.parametrize(
    "spec, why",
    [
        (DICT, r"are not among \['image', 'joints', 'speed'\]"),
        (Spec.continuous(3, 1), "the observation is not a dict"),
    ],
)
def test_unknown_entries_are_refused(spec, why):
    with pytest.raises(UserError, match=rf"observation keys \['sped'\].*{why}"):
        nets.encoder(spec, ("sped",))


def test_dummy_has_batch_size_one():
    obs, action = nets.dummy(DICT)
    assert jax.tree.map(jnp.shape, obs) == {"image": (1, 2, 2), "speed": (1,), "joints": (1, 3)}
    assert obs["image"].dtype == jnp.uint8
    assert action.shape == (1, 1)


def test_mlp_is_a_chain_of_dense_layers():
    mlp = nets.MLP((2, 1))
    params = mlp.init(jax.random.key(0), jnp.zeros((1, 3)))
    first, last = params["params"]["Dense_0"], params["params"]["Dense_1"]
    x = jnp.array([[1.0, -2.0, 3.0]])
    hidden = np.maximum(x @ first["kernel"] + first["bias"][None], 0)
    expected = hidden @ last["kernel"] + last["bias"][None]
    np.testing.assert_allclose(mlp.apply(params, x), expected, rtol=1e-6)
    final = nets.MLP((2, 1), activate_final=True).apply(params, x)
    np.testing.assert_allclose(final, np.maximum(expected, 0), rtol=1e-6)


def test_final_layer_may_start_differently():
    mlp = nets.MLP((4, 2), final_init=jax.nn.initializers.zeros)
    params = mlp.init(jax.random.key(0), jnp.zeros((1, 3)))["params"]
    assert not params["Dense_1"]["kernel"].any()
    assert params["Dense_0"]["kernel"].any()


def types(tree):
    return {x.dtype for x in jax.tree.leaves(tree)}


def test_half_precision_computes_between_float32_parameters_and_outputs():
    half, full = nets.MLP((64, 1), dtype="bfloat16"), nets.MLP((64, 1))
    x = jax.random.normal(jax.random.key(1), (8, 3))
    params = half.init(jax.random.key(0), x)
    assert types(params) == {jnp.dtype("float32")}
    assert half.apply(params, x).dtype == jnp.float32
    assert 0 < jnp.abs(half.apply(params, x) - full.apply(params, x)).max() < 0.05


def test_double_precision_is_the_default_where_it_is_on(x64):
    mlp = nets.MLP((4, 1))
    params = mlp.init(jax.random.key(0), jnp.zeros((1, 3), jnp.float32))
    assert types(params) == {jnp.dtype("float64")}
    assert mlp.apply(params, jnp.zeros((1, 3), jnp.float32)).dtype == jnp.float64


class Dropped(nets.Module):
    """Nothing but dropout."""

    share: float

    def __call__(self, x):
        return drop(self, x, self.share)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_dropping_keeps_the_mean_and_neighbours_apart(share):
    x = jnp.ones((2000, 51))  # an odd width
    out = Dropped(share).apply({}, x, rngs={"dropout": jax.random.key(0)})
    zero = np.asarray(out == 0)
    np.testing.assert_allclose(zero.mean(), share, atol=0.005)
    np.testing.assert_allclose(out[~zero], 1 / (1 - share), rtol=1e-4)
    if share:  # columns are uncorrelated, also the two that share a draw
        columns = np.corrcoef(zero.T)
        assert abs(columns - np.eye(51)).max() < 0.15
    assert (Dropped(share).apply({}, x) == x).all()


def test_scalar_is_one_parameter():
    scalar = nets.Scalar(-1.5)
    params = scalar.init(jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == {"params": {"value": ()}}
    assert scalar.apply(params) == -1.5


def contracted(layer):
    """How many axes each product contracts that the gradient of the kernel consists of."""
    x = jnp.ones((3, 4, 5))
    params = layer.init(jax.random.key(0), x)
    jaxpr = jax.make_jaxpr(jax.grad(lambda p: layer.apply(p, x).sum()))(params)
    products = [e for e in jaxpr.eqns if e.primitive.name == "dot_general"]
    return [len(e.params["dimension_numbers"][0][0]) for e in products]


def test_rows_are_one_product_and_so_is_the_gradient():
    x = jax.random.normal(jax.random.key(1), (3, 4, 5))
    dense, by_rows = nn.Dense(2), RowDense(2)
    params = dense.init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, by_rows.init(jax.random.key(0), x)) == jax.tree.map(
        jnp.shape, params
    )
    np.testing.assert_allclose(by_rows.apply(params, x), dense.apply(params, x), rtol=1e-6)
    np.testing.assert_allclose(by_rows.apply(params, x[0, 0]), dense.apply(params, x[0, 0]))
    assert max(contracted(by_rows)) == 1 < max(contracted(dense))
