"""Compiled agents and random rollouts, for the tests of PPO beside this file."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp

from jaxrl.agents import ppo
from jaxrl.types import Spec, Transition

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

    def loss(params, samples, key):
        """Of `samples` as the only minibatch."""
        batches = jax.tree.map(lambda x: x[None], samples)
        if config.normalize_advantages:
            batches = ppo.standardized(batches)
        batch = jax.tree.map(lambda x: x[0], batches)
        return ppo.joint_loss(params, networks, config, batch, key)[0]

    return jax.jit(jax.grad(loss))


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
