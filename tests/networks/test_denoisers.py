import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import networks as nets
from jaxrl.errors import RANGES
from jaxrl.networks import denoisers
from jaxrl.types import Spec

pytestmark = pytest.mark.usefixtures("strict")
SPEC = Spec.continuous(4, 3)
TORSOS = {
    "mlp": denoisers.MLPDenoiser((16, 16)),
    "residual": denoisers.ResidualDenoiser(16, 2, 8),
    "unet": denoisers.UNet((8, 16), 8),
    "transformer": denoisers.TransformerDenoiser(16, 2, 2),
}
every = pytest.mark.parametrize("name", TORSOS)


def inputs(n=5, steps=8):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (n, steps, 3))
    return x, jnp.arange(n) * 1.7, jax.random.normal(keys[1], (n, 2, 4))


@functools.cache
def built(name):
    """The network's function of its inputs, with random parameters."""
    network = denoisers.Denoiser(nets.encoder(SPEC), TORSOS[name])
    params = jax.jit(network.init)(jax.random.key(1), *inputs())
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [
        x + 0.3 * jax.random.normal(k, x.shape, x.dtype) for x, k in zip(leaves, keys, strict=True)
    ]
    return jax.jit(network.apply), jax.tree.unflatten(structure, moved)


@every
def test_predictions_have_the_shape_of_the_chunk_and_depend_on_everything(name):
    apply, params = built(name)
    x, time, obs = inputs()
    out = apply(params, x, time, obs)
    assert out.shape == x.shape and out.dtype == x.dtype
    for other in [(x + 1, time, obs), (x, time + 1, obs), (x, time, obs.at[:, 0].add(1))]:
        assert float(jnp.abs(apply(params, *other) - out).max(axis=(1, 2)).min()) > 1e-4


@every
def test_samples_do_not_see_each_other(name):
    apply, params = built(name)
    order = jnp.array([2, 0, 4, 1, 3])
    permuted = apply(params, *(y[order] for y in inputs()))
    np.testing.assert_allclose(permuted, apply(params, *inputs())[order], atol=1e-5)


def test_the_least_embedding_that_settings_allow_is_the_least_that_is_finite():
    least = RANGES["embedding"][0]
    for size in range(least, least + 3):
        embedding = denoisers.TimeEmbedding(size)
        out, _ = embedding.init_with_output(jax.random.key(0), jnp.arange(3.0))
        assert out.shape == (3, size) and bool(jnp.isfinite(out).all())
    assert bool(jnp.isnan(denoisers.sinusoids(jnp.ones(1), least - 1)).any())


@pytest.mark.parametrize("name, causal", [("transformer", True), ("unet", False)])
def test_who_sees_later_steps(name, causal):
    apply, params = built(name)
    x, time, obs = inputs()
    change = jnp.abs(apply(params, x.at[:, 5:].add(1), time, obs) - apply(params, x, time, obs))
    assert (float(change[:, :5].max()) == 0) == causal
    assert float(change[:, 5:].min(axis=1).max()) > 1e-3


def test_film_with_unit_scale_and_no_shift_is_unconditional():
    block = denoisers.FiLMBlock(8)
    x, condition = inputs()[0], jax.random.normal(jax.random.key(3), (5, 6))
    params = jax.jit(block.init)(jax.random.key(0), x, condition)
    film = params["params"]["film"]
    film["kernel"] = jnp.zeros_like(film["kernel"])
    film["bias"] = jnp.repeat(jnp.array([1.0, 0.0]), 8)
    plain, inside = block.apply(params, x, condition), params["params"]
    np.testing.assert_array_equal(plain, block.apply(params, x, 5 * condition))
    conv = denoisers.ConvBlock(8)
    h = conv.apply({"params": inside["ConvBlock_0"]}, x)
    h = conv.apply({"params": inside["ConvBlock_1"]}, h)
    skip = x @ inside["skip"]["kernel"][0]
    np.testing.assert_allclose(plain, h + skip, atol=1e-5)


def test_sinusoids_by_hand():
    found = denoisers.sinusoids(jnp.array([0.0, 2.0]), 4)
    expected = [[0, 0, 1, 1], [np.sin(2), np.sin(2e-4), np.cos(2), np.cos(2e-4)]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_goal_is_told_to_all_observations():
    network = denoisers.Denoiser(nets.encoder(SPEC), TORSOS["mlp"])
    x, time, obs = inputs()
    goal = jnp.ones((5, 2))
    params = jax.jit(network.init)(jax.random.key(1), x, time, obs, goal)
    kernel = params["params"]["torso"]["MLP_0"]["Dense_0"]["kernel"]
    assert kernel.shape[0] == 8 * 3 + 16 + 2 * (4 + 2)
    plain, other = (network.apply(params, x, time, obs, g) for g in (goal, 2 * goal))
    assert float(jnp.abs(plain - other).max(axis=(1, 2)).min()) > 1e-4


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_single_actions_and_half_precision(name):
    torso = TORSOS[name].clone(dtype="bfloat16")
    x, time, obs = inputs()
    params = jax.jit(torso.init)(jax.random.key(0), x[:, 0], time, obs[:, 0])
    assert {y.dtype for y in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    out = torso.apply(params, x[:, 0], time, obs[:, 0])
    assert out.shape == (5, 3) and out.dtype == jnp.float32


@pytest.mark.parametrize("taps", [4, 5])
@pytest.mark.parametrize("steps", [1, 3, 4, 5, 8])
def test_short_sequences_are_convolved_by_one_product(steps, taps):
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (2, steps, 3))
    kernel = jax.random.normal(keys[1], (taps, 3, 6))
    args = x, kernel, (1,), "SAME"
    layout = {"dimension_numbers": ("NWC", "WIO", "NWC")}
    found = denoisers.convolve(*args, **layout)
    np.testing.assert_allclose(found, jax.lax.conv_general_dilated(*args, **layout), atol=1e-5)
    products = str(jax.make_jaxpr(lambda x: denoisers.convolve(x, *args[1:], **layout))(x))
    assert ("conv_general_dilated" in products) == (steps >= taps)
