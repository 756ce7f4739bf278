"""Discrete SAC against the closed forms of soft-optimal control, and what must not influence it."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import sac, sac_discrete
from jaxrl.distributions import Categorical
from jaxrl.errors import UserError
from jaxrl.types import Learner, Spec, Transition
from tests.agents.catalog import transitions

pytestmark = pytest.mark.usefixtures("strict")

SPEC = Spec.categorical(5, 3)
SMALL = sac_discrete.Config(hidden=(16, 16))
NETWORKS = sac_discrete.build(SPEC, SMALL)
REWARDS = jnp.array([1.0, 2.0])
ALPHA = 0.5


@functools.cache
def built(**changes):
    """An agent whose functions are compiled once for all tests."""
    agent = sac_discrete.make(SPEC, dataclasses.replace(SMALL, **changes))
    return agent._replace(init=jax.jit(agent.init), update=jax.jit(agent.update))


def two_arms(discount):
    """One state and two arms, which pay 1 and 2 and then end (`discount` 0) or repeat."""
    state, reward = jnp.ones((2, 1)), REWARDS
    full = jnp.full(2, discount)
    return Transition(state, jnp.arange(2), reward, full, state, full == 0)


def learned(batch, gamma, steps=1500, **changes):
    """Arms' probabilities `[2]` and values `[2]` after learning on one batch at a fixed alpha."""
    config = sac_discrete.Config(
        gamma, 0.1, 3e-3, hidden=(16,), temperature=ALPHA, learn_temperature=False, **changes
    )
    agent = sac_discrete.make(Spec.categorical(1, 2), config)
    networks = sac_discrete.build(Spec.categorical(1, 2), config)

    @jax.jit
    def run(key):
        def step(state, i):
            return agent.update(state, batch, jax.random.fold_in(key, i))[0], None

        state = agent.init(jax.random.fold_in(key, steps))
        return jax.lax.scan(step, state, jnp.arange(steps))[0]

    state = run(jax.random.key(0))
    policy = networks.actor.apply(state.actor.params, batch.obs[:1])
    q = networks.critic.apply(state.critic.params, batch.obs[:1])
    return jnp.exp(policy.log_probs())[0], q.mean(0)[0]


def test_a_bandit_ends_in_the_boltzmann_policy():
    probabilities, q = learned(two_arms(discount=0.0), gamma=0.9)
    chex.assert_trees_all_close(q, REWARDS, atol=0.01)
    chex.assert_trees_all_close(probabilities, jax.nn.softmax(REWARDS / ALPHA), atol=0.01)


def test_an_endless_bandit_is_worth_the_soft_maximum():
    gamma = 0.8
    probabilities, q = learned(two_arms(discount=1.0), gamma=gamma)
    value = ALPHA * jax.nn.logsumexp(REWARDS / ALPHA) / (1 - gamma)  # V = max-soft(r + gamma V)
    chex.assert_trees_all_close(q, REWARDS + gamma * value, rtol=0.01)
    chex.assert_trees_all_close(probabilities, jax.nn.softmax(REWARDS / ALPHA), atol=0.01)


def test_the_boltzmann_policy_has_the_largest_soft_value():
    q = jnp.array([[1.0, 2.0, -0.5], [0.0, 0.3, 0.1]])
    best = sac_discrete.soft_value(Categorical(q / ALPHA), q, jnp.array(ALPHA))
    chex.assert_trees_all_close(best, ALPHA * jax.nn.logsumexp(q / ALPHA, -1), rtol=1e-6)
    other = sac_discrete.soft_value(Categorical(q), q, jnp.array(ALPHA))
    assert bool((other < best).all())


def test_the_soft_target_by_hand():
    """pi = (1/4, 3/4) and min Q' = (2, 4): V' = 3.5 + alpha H, H = 0.562335 nats."""

    class Known:
        def __init__(self, value):
            self.value = value

        def apply(self, params, obs=None):
            return self.value

    q = jnp.array([[[2.0, 9.0]], [[7.0, 4.0]]])
    policy = Categorical(jnp.log(jnp.array([[0.25, 0.75]])))
    networks = sac.Networks(Known(policy), Known(q), Known(jnp.log(0.2)))
    blank = Learner(None, None)
    state = sac.State(0, blank, blank, blank, None, None)
    config = dataclasses.replace(SMALL, gamma=0.9, reward_scale=10.0)
    for discount, expected in [(1.0, 10 + 0.9 * (3.5 + 0.2 * 0.562335)), (0.0, 10.0)]:
        full = functools.partial(jnp.full, 1)  # `last` is a time limit where discount is 1
        batch = Transition(None, None, full(1.0), full(discount), None, full(True))
        target = sac_discrete.soft_target(networks, config, state, batch)
        chex.assert_trees_all_close(target, full(expected), rtol=1e-6)


def test_no_key_influences_an_update():
    agent, batch = built(), transitions(SPEC, jax.random.key(1))
    state = agent.init(jax.random.key(0))
    first, second = (agent.update(state, batch, jax.random.key(i)) for i in (2, 3))
    chex.assert_trees_all_equal(first, second)


