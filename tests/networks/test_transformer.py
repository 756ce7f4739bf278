import functools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import networks as nets

pytestmark = pytest.mark.usefixtures("strict")
MIXERS = {
    "attention": partial(nets.Attention, 2),
    "mamba": partial(nets.Mamba, 4),
}
every = pytest.mark.parametrize("mixer", MIXERS)


@functools.cache
def model(mixer):
    """A backbone whose weights are large enough to see, an input, and the parameters."""
    backbone = nets.Backbone(MIXERS[mixer], 2)
    x = jax.random.normal(jax.random.key(0), (6, 6, 16))
    params = jax.jit(backbone.init)(jax.random.key(1), x, jnp.ones((6, 6), bool))
    keys = iter(jax.random.split(jax.random.key(2), 100))
    params = jax.tree.map(lambda p: p + 0.2 * jax.random.normal(next(keys), p.shape), params)
    return jax.jit(partial(backbone.apply, params)), x, params


@every
def test_no_output_depends_on_what_comes_later(mixer):
    """Bit for bit: step j of row j is changed, and output i of that row moves only if j <= i.

    It does move up to three steps later; what is older a state space may round away.
    """
    apply, x, _ = model(mixer)
    same, mask, step = jnp.repeat(x[:1], 6, axis=0), jnp.ones((6, 6), bool), jnp.arange(6)
    moved = apply(same.at[step, step].add(0.3), mask) != apply(same, mask)
    moved = np.asarray(moved).any(-1).T
    assert not np.triu(moved, 1).any()
    assert moved[np.tri(6, dtype=bool) & ~np.tri(6, k=-4, dtype=bool)].all()


@every
def test_padding_changes_nothing(mixer):
    apply, x, _ = model(mixer)
    mask = jnp.arange(6)[None] >= jnp.array([2, 0, 4, 0, 1, 2])[:, None]
    out = apply(x, mask)
    other = jnp.where(mask[..., None], x, 1e3)
    np.testing.assert_allclose(apply(other, mask)[mask], out[mask], atol=1e-5)
    short = apply(x[:, 2:], jnp.ones((6, 4), bool))
    for row in (0, 5):  # whose first two steps are padding
        np.testing.assert_allclose(short[row], out[row, 2:], atol=1e-5)


@every
def test_a_row_of_padding_alone_is_finite(mixer):
    apply, x, _ = model(mixer)
    mask = jnp.ones((6, 6), bool).at[1].set(False)
    value, grad = jax.jit(jax.value_and_grad(lambda x: jnp.square(apply(x, mask)).sum()))(x)
    chex.assert_tree_all_finite((value, grad))


def test_rematerialisation_changes_no_gradient():
    _, x, params = model("attention")
    mask = jnp.ones((6, 6), bool)
    again = nets.Backbone(MIXERS["attention"], 2, remat=True)

    def loss(backbone, params):
        return jnp.square(backbone.apply(params, x, mask)).sum()

    plain = jax.jit(jax.grad(partial(loss, nets.Backbone(MIXERS["attention"], 2))))(params)
    remat = jax.jit(jax.grad(partial(loss, again)))(params)
    chex.assert_trees_all_close(plain, remat, rtol=1e-4, atol=1e-5)
    assert "remat" in str(jax.make_jaxpr(jax.grad(partial(loss, again)))(params))


@every
def test_layers_that_are_written_out_are_the_same(mixer):
    _, x, _ = model(mixer)
    mask = jnp.ones((6, 6), bool)
    scanned, out = (nets.Backbone(MIXERS[mixer], 3, unroll=unroll) for unroll in (False, True))
    params = jax.jit(scanned.init)(jax.random.key(1), x, mask)
    found = jax.jit(out.apply)(params, x, mask)
    np.testing.assert_allclose(found, jax.jit(scanned.apply)(params, x, mask), atol=1e-5)


def test_attention_by_hand():
    """One head, identity in and out: weights are a softmax over the keys up to the query's."""
    attention = nets.Attention(1)
    x = jax.random.normal(jax.random.key(0), (1, 4, 3))
    eye = jnp.eye(3)
    params = {
        "qkv": {"kernel": jnp.concatenate([eye] * 3, 1), "bias": jnp.zeros(9)},
        "out": {"kernel": eye, "bias": jnp.zeros(3)},
    }
    score = np.asarray(x[0] @ x[0].T) / np.sqrt(3)
    weight = np.where(np.tri(4), np.exp(score), 0)
    expected = weight / weight.sum(1, keepdims=True) @ np.asarray(x[0])
    out = attention.apply({"params": params}, x, jnp.ones((1, 4), bool))
    np.testing.assert_allclose(out[0], expected, atol=1e-5)


