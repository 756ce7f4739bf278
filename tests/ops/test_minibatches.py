"""Shuffles use every sample once, and take the same share of every block."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import minibatches

pytestmark = pytest.mark.usefixtures("strict")


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_a_minibatch_takes_the_same_share_of_every_block(blocks):
    numbers = jnp.arange(6 * 4).reshape(6, 4)  # [T, N]; block of a sample: its column
    parts = minibatches.in_blocks({"x": numbers, "y": numbers[..., None]}, blocks)
    shuffled = minibatches.shuffle(parts, 3, jax.random.key(0))
    chex.assert_trees_all_equal(shuffled["x"], shuffled["y"][..., 0])
    chex.assert_shape(shuffled["x"], (3, 8))
    assert sorted(shuffled["x"].ravel().tolist()) == list(range(24))
    for row in np.asarray(shuffled["x"]):
        assert (np.bincount(row % 4 // (4 // blocks), minlength=blocks) == 8 // blocks).all()
    assert shuffled["x"].ravel().tolist() != parts["x"].ravel().tolist()


def test_blocks_draw_different_orders():
    same = jnp.tile(jnp.arange(16)[:, None], (1, 2))
    shuffled = minibatches.shuffle(minibatches.in_blocks(same, 2), 1, jax.random.key(0))
    assert shuffled[0, :16].tolist() != shuffled[0, 16:].tolist()
