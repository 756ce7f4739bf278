import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrl import parallel
from jaxrl.networks import placement


def mesh(*shape):
    return parallel.make_mesh(parallel.MeshConfig(*shape))


def test_rows_is_the_identity_unless_a_mesh_is_set():
    x = jnp.ones((8, 3))
    assert placement.rows(x) is x
    with placement.activations(NamedSharding(mesh(2, 4, 1), P(parallel.BATCH))):
        split = jax.jit(placement.rows)(x)
    assert split.sharding.spec[0] == parallel.BATCH
    assert placement.rows(x) is x  # and no longer
    np.testing.assert_array_equal(split, x)


def test_rows_leaves_the_axis_of_seeds_to_others():
    with placement.activations(NamedSharding(mesh(8, 1, 1), P(parallel.BATCH))):
        text = str(jax.make_jaxpr(jax.vmap(placement.rows))(jnp.ones((2, 8, 3))))
    assert "sharding_constraint" in text


@pytest.mark.parametrize(
    "shape, expected",
    [
        ((64, 128), P("fsdp", "tensor")),
        ((3, 64, 128), P(None, "fsdp", "tensor")),  # layers, or seeds, stay whole
        ((5, 3, 64, 128), P(None, None, "fsdp", "tensor")),
        ((60, 128), P(None, "tensor")),  # 15 rows each are too few
        ((66, 128), P(None, "tensor")),  # unequal shards
    ],
)
def test_trailing_axes_are_split(shape, expected):
    rule = placement.trailing("fsdp", "tensor")
    assert rule(shape, mesh(1, 4, 2)) == expected


def test_blocks_are_split_into_their_hidden_units_and_out_of_them():
    tree = {"params": {"blocks": {n: {"kernel": jnp.zeros((2, 64, 64))} for n in ("up", "down")}}}
    placed = parallel.place(tree, mesh(1, 4, 2))["params"]["blocks"]
    assert placed["up"]["kernel"].spec == P(None, "fsdp", "tensor")
    assert placed["down"]["kernel"].spec == P(None, "tensor", "fsdp")
