"""Twin selection, the running spread, and what both gradient rules have in common."""

import chex
import jax
import jax.numpy as jnp
import pytest

from jaxrl.ops import distributional

pytestmark = pytest.mark.usefixtures("strict")


def test_the_lower_mean_brings_its_own_deviation():
    mean, std = jnp.array([[1.0, 5.0], [2.0, 4.0]]), jnp.array([[10.0, 20.0], [30.0, 40.0]])
    found = distributional.lowest(mean, std)
    chex.assert_trees_all_equal(found, (jnp.array([1.0, 4.0]), jnp.array([10.0, 40.0])))
    single = distributional.lowest(mean[1:], std[1:])
    chex.assert_trees_all_equal(single, (mean[1], std[1]))


def test_the_first_batch_starts_the_running_spread():
    std = jnp.array([[1.0, 3.0], [4.0, 8.0]])
    first = distributional.running_spread(jnp.zeros(2), std, None, 0.005)
    chex.assert_trees_all_equal(first, jnp.array([2.0, 6.0]))
    weighted = distributional.running_spread(jnp.zeros(2), std, jnp.array([0.5, 1.5]), 0.005)
    chex.assert_trees_all_equal(weighted, jnp.array([2.5, 7.0]))


def test_without_its_scale_the_papers_loss_is_the_gaussian_likelihood(x64):
    keys = jax.random.split(jax.random.key(1), 3)
    mean, y = jax.random.normal(keys[0], (2, 8)), 3 * jax.random.normal(keys[1], (1, 8))
    std = jnp.exp(jax.random.normal(keys[2], (2, 8)))

    def nll(mean, std):
        return -jax.scipy.stats.norm.logpdf(y, mean, std).sum()

    expected = jax.grad(nll, (0, 1))(mean, std)
    found = distributional.paper_gradients(std, y - mean, y - mean, 1.0, 0.0)
    chex.assert_trees_all_close(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("gradients", "scale_of", "power"),
    [
        (distributional.paper_gradients, lambda k: k**2, 1),
        (distributional.paper_gradients, lambda k: 1, -1),  # v1: the reward's scale inverts
        (distributional.huber_gradients, lambda k: k**2, 1),
    ],
)
def test_gradients_scale_with_rewards(gradients, scale_of, power, x64):
    std, error = jnp.array([[0.7, 1.3]]), jnp.array([[0.4, -0.2]])
    clipped, k = jnp.array([[0.3, 0.25]]), 100.0
    one = gradients(std, error, clipped, 1.0, 1e-8)
    many = gradients(k * std, k * error, k * clipped, scale_of(k), 1e-8)
    chex.assert_trees_all_close(many, jax.tree.map(lambda x: x * k**power, one), rtol=1e-6)
