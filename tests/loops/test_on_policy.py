"""What a rollout holds, and that its numbers do not depend on the devices."""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs, loops, parallel
from jaxrl.agents import ppo
from jaxrl.errors import UserError
from jaxrl.loops import on_policy
from jaxrl.types import Agent, Policy, Transition
from tests.loops.scripted import counter_env

strict = pytest.mark.usefixtures("strict")
PPO = ppo.Config(
    hidden=(16, 16), epochs=2, minibatches=4, blocks=8, normalize_obs=True, adam_eps=1e-3
)
SIZES = on_policy.Config(envs=16, steps=8, normalize_reward=True)


class Recorded(NamedTuple):
    """State of an agent that remembers its last batch."""

    step: jax.Array
    batch: Transition


def recorder(shape):
    """An agent whose `update` keeps the batch and whose action is twice the observation."""

    def init(key):
        del key
        scalar, column = jnp.zeros(shape), jnp.zeros((*shape, 1))
        batch = Transition(column, column, scalar, scalar, column, scalar > 0)
        return Recorded(jnp.int32(0), batch)

    def update(state, batch, key):
        del key
        return Recorded(state.step + 1, batch), {"reward": batch.reward.mean()}

    return Agent(init, update, lambda state, obs, key=None: 2 * obs)


def play(loop, iterations, seed=0):
    """The first run and those after each iteration, and the metrics of the last."""
    key, metrics = jax.random.key(seed), None
    runs = [loop.begin(jax.random.clone(key))]
    for _ in range(iterations):
        run, metrics = loop.advance(jax.tree.map(jnp.copy, runs[-1]), jax.random.clone(key), 1)
        runs.append(run)
    return runs, metrics


@strict
def test_episodes_do_not_bleed_into_each_other():
    config = on_policy.Config(envs=2, steps=4)
    loop = on_policy.make(recorder((4, 2)), counter_env(), config)
    (_, one, two), metrics = play(loop, 2)
    first, second = one.state.batch, two.state.batch
    obs = jnp.concatenate([first.obs, second.obs])[:, 0, 0]
    successor = jnp.concatenate([first.next_obs, second.next_obs])[:, 0, 0]
    last = jnp.concatenate([first.last, second.last])[:, 0]
    assert obs.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert successor.tolist() == [1, 2, 3, 1, 2, 3, 1, 2]
    assert last.tolist() == [False, False, True, False, False, True, False, False]
    assert (first.discount == 1).all()
    assert first.action[:, 0, 0].tolist() == [0, 2, 4, 0]
    assert first.reward[:, 1].tolist() == [1, 2, 3, 1]
    assert metrics["updates"] == 1
    assert two.step == two.state.step == 2


@strict
def test_a_policy_keeps_its_memory_between_rollouts():
    """Memory sums the rewards of the episode; the action shows it."""

    def step(state, memory, obs, reward, last, key=None):
        del state, key
        memory = jnp.where(last, 0, memory + reward)
        return memory, memory[:, None] + 0 * obs

    policy = Policy(jnp.zeros, step)
    config = on_policy.Config(envs=2, steps=4)
    loop = on_policy.make(recorder((4, 2)), counter_env(), config, policy=policy)
    (_, one, two), _ = play(loop, 2)
    actions = jnp.concatenate([run.state.batch.action for run in (one, two)])[:, 1, 0]
    assert actions.tolist() == [0, 1, 3, 0, 1, 3, 0, 1]


@strict
def test_rewards_are_normalized_by_the_deviation_of_returns():
    config = on_policy.Config(envs=2, steps=4, normalize_reward=True)
    loop = on_policy.make(recorder((4, 2)), counter_env(), config, gamma=0.9)
    (_, one, two), _ = play(loop, 2)
    found = jnp.concatenate([one.state.batch.reward, two.state.batch.reward])[:, 0]
    rewards, seen, total, expected = [1, 2, 3, 1, 2, 3, 1, 2], [], 0.0, []
    for t, reward in enumerate(rewards):
        total = 0.9 * total + reward
        seen += [total] * 2
        expected.append(np.clip(reward / max(np.std(seen), 1e-4), -10, 10))
        total *= t % 3 != 2
    chex.assert_trees_all_close(found, jnp.array(expected), rtol=1e-4)
    assert two.env.reward.tolist() == [2, 2]  # what a policy sees is not normalised


@strict
def test_a_non_finite_number_is_remembered_and_kept_out():
    env = counter_env(time_limit=100, broken_at=(6,))
    loop = on_policy.make(recorder((4, 2)), env, on_policy.Config(envs=2, steps=4))
    runs, _ = play(loop, 3)
    assert [int(run.env.failed_at.max()) for run in runs] == [-1, -1, 1, 1]
    assert runs[2].state.batch.reward[:, 0].tolist() == [5, 0, 7, 8]
    assert runs[2].state.batch.obs[:, 0, 0].tolist() == [4, 5, 0, 7]


