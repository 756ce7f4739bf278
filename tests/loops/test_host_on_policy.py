"""Rollouts on the host give the numbers of rollouts on the device, and resume exactly."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.agents import ppo
from jaxrl.envs.base import auto_reset
from jaxrl.envs.gymnasium import HostStep
from jaxrl.loops import host_on_policy, on_policy, stage
from jaxrl.types import Policy, Spec

PPO = ppo.Config(hidden=(16, 16), epochs=2, minibatches=2, normalize_obs=True, blocks=2)
SIZES = on_policy.Config(envs=2, steps=6, normalize_reward=True)


def orbit():
    """A deterministic task: the state adds up clipped actions, and episodes take four steps."""
    spec = Spec.continuous(1, 1)

    def dynamics(state, action, key):
        del key
        state = 0.5 * state + action.clip(-1, 1)
        return state, state, state[0] - 1, jnp.array(False)

    return auto_reset(spec, lambda key: (jnp.ones(1), jnp.ones(1)), dynamics, 4)


class Host:
    """`orbit` as an environment on the host."""

    id, exact_resume, poison = "orbit", True, -1

    def __init__(self, id, num_envs):
        del id
        self.num_envs, self.spec, self.steps = num_envs, orbit().spec, 0
        self.keys = jax.random.split(jax.random.key(0), num_envs)  # of no consequence

    def reset(self, seeds):
        assert len(set(seeds)) == self.num_envs
        self.state, obs = jax.vmap(orbit().reset)(self.keys)
        return np.array(obs)

    def step(self, action):
        time = jax.vmap(orbit().step)(self.state, jnp.array(action), self.keys)
        self.state, self.steps = time.state, self.steps + 1
        reward = np.where(self.steps == self.poison, np.nan, time.reward)
        rest = (np.array(x) for x in (time.discount, time.next_obs, time.last))
        return HostStep(np.array(time.obs), reward.astype(np.float32), *rest)

    def snapshot(self):
        return {"x": np.array(self.state.inner), "time": np.array(self.state.time)}

    def restore(self, tree):
        self.state = self.state._replace(inner=jnp.array(tree["x"]), time=jnp.array(tree["time"]))
        return tree["x"]


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setattr(stage, "HostEnv", Host)
    return Host("orbit", 1)


def counted(agent):
    """A policy whose memory sums rewards and whose actions lean on it."""

    def step(state, memory, obs, reward, last, key=None):
        memory = jnp.where(last, 0, memory + reward)
        return memory, agent.act(state, obs, key) + 0.1 * memory[:, None]

    return Policy(jnp.zeros, step)


def keys(n=2):
    return jax.vmap(jax.random.key)(jnp.arange(n))


def test_the_numbers_are_those_of_the_device(host):
    agent = ppo.make(host.spec, PPO)
    options = {"gamma": 0.9, "policy": counted(agent)}
    many = host_on_policy.make(agent, host, SIZES, 2, **options, num_seeds=2)
    runs, metrics = many.advance(many.begin(keys()), keys(), 3)
    one = on_policy.make(agent, orbit(), SIZES, 2, **options)
    for seed, run in enumerate(runs):
        alone, expected = one.advance(one.begin(jax.random.key(seed)), jax.random.key(seed), 3)
        chex.assert_trees_all_close(run.state, alone.state, atol=1e-6)
        kept = alone.env.reward, alone.env.last, alone.env.memory, alone.env.scale
        found = run.env.kept
        chex.assert_trees_all_close(
            (found.reward, found.last, found.memory, found.scale), kept, atol=1e-5
        )
        chex.assert_trees_all_close(run.env.obs, alone.env.acting.obs.reshape(-1, 1), atol=1e-6)
        for name, value in expected.items():
            assert metrics[name][seed] == pytest.approx(float(value), abs=1e-5), name
    assert int(runs[0].step) == 3
    assert not jnp.allclose(*(run.env.obs for run in runs))


def test_a_run_goes_on_in_another_process(host):
    agent = ppo.make(host.spec, PPO)
    whole = host_on_policy.make(agent, host, SIZES, 2, num_seeds=2)
    expected, _ = whole.advance(whole.begin(keys()), keys(), 4)
    first, second = (host_on_policy.make(agent, host, SIZES, 2, num_seeds=2) for _ in range(2))
    half, _ = first.advance(first.begin(keys()), keys(), 2)
    second.begin(keys(2))
    found, _ = second.advance(half, keys(), 2)
    chex.assert_trees_all_equal(found, expected)


def test_a_non_finite_number_stops_the_rollout(host, monkeypatch):
    monkeypatch.setattr(Host, "poison", 8)  # in the second rollout
    loop = host_on_policy.make(ppo.make(host.spec, PPO), host, SIZES, 2)
    runs, metrics = loop.advance(loop.begin(keys(1)), keys(1), 5)
    assert int(runs[0].env.failed_at) == 1
    assert int(runs[0].step) == 1
    assert np.isfinite(metrics["value_error"]).all()
    chex.assert_tree_all_finite(runs[0].state)


def test_two_compiled_programs_are_enough(host):
    agent = ppo.make(host.spec, PPO)
    calls = []
    counting = agent._replace(update=lambda *x: calls.append(1) or agent.update(*x))
    loop = host_on_policy.make(counting, host, SIZES, 2)
    run, _ = loop.advance(loop.begin(keys(1)), keys(1), 2)
    loop.advance(run, keys(1), 2)
    assert len(calls) == 1


@pytest.mark.slow
def test_gymnasium_tasks_are_played():
    """Hosted MuJoCo, continuous and squashed by clipping alone; and discrete CartPole."""
    for name in ("gymnasium/InvertedPendulum-v5", "gymnasium/CartPole-v1"):
        env = envs.make(name)
        config = replace(PPO, learning_rate=1e-3, epochs=4, minibatches=4)
        loop = host_on_policy.make(ppo.make(env.spec, config), env, replace(SIZES, steps=64), 2)
        start = loop.begin(keys(1))
        runs, metrics = loop.advance(start, keys(1), 3)
        chex.assert_tree_all_finite((runs[0].state, metrics))
        assert int(runs[0].env.failed_at) == -1