def test_without_the_causal_mask_every_step_sees_all():
    attention = nets.Attention(2, causal=False)
    x = jax.random.normal(jax.random.key(0), (1, 4, 8))
    params = attention.init(jax.random.key(1), x, jnp.ones((1, 4), bool))
    jacobian = jax.jacobian(lambda x: attention.apply(params, x, jnp.ones((1, 4), bool)))(x)
    assert (np.abs(jacobian).max((0, 2, 3, 5)) > 0).all()


def test_layers_are_stacked_and_differ():
    backbone = nets.Backbone(MIXERS["attention"], 3)
    x, mask = jnp.zeros((1, 2, 16)), jnp.ones((1, 2), bool)
    params = jax.jit(backbone.init)(jax.random.key(0), x, mask)["params"]
    kernel, last = params["blocks"]["up"]["kernel"], params["last_block"]["up"]["kernel"]
    assert kernel.shape == (2, 16, 64)
    assert (kernel[0] != kernel[1]).any()
    assert (kernel[1] != last).any()


@every
@pytest.mark.parametrize("layers", [1, 3])
def test_what_is_read_is_what_all_of_it_holds_there(mixer, layers):
    backbone = nets.Backbone(MIXERS[mixer], layers)
    x, mask = jax.random.normal(jax.random.key(0), (2, 6, 16)), jnp.ones((2, 6), bool)
    params = jax.jit(backbone.init)(jax.random.key(1), x, mask)
    everything = jax.jit(backbone.apply)(params, x, mask)
    for read in ((1, None, 3), (-2, None), (4,)):
        found = jax.jit(backbone.apply, static_argnums=3)(params, x, mask, read)
        np.testing.assert_allclose(found, everything[:, slice(*read)], atol=1e-5)


def test_the_last_block_works_out_no_more_than_is_read():
    backbone = nets.Backbone(MIXERS["attention"], 2)
    x, mask = jnp.zeros((2, 6, 16)), jnp.ones((2, 6), bool)
    params = jax.eval_shape(backbone.init, jax.random.key(1), x, mask)
    jaxpr = str(jax.make_jaxpr(partial(backbone.apply, read=(1, None, 3)))(params, x, mask))
    assert f"f32[{2 * 6},64] = dot_general" in jaxpr  # hidden units of all steps in the first
    assert f"f32[{2 * 2},64] = dot_general" in jaxpr


@every
def test_low_precision_keeps_parameters_and_roughly_the_outputs(mixer):
    apply, x, params = model(mixer)
    mask = jnp.ones((6, 6), bool)
    low = nets.Backbone(partial(MIXERS[mixer], dtype="bfloat16"), 2, dtype="bfloat16")
    out = jax.jit(low.apply)(params, x, mask)
    assert out.dtype == jnp.bfloat16
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(params))
    np.testing.assert_allclose(out.astype(float), apply(x, mask), atol=0.15)


def test_dropout_needs_a_key():
    backbone = nets.Backbone(MIXERS["attention"], 2, dropout=0.5)
    x, mask = jax.random.normal(jax.random.key(0), (1, 4, 16)), jnp.ones((1, 4), bool)
    params = jax.jit(backbone.init)(jax.random.key(1), x, mask)
    plain = backbone.apply(params, x, mask)
    dropped = jax.jit(lambda key: backbone.apply(params, x, mask, rngs={"dropout": key}))
    one, two = dropped(jax.random.key(2)), dropped(jax.random.key(3))
    assert (one != two).any()
    assert (one != plain).any()
    chex.assert_trees_all_close(plain, model_without_dropout(params, x, mask))


def model_without_dropout(params, x, mask):
    return nets.Backbone(MIXERS["attention"], 2).apply(params, x, mask)


def test_both_ways_to_scan_a_state_space_agree():
    apply, x, params = model("mamba")
    mask = jnp.arange(6)[None] >= jnp.arange(6)[:, None]
    other = nets.Backbone(partial(nets.Mamba, 4, associative=True), 2)
    found = jax.jit(other.apply)(params, x, mask)
    np.testing.assert_allclose(found, apply(x, mask), atol=1e-5)
