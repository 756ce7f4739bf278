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


def squared_error(params, x, y):
    return ((x @ params["w"] + params["b"] - y) ** 2).mean()


@pytest.mark.parametrize("parts", [1, 2, 6, 4, 100])
def test_a_mean_by_parts_has_the_value_and_gradient_of_the_whole(parts, x64):
    keys = jax.random.split(jax.random.key(0), 3)
    x, y, w = (
        jax.random.normal(k, shape)
        for k, shape in zip(keys, [(6, 5, 3), (6, 5), (3,)], strict=True)
    )
    params = {"w": w, "b": jnp.ones(())}

    def by_parts(params):
        return 3 * rows.mean(squared_error, params, x, y, parts=parts)

    found = jax.value_and_grad(by_parts)(params)
    wanted = jax.value_and_grad(lambda params: 3 * squared_error(params, x, y))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, wanted)
    np.testing.assert_allclose(by_parts(params), wanted[0], rtol=1e-12)


def test_a_mean_by_parts_takes_seeds_at_once():
    x, y = jnp.arange(12.0).reshape(4, 3), jnp.ones(4)
    many = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.zeros(2)}
    grad = jax.grad(lambda params: rows.mean(squared_error, params, x, y, parts=2))
    alone = [grad(jax.tree.map(lambda p, i=i: p[i], many)) for i in range(2)]
    together = jax.vmap(grad)(many)
    wanted = jax.tree.map(lambda *p: jnp.stack(p), *alone)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), together, wanted)


def test_a_mean_by_parts_keeps_nothing_of_a_part():
    x, y = jnp.ones((64, 5, 3)), jnp.ones((64, 5))
    grad = jax.grad(lambda params: rows.mean(squared_error, params, x, y, parts=8))
    jaxpr = jax.make_jaxpr(grad)({"w": jnp.ones(3), "b": jnp.ones(())})
    (scan,) = [one for one in jaxpr.eqns if one.primitive.name == "scan"]
    kept = sorted(out.aval.shape for out in scan.outvars)
    assert kept == [(), (3,), (8,)]  # the gradient of each parameter, and the parts' values