@cache
def curve(mesh=None, iterations=3, x64=False):
    """The final run and the metrics of every iteration, on one device or on a mesh."""
    with jax.enable_x64(x64):
        env = envs.make("jaxrl/Pendulum-v1")
        loop = on_policy.make(ppo.make(env.spec, PPO), env, SIZES, blocks=8)
        if mesh:
            size = int(np.prod(mesh))
            config = parallel.MeshConfig(*mesh)
            loop = loops.shard(loop, parallel.make_mesh(config, jax.devices()[:size]))
        key, log = jax.random.key(0), []
        run = loop.begin(jax.random.clone(key))
        for _ in range(iterations):
            run, metrics = loop.advance(run, jax.random.clone(key), 1)
            log.append(jax.tree.map(np.asarray, metrics))
        assert loop.advance._cache_size() == 1
        return run, log


@strict
@pytest.mark.parametrize("mesh", [(8, 1, 1), (2, 4, 1), (1, 8, 1)])
def test_meshes_equal_one_device(mesh):
    (one, _), (many, _) = curve(iterations=1), curve(mesh, iterations=1)
    assert many.env.acting.obs.sharding.num_devices == 8
    assert len({str(s.index) for s in many.env.acting.obs.addressable_shards}) == 8
    params = (one.state.learner.params, many.state.learner.params)
    chex.assert_trees_all_close(*jax.device_get(params), atol=1e-5, rtol=1e-5)


@strict
@pytest.mark.parametrize("mesh", [(1, 1, 1), (2, 1, 1), (8, 1, 1)])
def test_a_whole_curve_is_the_same_in_double_precision(mesh):
    """Environments, normalisers, shuffles and updates together, on one, two and eight devices."""
    (one, log), (many, other) = curve(iterations=5, x64=True), curve(mesh, 5, x64=True)
    assert one.state.learner.params.actor["params"]["log_std"].dtype == jnp.float64
    with jax.enable_x64(True):
        chex.assert_trees_all_close(*jax.device_get((one, many)), atol=1e-6, rtol=1e-6)
        chex.assert_trees_all_close(log, other, atol=1e-6, rtol=1e-6)


def test_rollouts_and_shuffles_stay_on_their_devices():
    """The compiled iteration reduces over devices, and moves no sample between them."""
    env = envs.make("jaxrl/Pendulum-v1")
    loop = on_policy.make(ppo.make(env.spec, PPO), env, SIZES, blocks=8)
    loop = loops.shard(loop, parallel.make_mesh(parallel.MeshConfig(8, 1, 1)))
    key = jax.random.key(0)
    text = loop.advance.lower(loop.shapes(key), key, 1).compile().as_text()
    assert "all-reduce" in text
    for move in ("all-gather", "all-to-all", "collective-permute"):
        assert move not in text


def test_seeds_are_independent_runs():
    env = envs.make("jaxrl/Pendulum-v1")
    loop = on_policy.make(ppo.make(env.spec, PPO), env, SIZES, blocks=8)
    keys = jax.vmap(jax.random.key)(jnp.arange(2))
    many = loops.seeds(loop, 2, "map")
    run, metrics = many.advance(many.begin(jax.random.clone(keys)), jax.random.clone(keys), 2)
    alone = loop.begin(jax.random.key(1))
    alone, _ = loop.advance(alone, jax.random.key(1), 2)
    chex.assert_trees_all_equal(run[1], alone)
    chex.assert_shape(metrics["value_error"], (2,))
    assert metrics["updates"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("change", "blocks", "message"),
    [
        ({"envs": 0}, 1, "loop.envs: found 0"),
        ({"envs": 12}, 8, r"loop.envs: 12 does not split into 8 blocks; try \[8, 16\]"),
        ({"steps": 0}, 0, "loop.steps: found 0"),
        ({"report_every": -5}, 0, "loop.report_every: found -5"),
    ],
)
def test_sizes_that_cannot_work_are_named(change, blocks, message):
    with pytest.raises(UserError, match=message):
        on_policy.make(recorder((1, 1)), counter_env(), replace(SIZES, **change), blocks)


def test_a_rollout_that_does_not_split_is_refused_before_it_is_played():
    env = envs.make("jaxrl/Pendulum-v1")
    agent = ppo.make(env.spec, replace(PPO, minibatches=5))
    loop = on_policy.make(agent, env, SIZES, blocks=8)
    with pytest.raises(UserError, match=r"minibatches: found 5.*16 samples.*try \[4, 8\]"):
        jax.eval_shape(loop.step, loop.shapes(jax.random.key(0)), jax.random.key(1))
