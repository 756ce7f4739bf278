"""Generative policies keep the modes of data that a Gaussian averages away."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs, loops, policies
from jaxrl.agents import bc, diffusion_policy, diffusion_ql
from jaxrl.data import segments, sources
from jaxrl.data.dataset import sample
from jaxrl.loops import evaluate, offline
from jaxrl.types import Segment, Spec, Transition
from tests import toys

# Single actions of a state that never changes.
POINTS = diffusion_policy.Config(
    steps=20,
    obs_horizon=1,
    horizon=1,
    action_horizon=1,
    network="mlp",
    hidden=(128, 128, 128),
    embedding=16,
    learning_rate=1e-3,
    warmup_steps=0,
    decay_steps=5_000,
)
FLOW = dataclasses.replace(POINTS, objective="flow", sample_steps=10)
DDIM = dataclasses.replace(POINTS, steps=100, sampler="ddim", sample_steps=10)


def actions(dims, n=20_000):
    """BIMODAL +-.7 in one dimension, CORNERS (+-.8, +-.8) in two, each with deviation .05."""
    rng = np.random.default_rng(0)
    centre = {1: 0.7, 2: 0.8}[dims] * rng.choice([-1.0, 1.0], (n, dims))
    return jnp.asarray(centre + 0.05 * rng.normal(size=(n, dims)), jnp.float32)


def near_a_mode(drawn, dims):
    """Share of actions within .15 of a mode in every dimension."""
    return float((jnp.abs(jnp.abs(drawn) - {1: 0.7, 2: 0.8}[dims]) < 0.15).all(-1).mean())


def cloned(config, dims):
    action = actions(dims)[:, None]
    one = jnp.ones((len(action), 1))
    data = Segment(one[..., None], action, 0 * one, one, one > 0, one, one)
    agent = diffusion_policy.make(Spec.continuous(1, dims), config)
    (state,) = toys.train(agent, data, jax.random.split(jax.random.key(0), 1), 5_000, 256)
    return agent.act(state, jnp.ones((4_000, 1, 1)), jax.random.key(1))[:, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "config, dims, share",
    [
        pytest.param(POINTS, 1, 0.93, id="ddpm-two"),
        pytest.param(POINTS, 2, 0.90, id="ddpm-four"),
        pytest.param(DDIM, 1, 0.88, id="ddim-two"),
        pytest.param(FLOW, 1, 0.88, id="flow-two"),
        pytest.param(FLOW, 2, 0.80, id="flow-four"),
    ],
)
def test_modes_are_kept_and_none_is_preferred(config, dims, share):
    drawn = cloned(config, dims)
    assert near_a_mode(drawn, dims) >= share
    np.testing.assert_allclose((drawn > 0).mean(0), 0.5, atol=0.1)


def transitions(dims, reward):
    action = actions(dims)
    one = jnp.ones(len(action))
    return Transition(one[:, None], action, reward(action), 0 * one, one[:, None], one > 0)


@pytest.mark.slow
@pytest.mark.parametrize("dims, share", [(1, 0.35), (2, 0.15)])
def test_the_best_gaussian_misses_them(dims, share):
    data = transitions(dims, lambda a: a[:, 0])
    config = bc.Config(hidden=(32,), learning_rate=1e-2)
    agent = bc.make(Spec.continuous(1, dims), config)
    (state,) = toys.train(agent, data, jax.random.split(jax.random.key(0), 1), 1_000, 256)
    drawn = agent.act(state, jnp.ones((4_000, 1)), jax.random.key(1))
    assert near_a_mode(drawn, dims) <= share


@pytest.mark.slow
def test_five_steps_of_diffusion_ql_keep_both_modes():
    """Blurred: the variance-preserving chain is too short for what longer ones reach."""
    data = transitions(1, lambda a: a[:, 0])
    config = diffusion_ql.Config(
        hidden=(128, 128, 128), learning_rate=1e-3, decay_steps=5_000, eta=0.0
    )
    agent = diffusion_ql.make(Spec.continuous(1, 1), config)
    (state,) = toys.train(agent, data, jax.random.split(jax.random.key(0), 1), 5_000, 256)
    drawn = agent.act(state, jnp.ones((4_000, 1)), jax.random.key(1))
    assert near_a_mode(drawn, 1) >= 0.5
    np.testing.assert_allclose((drawn > 0).mean(), 0.5, atol=0.1)


def corner_reward(action):
    """3 at the upper left, 0 at the lower left, 1.5 at the upper right, 5 at the lower right."""
    left, up = action[:, 0] < 0, action[:, 1] > 0
    mean = jnp.where(left, jnp.where(up, 3.0, 0.0), jnp.where(up, 1.5, 5.0))
    return mean + 0.5 * jax.random.normal(jax.random.key(5), mean.shape)


@pytest.mark.slow
def test_diffusion_ql_finds_the_best_mode_and_stays_in_it():
    data = transitions(2, corner_reward)
    config = diffusion_ql.Config(
        hidden=(64, 64), learning_rate=1e-3, eta=2.5, average_start=100, tau=0.05
    )
    share = {}
    for eta in (2.5, 0.0):
        agent = diffusion_ql.make(Spec.continuous(1, 2), dataclasses.replace(config, eta=eta))
        (state,) = toys.train(agent, data, jax.random.split(jax.random.key(0), 1), 3_000, 128)
        drawn = agent.act(state, jnp.ones((2_000, 1)), jax.random.key(1))
        share[eta] = float(((drawn[:, 0] > 0.4) & (drawn[:, 1] < -0.4)).mean())
    assert share[2.5] >= 0.9
    assert share[0.0] <= 0.4  # cloning, the control


def trained(agent, data, draw, steps):
    loop = offline.make(agent, data, offline.Config(report_every=steps), draw)
    key = jax.random.key(0)
    for run, _ in loops.train(loop, key, loop.begin(jax.random.clone(key)), steps, steps):
        state = run.state
    return state


def success(policy, state, greedy):
    score = evaluate.make(envs.make("jaxrl/detour-v0"), policy, 200, greedy)
    return float(np.mean(score(state, jax.random.key(1)).returns))


DETOUR = diffusion_policy.Config(
    prediction="sample",
    steps=20,
    network="mlp",
    hidden=(128, 128, 128),
    embedding=32,
    learning_rate=1e-3,
    warmup_steps=100,
    decay_steps=3_000,
)


@pytest.mark.slow
def test_a_chunk_policy_takes_the_detour():
    dataset = sources.load("jaxrl/detour-v0")
    agent = diffusion_policy.make(dataset.spec, DETOUR)
    windows = segments.chunks(dataset, DETOUR.horizon, 1, 7)
    state = trained(agent, windows, segments.draw, 3_000)
    policy = policies.chunked(agent, dataset.spec, 2, 8)
    assert success(policy, state, greedy=False) >= 0.9


@pytest.mark.slow
def test_a_goal_beside_the_obstacle_decides_the_way():
    """And where it is dropped, both ways are as likely."""
    dataset = sources.load("jaxrl/detour-v0")
    config = dataclasses.replace(DETOUR, horizon=8, action_horizon=6, goal_size=2)
    agent = diffusion_policy.make(dataset.spec, config)
    windows = segments.chunks(dataset, config.horizon, 1, 5)
    state = trained(agent, windows, segments.draw_hindsight, 3_000)
    start = jnp.broadcast_to(jnp.array([-1.0, 0.0]), (512, 2, 2))

    def upwards(*goal):
        goals = jnp.broadcast_to(jnp.array(goal), (512, 2))
        actions = jax.jit(agent.act)(state, start, jax.random.key(1), goals)
        return float((actions[..., 1].mean(1) > 0).mean())

    assert upwards(0.0, 0.75) >= 0.95
    assert upwards(0.0, -0.75) <= 0.05
    assert 0.35 <= upwards(0.0, 0.0) <= 0.65


@pytest.mark.slow
@pytest.mark.parametrize("kind, greedy", [("deterministic", True), ("gaussian", False)])
def test_the_mean_of_both_ways_drives_into_the_obstacle(kind, greedy):
    dataset = sources.load("jaxrl/detour-v0")
    config = bc.Config(hidden=(128, 128), learning_rate=1e-3, policy=kind)
    agent = bc.make(dataset.spec, config)
    state = trained(agent, dataset, sample, 3_000)
    assert success(policies.memoryless(agent), state, greedy) <= 0.2
