import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import rows


def test_repeat_puts_copies_behind_the_batch_axis():
    tree = {"a": jnp.arange(3.0), "b": jnp.arange(6.0).reshape(3, 2)}
    found = rows.repeat(tree, 4)
    assert jax.tree.map(jnp.shape, found) == {"a": (3, 4), "b": (3, 4, 2)}
    np.testing.assert_array_equal(found["b"][:, 2], tree["b"])


@pytest.mark.parametrize("parts", [1, 2, 6, 4, 100])
def test_parts_give_what_the_whole_gives(parts):
    x = jax.random.normal(jax.random.key(0), (6, 5, 3))
    scale = jnp.array([[1.0], [2.0]])

    def two(block):
        return scale * block.sum(-1)[None]

    np.testing.assert_array_equal(rows.apply(two, x, parts=parts), scale[..., None] * x.sum(-1))


def test_parts_are_blocks_of_the_batch():
    seen = []

    def count(block):
        seen.append(len(block))
        return block[None, :, 0]

    rows.apply(count, jnp.zeros((8, 5, 1)), parts=6)
    assert set(seen) == {4 * 5}
