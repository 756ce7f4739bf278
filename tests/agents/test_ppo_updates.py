"""What one PPO update may and may not do: epochs, optimiser, normaliser, start, actions, errors."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import ppo
from jaxrl.distributions import TanhGaussian
from jaxrl.errors import UserError
from jaxrl.ops import moments
from tests.agents.ppo_rollouts import (
    CONTINUOUS,
    ONCE,
    SMALL,
    begin,
    build,
    rollout,
)

pytestmark = pytest.mark.usefixtures("strict")


# Epochs and minibatches


def test_the_order_of_one_full_batch_does_not_matter():
    agent, state, batch = begin(ONCE)
    a, b = (agent.update(state, batch, jax.random.key(seed))[0] for seed in (0, 1))
    chex.assert_trees_all_close(a.learner.params, b.learner.params, atol=1e-6)
    agent = build(replace(ONCE, minibatches=4))
    a, b = (agent.update(state, batch, jax.random.key(seed))[0] for seed in (0, 1))
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(a.learner.params, b.learner.params, atol=1e-5)


def test_divergence_ends_the_epochs():
    config = replace(SMALL, epochs=5, learning_rate=1e-2)
    update = {
        name: build(replace(config, **change)).update
        for name, change in {
            "one": {"epochs": 1},
            "all": {},
            "stopped": {"target_kl": 1e-9},
            "unstopped": {"target_kl": 1e9},
        }.items()
    }
    _, state, batch = begin(config)
    found = {name: f(state, batch, jax.random.key(5)) for name, f in update.items()}
    chex.assert_trees_all_close(found["stopped"], found["one"], rtol=1e-6)
    chex.assert_trees_all_close(found["unstopped"], found["all"], rtol=1e-6)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(found["one"][0].learner, found["all"][0].learner, rtol=1e-2)


# Optimiser, normaliser, initialisation


def test_the_learning_rate_falls_linearly_to_zero():
    config = replace(ONCE, total_updates=10)
    agent, state, batch = begin(config)

    def moved(step):
        after, _ = agent.update(state._replace(step=jnp.int32(step)), batch, jax.random.key(0))
        return jax.tree.map(jnp.subtract, after.learner.params, state.learner.params)

    full = moved(0)
    chex.assert_trees_all_close(moved(5), jax.tree.map(lambda x: x / 2, full), atol=1e-6)
    for step in (10, 11):
        chex.assert_trees_all_equal(moved(step), jax.tree.map(jnp.zeros_like, full))
    assert max(jnp.abs(x).max() for x in jax.tree.leaves(full)) > 1e-4


def test_gradients_of_actor_and_critic_are_clipped_together():
    agent, state, batch = begin(ONCE)
    batch = batch._replace(reward=1e4 * batch.reward)
    after, _ = agent.update(state, batch, jax.random.key(0))
    momentum = after.learner.opt[1][0].mu  # (1 - 0.9) times the clipped gradient
    norm = jnp.sqrt(sum(jnp.square(x).sum() for x in jax.tree.leaves(momentum)))
    assert norm == pytest.approx(0.1 * ONCE.max_grad_norm, rel=1e-4)


def test_the_normalizer_moves_once_and_matches_numpy():
    agent, state, _ = begin(replace(SMALL, normalize_obs=True))
    batches = [rollout(agent, state, CONTINUOUS, seed, scale=1 + seed) for seed in range(3)]
    for seed, batch in enumerate(batches):
        state, _ = agent.update(state, batch, jax.random.key(seed))
    rows = np.concatenate([np.reshape(batch.obs, (-1, 3)) for batch in batches])
    assert state.normalizer.count == len(rows)
    chex.assert_trees_all_close(state.normalizer.mean, rows.mean(0), rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(moments.std(state.normalizer), rows.std(0), rtol=1e-4)


def test_weights_start_orthogonal():
    config = replace(SMALL, hidden=(64, 32))
    agent = build(config)
    state = agent.init(jax.random.key(0))
    params = state.learner.params

    def products(tree):
        layers = tree["params"]["torso"]
        for name in sorted(layers):
            kernel = layers[name]["kernel"]
            chex.assert_trees_all_equal(layers[name]["bias"], jnp.zeros(kernel.shape[1]))
            tall = kernel if kernel.shape[0] >= kernel.shape[1] else kernel.T
            yield tall.T @ tall

    for tree, head in (params.actor, 0.01), (params.critic, 1.0):
        for product, gain in zip(products(tree), (2**0.5, 2**0.5, head), strict=True):
            expected = gain**2 * jnp.eye(len(product))
            chex.assert_trees_all_close(product, expected, atol=1e-5 * max(1, gain**2))
    obs = 3 * jax.random.normal(jax.random.key(1), (100, 3))
    assert jnp.abs(agent.act(state, obs)).max() < 0.05


# Actions


def test_actions_are_unbounded_samples():
    agent, state, _ = begin(SMALL)
    obs = jnp.zeros((1000, 3))
    drawn = agent.act(state, obs, jax.random.key(0))
    assert jnp.abs(drawn).max() > 2
    assert drawn.std() == pytest.approx(1.0, abs=0.05)


def test_a_squashed_policy_is_measured_in_the_box():
    """Samples are before tanh; the entropy is that of tanh N(0, 1), 0.6698 nats a dimension."""
    config = replace(ONCE, squash=True)
    agent, state, batch = begin(config, shape=(64, 64))
    assert jnp.abs(batch.action).max() > 2
    _, metrics = agent.update(state, batch, jax.random.key(0))
    assert metrics["entropy"] == pytest.approx(2 * 0.6698, abs=0.06)
    raw = ppo.raw(TanhGaussian(jnp.ones((1, 2)), jnp.zeros((1, 2))))
    chex.assert_trees_all_equal(raw.mode(), jnp.ones((1, 2)))


def test_actor_and_critic_read_their_own_keys():
    shapes = {"seen": 3, "hidden": 2}
    obs = {name: jax.ShapeDtypeStruct((n,), jnp.float32) for name, n in shapes.items()}
    agent = ppo.make(CONTINUOUS._replace(obs=obs), replace(SMALL, actor_keys=("seen",)))
    params = agent.init(jax.random.key(0)).learner.params
    width = {
        name: tree["params"]["torso"]["Dense_0"]["kernel"].shape[0]
        for name, tree in params._asdict().items()
    }
    assert width == {"actor": 3, "critic": 5}


# Bad input


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("gamma", 1.5),
        ("gae_lambda", -0.1),
        ("epochs", 0),
        ("minibatches", 0),
        ("blocks", -1),
        ("clip", 0),
    ],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(UserError, match=f"{setting}: found {value}"):
        ppo.make(CONTINUOUS, replace(SMALL, **{setting: value}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minibatches": 6}, r"minibatches: found 6.*128 samples.*try \[4, 8\]"),
        ({"blocks": 3}, r"blocks: found 3.*16 environments; try \[2, 4\]"),
        ({"blocks": 8, "minibatches": 32}, r"minibatches: found 32.*16 samples.*try \[16\]"),
    ],
)
def test_sizes_that_do_not_divide_name_those_that_do(change, message):
    _, state, batch = begin(SMALL)
    agent = ppo.make(CONTINUOUS, replace(SMALL, **change))
    with pytest.raises(UserError, match=message):
        jax.eval_shape(agent.update, state, batch, jax.random.key(0))


def test_a_batch_without_a_time_axis_is_refused():
    agent, state, batch = begin(SMALL)
    flat = jax.tree.map(lambda x: x[0], batch)
    with pytest.raises(AssertionError):
        agent.update(state, flat, jax.random.key(0))