def test_only_the_value_of_the_action_taken_learns():
    batch = transitions(SPEC, jax.random.key(1))

    class Table:
        def apply(self, params, obs):
            return params

    q, target = jnp.zeros((2, 16, 3)), jnp.ones(16)
    networks = sac.Networks(None, Table(), None)
    grads = jax.grad(sac_discrete.critic_loss, has_aux=True)(q, networks, batch, target)[0]
    expected = -2 / 16 * np.eye(3)[batch.action]
    chex.assert_trees_all_close(grads, np.stack([expected, expected]), rtol=1e-6)


def test_the_actor_has_the_exact_gradient_of_its_expectation():
    """d/d logits of -V is -pi (Q - alpha log pi - V): no sample, no variance."""

    class Logits:
        def apply(self, params, obs):
            return Categorical(params)

    class Values:
        def apply(self, params, obs):
            return params

    logits, q = jnp.array([[0.3, -0.2, 0.8]]), jnp.array([[[1.0, 0.0, 4.0]], [[2.0, -1.0, 3.0]]])
    networks = sac.Networks(Logits(), Values(), None)
    batch = transitions(SPEC, jax.random.key(1), (1,))
    grads, metrics = jax.grad(sac_discrete.actor_loss, has_aux=True)(
        logits, networks, SMALL, batch, q, ALPHA
    )
    log_pi = jax.nn.log_softmax(logits)
    score = q.min(0) - ALPHA * log_pi
    value = (jnp.exp(log_pi) * score).sum(-1, keepdims=True)
    chex.assert_trees_all_close(grads, -jnp.exp(log_pi) * (score - value), atol=1e-6)
    excess = -(jnp.exp(log_pi) * log_pi).sum() - 0.98 * np.log(3)
    chex.assert_trees_all_close(metrics["excess_entropy"], excess, rtol=1e-5)


@pytest.mark.parametrize("loss", ["J1", "J2"])
@pytest.mark.parametrize(("share", "direction"), [(0.0, -1), (1.0, 1)])
def test_entropy_below_its_target_raises_the_temperature(loss, share, direction):
    agent = built(target_entropy=share, temperature_loss=loss)
    state = agent.init(jax.random.key(0))
    peaked = jax.tree.map(lambda x: 5 * x, state.actor.params)  # neither uniform nor certain
    state = state._replace(actor=Learner(peaked, state.actor.opt))
    new, _ = agent.update(state, transitions(SPEC, jax.random.key(1)), jax.random.key(2))
    change = new.temperature.params["params"]["value"] - state.temperature.params["params"]["value"]
    chex.assert_trees_all_close(change, jnp.array(direction * 3e-4), rtol=1e-3)


def test_the_temperature_settles_where_the_entropy_meets_its_target():
    batch, spec = two_arms(discount=0.0), Spec.categorical(1, 2)
    config = sac_discrete.Config(hidden=(16,), learning_rate=3e-3, target_entropy=0.5)
    agent = sac_discrete.make(spec, config)

    @jax.jit
    def run(key):
        def step(state, i):
            return agent.update(state, batch, jax.random.fold_in(key, i))

        return jax.lax.scan(step, agent.init(jax.random.clone(key)), jnp.arange(4000))[1]

    metrics = jax.tree.map(lambda x: float(x[-1]), run(jax.random.key(0)))
    assert metrics["entropy"] == pytest.approx(0.5 * np.log(2), abs=0.01)
    # H(p) = log(2) / 2 at p = 0.8899721, and the odds of the arms are exp(1 / alpha).
    assert metrics["temperature"] == pytest.approx(1 / np.log(0.8899721 / 0.1100279), rel=0.05)


def test_acting_takes_the_likeliest_or_samples():
    agent, obs = built(), jax.random.normal(jax.random.key(1), (512, 5))
    state = agent.init(jax.random.key(0))
    policy = NETWORKS.actor.apply(state.actor.params, obs)
    chex.assert_trees_all_equal(agent.act(state, obs), policy.logits.argmax(-1))
    sampled = agent.act(state, obs, jax.random.key(2))
    share = (sampled[:, None] == jnp.arange(3)[None]).mean(0)
    chex.assert_trees_all_close(share, jnp.exp(policy.log_probs()).mean(0), atol=0.08)


@pytest.mark.parametrize(
    ("spec", "config", "named"),
    [
        (Spec.continuous(4, 2), SMALL, "discrete"),
        (SPEC, dataclasses.replace(SMALL, gamma=1.5), "gamma"),
        (SPEC, dataclasses.replace(SMALL, tau=-0.1), "tau"),
        (SPEC, dataclasses.replace(SMALL, temperature=0.0), "temperature"),
        (SPEC, dataclasses.replace(SMALL, critics=0), "critics"),
        (SPEC, dataclasses.replace(SMALL, target_entropy=1.5), "target_entropy"),
    ],
)
def test_bad_settings_are_refused_by_name(spec, config, named):
    with pytest.raises(UserError, match=named):
        sac_discrete.make(spec, config)


def test_wrong_shapes_are_refused():
    agent, batch = built(), transitions(SPEC, jax.random.key(1))
    state = agent.init(jax.random.key(0))
    for wrong in ({"action": batch.action[:, None]}, {"reward": batch.reward[:, None]}):
        with pytest.raises(AssertionError):
            agent.update(state, batch._replace(**wrong), jax.random.key(2))
