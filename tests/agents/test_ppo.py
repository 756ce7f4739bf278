"""PPO's equations on hand-worked numbers, and what one update may and may not do."""

from dataclasses import replace
from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import ppo
from jaxrl.distributions import TanhGaussian
from jaxrl.errors import UserError
from jaxrl.ops import losses, minibatches, moments
from jaxrl.types import Spec, Transition

pytestmark = pytest.mark.usefixtures("strict")

CONTINUOUS, DISCRETE = Spec.continuous(3, 2), Spec.categorical(3, 4)
SMALL = ppo.Config(hidden=(16, 16), epochs=2, minibatches=4)
ONCE = replace(SMALL, epochs=1, minibatches=1)


def rollout(agent, state, spec, seed=0, shape=(8, 16), scale=1.0):
    """Random experience with the actions that `agent` would have sampled."""
    keys = jax.random.split(jax.random.key(seed), 5)
    obs, next_obs = (scale * jax.random.normal(k, (*shape, 3)) for k in keys[:2])
    draw = jax.random.uniform(keys[2], shape)
    return Transition(
        obs=obs,
        action=agent.act(state, obs, keys[3]),
        reward=jax.random.normal(keys[4], shape),
        discount=(draw > 0.1).astype(float),
        next_obs=next_obs,
        last=draw < 0.2,
    )


@cache
def build(config, spec=CONTINUOUS):
    """An agent whose functions are compiled once for all tests."""
    return ppo.Agent(*map(jax.jit, ppo.make(spec, config)))


@cache
def prepare(config, spec=CONTINUOUS):
    """Networks, and `ppo.prepare` with them."""
    networks = ppo.build(spec, config)
    return networks, jax.jit(partial(ppo.prepare, networks, config))


@cache
def gradient_of(config, spec):
    networks, _ = prepare(config, spec)
    loss = partial(ppo.joint_loss, networks=networks, config=config)
    return jax.jit(jax.grad(lambda params, x, key: loss(params, batch=x, key=key)[0]))


def gradient(config, params, samples, spec=CONTINUOUS):
    return gradient_of(config, spec)(params, samples, jax.random.key(2))


def begin(config, spec=CONTINUOUS, **kwargs):
    agent = build(config, spec)
    state = agent.init(jax.random.key(1))
    return agent, state, rollout(agent, state, spec, **kwargs)


def flat_samples(config, spec=CONTINUOUS, **kwargs):
    """Networks, parameters and the whole rollout as one minibatch."""
    _, state, batch = begin(config, spec, **kwargs)
    networks, compute = prepare(config, spec)
    samples = compute(state, batch)
    samples = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), samples)
    return networks, state.learner.params, samples


def changed(params, size=0.1):
    """Other parameters of the same structure."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    noise = [size * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.map(jnp.add, params, jax.tree.unflatten(structure, noise))


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


# Epochs and minibatches


def test_the_order_of_one_full_batch_does_not_matter():
    agent, state, batch = begin(ONCE)
    a, b = (agent.update(state, batch, jax.random.key(seed))[0] for seed in (0, 1))
    chex.assert_trees_all_close(a.learner.params, b.learner.params, atol=1e-6)
    agent = build(replace(ONCE, minibatches=4))
    a, b = (agent.update(state, batch, jax.random.key(seed))[0] for seed in (0, 1))
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(a.learner.params, b.learner.params, atol=1e-5)


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
    [("gamma", 1.5), ("gae_lambda", -0.1), ("epochs", 0), ("minibatches", 0), ("blocks", -1)],
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
