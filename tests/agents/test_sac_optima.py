"""Where SAC's equations lead on one-state tasks whose optima are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize

from jaxrl import networks as nets
from jaxrl.agents import sac
from jaxrl.distributions import Gaussian, TanhGaussian
from jaxrl.types import Spec, Transition
from tests import quadrature
from tests.agents.stubs import Fixed, Stub, state_free_actor

SPEC = Spec.continuous(1, 1)
BEST_STD, BEST_ENTROPY = 0.874401, 0.683636  # of a tanh-Gaussian with mean zero
pytestmark = pytest.mark.usefixtures("strict")


def one_state(n):
    """A batch of the only transition, which pays 1 and never ends."""
    obs, one = jnp.zeros((n, 1)), jnp.ones(n)
    return Transition(obs, obs, one, one, obs, jnp.zeros(n, bool))


def begin(actor, critic, config, optimizer):
    temperature = nets.Scalar(jnp.log(config.temperature))
    networks = sac.Networks(actor, critic, temperature, optimizer)
    return networks, sac.init(networks, SPEC, config, jax.random.key(0))


def test_entropy_loop_reaches_its_soft_value():
    """Q = c + gamma (c + alpha H) / (1 - gamma), by exact backups of a quadrature policy."""
    config = sac.Config(gamma=0.9, temperature=0.3)
    u, weight = quadrature.nodes(0.0, BEST_STD)
    log_prob = jnp.asarray(quadrature.log_density(u, 0.0, BEST_STD), jnp.float32)
    actor = Stub(
        lambda params, obs: Fixed(jnp.tanh(jnp.asarray(u, jnp.float32))[:, None], log_prob)
    )
    critic = Stub(lambda params, obs, action: jnp.broadcast_to(params, (2, len(u))), jnp.zeros(()))
    networks, state = begin(actor, critic, config, optax.sgd(0.1))
    batch, weight = one_state(len(u)), jnp.asarray(weight, jnp.float32)

    def backup(q, _):
        target = sac.soft_target(
            networks, config, state._replace(target=q), batch, jax.random.key(0)
        )
        return (target * weight).sum(), None

    q = jax.jit(lambda q: jax.lax.scan(backup, q, length=200)[0])(jnp.zeros(()))
    assert float(q) == pytest.approx(1 + 0.9 * 12.0509, abs=2e-3)


def trained(actor, critic, config, steps=600, batch_size=4096, rate=0.02):
    """The actor's mean and standard deviation, and alpha, after updates of all but the critic."""
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps), b2=0.99)
    networks, state = begin(actor, critic, config, optimizer)
    batch = one_state(batch_size)

    def step(state, i):
        key = jax.random.fold_in(jax.random.key(1), i)
        return sac.improve(networks, config, state, batch, key)[0], None

    state = jax.jit(lambda s: jax.lax.scan(step, s, jnp.arange(steps))[0])(state)
    params = state.actor.params
    mean, std = float(params["mean"][0, 0]), float(jnp.exp(params["log_std"])[0, 0])
    return mean, std, float(sac.alpha(networks, state))


CONSTANT = Stub(lambda params, obs, action: jnp.zeros((2, len(obs))))
QUADRATIC = Stub(lambda params, obs, action: -jnp.square(action - 0.3).T.repeat(2, 0))
FIXED = sac.Config(learn_temperature=False)


class Uncorrected(TanhGaussian):
    """The common mistake: the density before tanh for the action after it."""

    def sample_and_log_prob(self, key):
        u = Gaussian(*self).sample(key)
        return jnp.tanh(u), Gaussian(*self).log_prob(u)


def test_without_rewards_the_actor_maximises_entropy():
    mean, std, _ = trained(state_free_actor(0.4, -1.0), CONSTANT, FIXED)
    assert std == pytest.approx(BEST_STD, abs=0.02)
    assert quadrature.entropy(mean, std) == pytest.approx(BEST_ENTROPY, abs=0.005)


def test_without_the_tanh_correction_the_actor_diverges():
    assert trained(state_free_actor(0.4, -1.0, Uncorrected), CONSTANT, FIXED)[1] > 5


def soft_loss(mean, std, alpha):
    """E[alpha log pi - Q] of the quadratic bandit."""
    cost = quadrature.expectation(lambda a: np.square(a - 0.3), mean, std)
    return cost - alpha * quadrature.entropy(mean, std)


@pytest.mark.parametrize("alpha, tolerance", [(0.1, 1e-3), (1e-3, 2e-4)])
def test_quadratic_bandit_is_solved(alpha, tolerance):
    config = dataclasses.replace(FIXED, temperature=alpha)
    mean, std, _ = trained(state_free_actor(0.0, -2.0), QUADRATIC, config)
    best = minimize(
        lambda x: soft_loss(x[0], np.exp(x[1]), alpha), [0.3, -2.0], method="Nelder-Mead"
    )
    assert soft_loss(mean, std, alpha) == pytest.approx(best.fun, abs=tolerance)
    if alpha < 0.01:
        assert np.tanh(mean) == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("form", ["J1", "J2"])
def test_the_temperature_settles_where_entropy_meets_its_target(form):
    config = sac.Config(temperature_loss=form, target_entropy=-1.0)
    mean, std, alpha = trained(state_free_actor(0.0, 0.0), QUADRATIC, config, 2000, 1024)
    assert quadrature.entropy(mean, std) == pytest.approx(-1.0, abs=0.05)
    assert 0 < alpha < 0.1
