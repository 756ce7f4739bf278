import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import policies
from jaxrl.agents import diffusion_policy as dp
from jaxrl.data import segments
from jaxrl.data.episodes import Episode, from_episodes
from jaxrl.errors import UserError
from jaxrl.ops import limits
from jaxrl.ops.limits import Limits, Ranges
from jaxrl.types import Agent, Spec
from tests.agents.catalog import FLAT, windows
from tests.agents.fakes import Module

SMALL = dp.Config(
    steps=5,
    obs_horizon=2,
    horizon=4,
    action_horizon=2,
    network="mlp",
    hidden=(16,),
    embedding=8,
    learning_rate=1e-2,
    warmup_steps=0,
)
GOALS = dataclasses.replace(SMALL, goal_size=2)
OBJECTIVES = {
    "ddpm": SMALL,
    "ddim": dataclasses.replace(SMALL, sampler="ddim", sample_steps=3, prediction="v"),
    "edm": dataclasses.replace(SMALL, objective="edm", sampler="dpm2m"),
    "flow": dataclasses.replace(SMALL, objective="flow"),
}
every = pytest.mark.parametrize("config", OBJECTIVES.values(), ids=OBJECTIVES)
pytestmark = pytest.mark.usefixtures("strict")


def data(seed=0):
    return windows(FLAT, jax.random.key(seed))


def stack(seed=0):
    return data(seed).obs[:, :2]


def ranges():
    obs = Limits(jnp.full(5, -3.0), jnp.arange(5.0))
    return Ranges(obs, Limits(jnp.full(3, -0.5), jnp.array([0.5, 0.2, 1.0])))


def compiled(config=SMALL, **made):
    return Agent(*map(jax.jit, dp.make(FLAT, config, **made)))


def trained(config=SMALL, n=3, **made):
    agent = compiled(config, **made)
    state = agent.init(jax.random.key(0))
    for i in range(n):
        state, _ = agent.update(state, data(i), jax.random.key(i))
    return agent, state


@every
def test_a_chunk_is_what_is_executed_of_a_plan(config):
    agent, state = trained(config)
    chunk = agent.act(state, stack(), jax.random.key(0))
    assert chunk.shape == (16, 2, 3) and float(jnp.abs(chunk).max()) <= 1
    longer = compiled(dataclasses.replace(config, action_horizon=3))
    np.testing.assert_array_equal(longer.act(state, stack(), jax.random.key(0))[:, :2], chunk)


def test_executed_numbers_are_those_from_the_newest_observation_on():
    # A plan of 16 whose actions are their numbers: 1 to 8 are played.
    config = dp.Config(network="mlp", hidden=(8,), steps=2)
    plan = jnp.broadcast_to(jnp.arange(16.0)[None, :, None] / 16, (1, 16, 1))
    spec = Spec.continuous(1, 1)
    networks = dp.build(spec, config)
    exact = networks._replace(guide=lambda clean, x, time, obs: plan)
    agent = Agent(*map(jax.jit, dp.make(spec, config, exact)))
    state = agent.init(jax.random.key(0))
    policy = policies.chunked(agent, spec, config.obs_horizon, config.action_horizon)
    memory, played = policy.start(1), []
    for t in range(10):
        memory, action = policy.step(
            state, memory, jnp.ones((1, 1)), jnp.zeros(1), jnp.zeros(1, bool), jax.random.key(t)
        )
        played.append(round(16 * float(action[0, 0])))
    assert played == [1, 2, 3, 4, 5, 6, 7, 8, 1, 2]


def test_windows_of_the_published_horizons():
    def windows_of(length):
        step = np.zeros((length, 1), np.float32)
        whole = Episode(np.zeros((length + 1, 1), np.float32), step, step[:, 0], step[:, 0])
        config = dp.Config()
        before, after = config.obs_horizon - 1, config.action_horizon - 1
        return segments.chunks(from_episodes([whole]), config.horizon, before, after).size

    assert windows_of(12) == 5  # starts -1 to 3
    assert windows_of(8) == 1
    with pytest.raises(UserError, match="length: found 16, expected at most 15"):
        windows_of(7)


@every
def test_only_the_first_observations_and_no_padding_mask_matter(config):
    _, one = trained(config, 0)
    agent = compiled(config)
    batch = data()
    changed = batch._replace(
        obs=batch.obs.at[:, 2:].set(jnp.nan), reward=9 * batch.reward, mask=~batch.mask
    )
    chex.assert_trees_all_equal(
        agent.update(one, batch, jax.random.key(1)), agent.update(one, changed, jax.random.key(1))
    )


