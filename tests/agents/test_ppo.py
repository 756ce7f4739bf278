"""PPO's equations on hand-worked numbers, and its gradient against the policy gradient."""

from dataclasses import replace
from functools import partial

import chex
import jax
import jax.numpy as jnp
import pytest

from jaxrl.agents import ppo
from jaxrl.ops import losses, moments
from tests.agents.ppo_rollouts import (
    CONTINUOUS,
    DISCRETE,
    ONCE,
    SMALL,
    begin,
    changed,
    flat_samples,
    gradient,
    prepare,
    rollout,
)

pytestmark = pytest.mark.usefixtures("strict")


# Equations


@pytest.mark.parametrize(
    ("advantage", "ratio", "slope"),
    [(1.0, 1.3, 0.0), (1.0, 0.7, 1.0), (-1.0, 0.7, 0.0), (-1.0, 1.3, -1.0), (2.0, 1.0, 2.0)],
)
def test_the_surrogate_is_flat_only_where_it_already_gained(advantage, ratio, slope):
    def objective(ratio):
        return ppo.surrogate(ratio, jnp.array([advantage]), 0.2).sum()

    assert jax.grad(objective)(jnp.array([ratio])) == jnp.array([slope])


@pytest.mark.parametrize(
    ("value", "error", "slope"),
    [(0.5, 0.5 * 0.8**2, 0.0), (-0.5, 0.5 * 1.5**2, -1.5), (0.1, 0.5 * 0.9**2, -0.9)],
)
def test_value_clipping_takes_the_larger_error(value, error, slope):
    # V_old = 0, target 1: from 0.5 the clipped (0.2 - 1)^2 wins and is flat; from -0.5 the other.
    def loss(value):
        return ppo.value_errors(value, jnp.zeros(1), jnp.ones(1), 0.2).sum()

    found, gradient = jax.value_and_grad(loss)(jnp.array([value]))
    assert found == pytest.approx(error)
    assert gradient[0] == pytest.approx(slope)


def test_values_are_free_without_clipping():
    found = ppo.value_errors(jnp.array([0.5]), jnp.zeros(1), jnp.ones(1), None)
    assert found[0] == pytest.approx(0.125)


@pytest.mark.parametrize("value", [0.0, 2.0, -3.5])
def test_constant_advantages_standardize_to_zero(value):
    chex.assert_trees_all_equal(losses.standardize(jnp.full(64, value)), jnp.zeros(64))


def test_standardized_advantages_ignore_shift_and_scale():
    _, params, samples = flat_samples(SMALL)
    params = changed(params)
    moved = samples._replace(advantage=3 * samples.advantage + 5)
    same = gradient(SMALL, params, samples)
    chex.assert_trees_all_close(gradient(SMALL, params, moved), same, atol=1e-5)
    plain = replace(SMALL, normalize_advantages=False)
    other = gradient(plain, params, moved)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(other, gradient(plain, params, samples), atol=1e-2)


# The policy gradient


