"""A decision transformer over several devices: what is split, and what is pinned."""

import dataclasses
import functools
import math

import chex
import jax
import numpy as np
import pytest

from jaxrl import parallel
from jaxrl.agents import decision_transformer as dt
from tests.agents.catalog import DT, FLAT, windows

LARGE = dt.Config(width=1024, layers=28, heads=16, remat=True, dtype="bfloat16")


def mesh(*shape):
    return parallel.make_mesh(parallel.MeshConfig(*shape))


def shares(agent, place):
    """Bytes of the first state on one device, and of all of it, without allocating either."""
    shapes = jax.eval_shape(agent.init, jax.random.key(0))
    pairs = zip(
        jax.tree.leaves(shapes), jax.tree.leaves(parallel.place(shapes, place)), strict=True
    )
    sizes = [
        (math.prod(where.shard_shape(x.shape)) * x.dtype.itemsize, x.size * x.dtype.itemsize)
        for x, where in pairs
    ]
    return np.sum(sizes, axis=0)


@functools.cache
def large():
    return dt.make(FLAT, LARGE)


def test_a_large_model_is_350_million_parameters():
    shapes = jax.eval_shape(large().init, jax.random.key(0))
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes.model.params))
    assert 340e6 < count < 360e6


@pytest.mark.parametrize("shape", [(1, 8, 1), (2, 4, 1), (1, 4, 2), (1, 2, 4)])
def test_its_state_is_split_evenly(shape):
    part, whole = shares(large(), mesh(*shape))
    devices = shape[1] * shape[2]
    assert part == pytest.approx(whole / devices, rel=0.1)


def test_its_update_is_traced_with_pinned_activations():
    """One constraint at the entry of each block, beside those on batch and state."""
    sharded = parallel.shard(large(), mesh(1, 8, 1))
    state = jax.eval_shape(sharded.init, jax.random.key(0))
    batch = jax.eval_shape(lambda: windows(FLAT, jax.random.key(0)))
    text = str(jax.make_jaxpr(sharded.update)(state, batch, jax.random.key(0)))
    plain = str(jax.make_jaxpr(large().update)(state, batch, jax.random.key(0)))
    assert "sharding_constraint" not in plain
    around = len(jax.tree.leaves(batch)) + 2 * len(jax.tree.leaves(state))
    assert text.count("sharding_constraint") > around


def test_a_model_born_in_shards_learns_as_on_one_device():
    config = dataclasses.replace(DT, remat=True, dropout=None, adam_eps=1e-3)
    agent, batch = dt.make(FLAT, config), windows(FLAT, jax.random.key(0))
    sharded = parallel.shard(agent, mesh(1, 4, 2))
    state, alone = sharded.init(jax.random.key(1)), jax.jit(agent.init)(jax.random.key(1))
    chex.assert_trees_all_close(state, alone, atol=1e-6)
    for name in ("blocks", "last_block"):
        kernel = state.model.params["params"]["backbone"][name]["up"]["kernel"]
        assert kernel.addressable_shards[0].data.size * 8 == kernel.size
    update = jax.jit(agent.update)
    for i in range(2):
        state, _ = sharded.update(state, batch, jax.random.key(i))
        alone, _ = update(alone, batch, jax.random.key(i))
    chex.assert_trees_all_close(state, alone, atol=1e-5, rtol=1e-5)