def test_ranges_are_applied_before_learning_and_undone_after():
    plain, state = trained(n=0)
    scaled = compiled(data=ranges())
    other = scaled.init(jax.random.key(0))
    batch = data()
    inside = batch._replace(
        obs=limits.normalize(ranges().obs, batch.obs),
        action=limits.normalize(ranges().action, batch.action),
    )
    expected, _ = plain.update(state, inside, jax.random.key(1))
    found, _ = scaled.update(other, batch, jax.random.key(1))
    chex.assert_trees_all_close(found.actor, expected.actor, rtol=1e-6)
    chex.assert_trees_all_equal(found.ranges, ranges())
    acted = scaled.act(other, stack(), jax.random.key(1))
    raw = plain.act(state, limits.normalize(ranges().obs, stack()), jax.random.key(1))
    unscaled = limits.unnormalize(ranges().action, raw).clip(-1, 1)
    np.testing.assert_allclose(acted, unscaled, atol=1e-6)


def test_the_average_acts_and_follows_by_the_published_decay():
    agent, state = trained(n=2)
    chex.assert_trees_all_equal(state.average, state.actor.params)  # the first two calls copy
    new, metrics = agent.update(state, data(), jax.random.key(7))
    assert float(metrics["average_decay"]) == pytest.approx(1 - 2**-0.75)
    expected = jax.tree.map(
        lambda old, now: (1 - 2**-0.75) * old + 2**-0.75 * now, state.average, new.actor.params
    )
    chex.assert_trees_all_close(new.average, expected, rtol=1e-5, atol=1e-7)
    spoiled = new._replace(actor=jax.tree.map(jnp.zeros_like, new.actor))
    np.testing.assert_array_equal(agent.act(spoiled, stack()), agent.act(new, stack()))


@every
def test_batch_loss_is_weighted_and_a_mean_of_errors(config):
    agent, state = trained(config, 0)
    networks = dp.build(FLAT, config)
    batch = data()
    weight = jnp.zeros(16).at[3].set(16.0)

    @jax.jit
    def loss(batch):
        return dp.denoising_loss(state.actor.params, networks, config, batch, jax.random.key(0))[0]

    ready = dp.prepared(config, state, batch)
    alone = loss(ready._replace(weight=weight))
    others = jax.tree.map(lambda x: x.at[4:].set(0), (ready.obs, ready.action))
    np.testing.assert_allclose(
        loss(ready._replace(obs=others[0], action=others[1], weight=weight)), alone, rtol=1e-6
    )
    each = [loss(ready._replace(weight=jnp.zeros(16).at[i].set(16.0))) for i in range(16)]
    assert float(loss(ready)) == pytest.approx(float(np.mean(each)), rel=1e-5)


def test_without_a_key_the_noise_is_fixed_and_not_zero(monkeypatch):
    def sample(process, network, noise, key, guide):
        return noise

    monkeypatch.setattr(dp.sampling, "sample", sample)
    agent, state = trained(n=0)
    noise = agent.act(state, stack())
    assert float(jnp.abs(noise).min()) > 0
    np.testing.assert_array_equal(noise, agent.act(state, stack()))


def goal_batch(goal):
    return data()._replace(goal=jnp.broadcast_to(jnp.asarray(goal)[None], (16, 2)))


def test_guidance_mixes_the_policies_with_and_without_a_goal():
    agent = compiled(GOALS)
    state, _ = agent.update(
        agent.init(jax.random.key(0)), goal_batch([1.0, -1.0]), jax.random.key(0)
    )
    goal = goal_batch([1.0, -1.0]).goal

    def act(guidance, goal=goal):
        config = dataclasses.replace(GOALS, guidance=guidance)
        return compiled(config).act(state, stack(), jax.random.key(1), goal)

    np.testing.assert_allclose(act(1.0), act(None), atol=1e-5)
    np.testing.assert_allclose(act(0.0), act(None, jnp.zeros_like(goal)), atol=1e-5)
    assert float(jnp.abs(act(3.0) - act(1.0)).max()) > 1e-4


def test_it_heads_for_the_goal_of_its_settings_unless_told_another():
    agent, (_, state) = compiled(GOALS), trained(GOALS, 0)
    settled = compiled(dataclasses.replace(GOALS, goal=(0.5, -1.0)))
    goal = goal_batch([0.5, -1.0]).goal
    given = agent.act(state, stack(), jax.random.key(0), goal)
    np.testing.assert_array_equal(settled.act(state, stack(), jax.random.key(0)), given)
    other = settled.act(state, stack(), jax.random.key(0), -goal)
    np.testing.assert_array_equal(other, agent.act(state, stack(), jax.random.key(0), -goal))
    assert float(jnp.abs(other - given).max()) > 1e-4
    with pytest.raises(UserError, match=r"expected \(2,\)"):
        agent.act(state, stack(), jax.random.key(0))