@pytest.mark.parametrize("spec", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_first_gradient_is_the_policy_gradient(spec, normalize):
    """Conformance 4 and 5: at ratio one the clipped surrogate is -mean(A grad log pi)."""
    config = replace(SMALL, value_cost=0.0, normalize_advantages=normalize)
    networks, params, samples = flat_samples(config, spec)
    advantage = losses.standardize(samples.advantage) if normalize else samples.advantage

    def reinforce(actor):
        log_prob = networks.actor.apply(actor, samples.obs).log_prob(samples.action)
        return -(advantage * log_prob).mean()

    found = gradient(config, params, samples, spec)
    chex.assert_trees_all_close(found.actor, jax.grad(reinforce)(params.actor), atol=1e-6)
    chex.assert_trees_all_equal(found.critic, jax.tree.map(jnp.zeros_like, params.critic))
    assert max(jnp.abs(x).max() for x in jax.tree.leaves(found.actor)) > 1e-3


CASES = {
    "continuous": (CONTINUOUS, {}),
    "discrete": (DISCRETE, {}),
    "squashed": (CONTINUOUS, {"squash": True}),
    "normalized": (CONTINUOUS, {"normalize_obs": True}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_first_ratio_is_one(name):
    spec, settings = CASES[name]
    agent, state, batch = begin(replace(ONCE, **settings), spec, scale=3.0)
    for seed in range(3):
        batch = rollout(agent, state, spec, seed, scale=3.0)
        state, metrics = agent.update(state, batch, jax.random.key(seed))
        assert metrics["kl"] == pytest.approx(0.0, abs=1e-6)
        assert metrics["clip_fraction"] == 0
        assert metrics["policy_loss"] == pytest.approx(0.0, abs=1e-6)


def test_the_ratio_moves_when_the_normalizer_moves_too_early():
    """Negative control of the test above: statistics that include the rollout break the ratio."""
    config = replace(ONCE, normalize_obs=True)
    agent, state, batch = begin(config, scale=3.0)
    state = state._replace(normalizer=moments.update(state.normalizer, batch.obs))
    state = state._replace(learner=state.learner._replace(params=changed(state.learner.params)))
    batch = rollout(agent, state, CONTINUOUS, 1, scale=1.0)
    _, compute = prepare(config)
    samples = compute(state, batch)
    early = moments.update(state.normalizer, batch.obs)
    late = compute(state._replace(normalizer=early), batch)
    assert jnp.abs(late.log_prob - samples.log_prob).max() > 1e-2


def test_the_entropy_bonus_widens_the_policy():
    agent, state, batch = begin(replace(ONCE, entropy_cost=100.0))
    after, _ = agent.update(state, batch, jax.random.key(0))
    old, new = (s.learner.params.actor["params"]["log_std"] for s in (state, after))
    assert (new > old).all()


def test_a_positive_advantage_makes_an_action_likelier():
    config = replace(ONCE, normalize_advantages=False, value_cost=0.0)
    agent, state, batch = begin(config, DISCRETE)
    batch = batch._replace(action=jnp.full_like(batch.action, 2), reward=10 + batch.reward)
    after, _ = agent.update(state, batch, jax.random.key(0))
    networks, _ = prepare(config, DISCRETE)

    def log_prob(state):
        policy = networks.actor.apply(state.learner.params.actor, batch.obs)
        return policy.log_prob(batch.action).mean()

    assert log_prob(after) > log_prob(state)


def test_the_loss_of_a_batch_is_the_mean_over_its_samples():
    config = replace(SMALL, normalize_advantages=False, entropy_cost=0.1)
    _, params, samples = flat_samples(config, DISCRETE, shape=(2, 2))
    params = changed(params)
    whole = gradient(config, params, samples, DISCRETE)
    rows = [jax.tree.map(lambda x, i=i: x[i : i + 1], samples) for i in range(4)]
    parts = [gradient(config, params, row, DISCRETE) for row in rows]
    mean = jax.tree.map(lambda *x: jnp.stack(x).mean(0), *parts)
    chex.assert_trees_all_close(mean, whole, atol=1e-6)


def test_weights_count_samples():
    """A sample of weight two and one of weight zero make the batch with the first one twice."""
    _, params, samples = flat_samples(SMALL, shape=(2, 2))
    params = changed(params)
    weighted = samples._replace(weight=jnp.array([2.0, 0.0, 1.0, 1.0]))
    twice = jax.tree.map(lambda x: x[jnp.array([0, 0, 2, 3])], samples)
    found = gradient(SMALL, params, weighted)
    chex.assert_trees_all_close(found, gradient(SMALL, params, twice), atol=1e-6)


# Time limits


def test_time_limits_as_terminations():
    config = replace(SMALL, truncation_as_termination=True)
    _, state, batch = begin(config)
    found = prepare(config)[1](state, batch)
    ended = batch._replace(discount=jnp.where(batch.last, 0.0, batch.discount))
    chex.assert_trees_all_equal(found, prepare(SMALL)[1](state, ended))
    other = prepare(SMALL)[1](state, batch)
    assert not jnp.allclose(found.advantage, other.advantage)


def test_a_time_limit_bootstraps_from_its_own_successor():
    _, state, batch = begin(SMALL)
    cut = jnp.zeros(batch.last.shape, bool).at[3].set(True)
    batch = batch._replace(last=cut, discount=jnp.ones_like(batch.discount))
    networks, compute = prepare(SMALL)
    critic = state.learner.params.critic
    value, successor = (networks.critic.apply(critic, x[3]) for x in (batch.obs, batch.next_obs))
    found = compute(state, batch)
    expected = batch.reward[3] + 0.99 * successor - value
    chex.assert_trees_all_close(found.advantage[3], expected, atol=1e-6)
    chex.assert_trees_all_close(found.target[3], expected + value, atol=1e-6)


def test_the_reward_scale_multiplies_rewards_alone():
    _, state, batch = begin(SMALL)
    found = prepare(replace(SMALL, reward_scale=3.0))[1](state, batch)
    tripled = prepare(SMALL)[1](state, batch._replace(reward=3 * batch.reward))
    chex.assert_trees_all_close(found, tripled, atol=1e-5)
    assert not jnp.allclose(found.target, prepare(SMALL)[1](state, batch).target)


def test_both_observations_are_normalised():
    _, state, batch = begin(SMALL, scale=3.0)
    mean, std = jnp.arange(3.0), jnp.array([1.0, 2.0, 3.0])
    seen = moments.Moments(jnp.array(1.0), mean, std**2)
    obs, next_obs = ((x - mean[None, None]) / std[None, None] for x in (batch.obs, batch.next_obs))
    inside, compute = batch._replace(obs=obs, next_obs=next_obs), prepare(SMALL)[1]
    found = compute(state._replace(normalizer=seen), batch)
    chex.assert_trees_all_close(found, compute(state, inside), atol=1e-5)


# Devices


@pytest.mark.parametrize("parts", [1, 8])
def test_advantages_are_standardized_over_all_devices(parts, monkeypatch):
    """Statistics of each eighth by itself, as on eight devices, would change the parameters."""
    config = replace(ONCE, adam_eps=1e-3, blocks=8)
    agent, state, batch = begin(config)
    whole, _ = agent.update(state, batch, jax.random.key(0))
    original = losses.standardize

    def by_parts(x, weight):
        return jax.vmap(partial(original, weight=weight))(x.reshape(parts, -1)).reshape(-1)

    monkeypatch.setattr(losses, "standardize", by_parts)
    split, _ = ppo.make(CONTINUOUS, config).update(state, batch, jax.random.key(0))
    pairs = zip(jax.tree.leaves(whole.learner), jax.tree.leaves(split.learner), strict=True)
    worst = max(jnp.abs(a - b).max() for a, b in pairs)
    assert worst < 1e-6 if parts == 1 else worst > 1e-4