def test_goals_are_normalised_by_the_ranges_of_the_data():
    known = ranges()._replace(goal=Limits(jnp.array([0.0, 10.0]), jnp.array([4.0, 30.0])))
    state = compiled(GOALS, data=known).init(jax.random.key(0))
    batch = dp.prepared(GOALS, state, goal_batch([1.0, 30.0]))
    np.testing.assert_allclose(batch.goal[0], [-0.5, 1.0])


def test_goals_are_dropped_for_whole_samples():
    seen = []

    def network(params, x, time, obs, goal):
        seen.append(goal)
        return jnp.zeros_like(x)

    config = dataclasses.replace(GOALS, goal_dropout=0.5)
    networks = dp.build(FLAT, config)._replace(actor=Module(network))
    batch = dp.prepared(config, trained(GOALS, 0)[1], goal_batch([1.0, 2.0]))
    dp.denoising_loss({}, networks, config, batch, jax.random.key(0))
    rows = {tuple(row) for row in np.asarray(seen[0]).tolist()}
    assert rows == {(0.0, 0.0), (1.0, 2.0)}


def test_goals_of_another_shape_are_refused():
    agent = dp.make(FLAT, GOALS)
    state = agent.init(jax.random.key(0))
    for goal in (None, jnp.zeros((16, 3)), jnp.zeros((16, 2, 1))):
        with pytest.raises(UserError, match=r"goal: found shape .* expected \(2,\)"):
            agent.update(state, data()._replace(goal=goal), jax.random.key(0))
    plain = dp.make(FLAT, SMALL)
    with pytest.raises(UserError, match="goal_size"):
        plain.update(plain.init(jax.random.key(0)), goal_batch([0.0, 0.0]), jax.random.key(0))


def test_a_guide_steers_every_objective():
    for config in OBJECTIVES.values():
        networks = dp.build(FLAT, config)

        def guide(clean, x, time, obs):
            return clean.at[..., 0].set(obs[:, -1:, 0].clip(-0.5, 0.5))

        agent = compiled(config, networks=networks._replace(guide=guide))
        chunk = agent.act(agent.init(jax.random.key(0)), stack())
        expected = stack()[:, -1:, 0].clip(-0.5, 0.5)
        np.testing.assert_allclose(chunk[..., 0], jnp.repeat(expected, 2, 1), atol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"horizon": 2}, "horizon: found 2, expected at least .* 3"),
        ({"steps": 0}, "steps: found 0"),
        ({"sample_steps": 6}, "sample_steps: found 6"),
        ({"sampler": "heun"}, "sampler: found 'heun'"),
        ({"network": "unet", "hidden": (8, 16, 16, 16)}, "horizon: found 4, expected a multiple"),
        ({"network": "unet", "hidden": (12,)}, "multiples of 8"),
        ({"network": "transformer", "heads": 3}, "heads"),
        ({"hidden": ()}, "hidden: found no sizes"),
        ({"network": "transformer", "hidden": (2,), "heads": 1}, "hidden: found 2"),
        ({"embedding": 3}, "embedding: found 3"),
        ({"dropout": 1.0}, "dropout: found 1"),
        ({"sigma_data": 0.0}, "sigma_data: found 0"),
        ({"sigma_min": 0.0}, "sigma_min: found 0"),
        ({"sigma_min": 1.0}, "sigma_max - sigma_min: found 0"),
        ({"eta": 1.5}, "eta: found 1.5"),
        ({"adam_b1": 1.0}, "adam_b1: found 1"),
        ({"warmup_steps": -1}, "warmup_steps: found -1"),
        ({"decay_steps": 500, "warmup_steps": 500}, r"decay_steps: found 500, .* \[501"),
        ({"goal_size": -1}, "goal_size: found -1"),
        ({"goal_dropout": 1.5}, "goal_dropout"),
        ({"goal": (1.0,)}, "goal: found 1 numbers, expected 0"),
        ({"goal": (1.0,), "goal_size": 2}, "goal: found 1 numbers, expected 2"),
        ({"obs_horizon": 0}, "obs_horizon"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        dp.make(FLAT, dataclasses.replace(SMALL, **change))


def test_discrete_actions_are_refused():
    with pytest.raises(UserError, match="continuous"):
        dp.make(Spec.categorical(3, 2), SMALL)
