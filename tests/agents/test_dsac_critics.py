"""DSAC-T's critics against closed forms: gradients, their fixed points, and targets."""

import dataclasses
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.agents import dsac
from jaxrl.types import Learner, Transition

pytestmark = pytest.mark.usefixtures("strict")

CONFIG = dsac.Config()
V1 = dsac.Config(expected_value=False, twin=False, adaptive=False, td_bound=2.0)
LOSSES = pytest.mark.parametrize("critic_loss", ["paper", "huber2025"])


class Table(NamedTuple):
    """A critic whose parameters are the means and standard deviations of the batch."""

    def apply(self, params, obs, action):
        del obs, action
        return params["mean"], params["std"]


class Constant(NamedTuple):
    """A critic that ignores its inputs; `std` is a softplus of the parameter."""

    def apply(self, params, obs, action):
        del action
        mean, raw = (jnp.broadcast_to(p[:, None], (2, len(obs))) for p in params)
        return mean, jax.nn.softplus(raw)


class Still(NamedTuple):
    """A policy and its network: always action 0, at a given log-probability."""

    log_prob: float
    size: int = 0

    def apply(self, params, obs):
        del params
        return self._replace(size=len(obs))

    def sample_and_log_prob(self, key):
        del key
        return jnp.zeros((self.size, 1)), jnp.full(self.size, self.log_prob)


class Known(NamedTuple):
    """A temperature that is its parameter."""

    def apply(self, params):
        return jnp.log(params)


def transition(size, reward=1.0, discount=1.0):
    """`size` equal steps of a task with one state."""
    blank = jnp.zeros((size, 1))
    full = partial(jnp.full, size)
    return Transition(blank, blank, full(reward), full(discount), blank, full(False))


def stub(critic, mean, std, log_prob=-0.5, temperature=0.2):
    """Networks and a state with a fixed policy and the target critics N(mean_i, std_i)."""
    networks = dsac.Networks(Still(log_prob), critic, Known())
    size = 4096
    params = {
        "mean": jnp.broadcast_to(jnp.array(mean)[:, None], (len(mean), size)),
        "std": jnp.broadcast_to(jnp.array(std)[:, None], (len(std), size)),
    }
    alpha = Learner(jnp.array(temperature), None)
    return networks, dsac.State(jnp.int32(0), None, None, alpha, None, params, None, None)


def random_values(key, size=8):
    """Means, standard deviations and targets of two critics, with errors beyond every clip."""
    keys = jax.random.split(key, 4)
    params = {
        "mean": 3 * jax.random.normal(keys[0], (2, size)),
        "std": jnp.exp(jax.random.normal(keys[1], (2, size))),
    }
    draws = 40 * jax.random.normal(keys[2], (size,)), 4 * jax.random.normal(keys[3], (size,))
    return params, dsac.Target(*draws)


def closed_form(critic_loss, params, target, spread):
    """dL/dQ and dL/dsigma of a batch mean, written out per critic. [2, B] each"""
    q, s, size = params["mean"], params["std"], params["mean"].shape[1]
    d_mean, d_std = np.zeros(q.shape), np.zeros(q.shape)
    for i in range(2):
        ms = float(spread[i])
        gap = np.clip(target.sample - q[i], -3 * ms, 3 * ms)  # C - Q
        if critic_loss == "paper":
            omega = ms**2 + 0.1
            d_mean[i] = -omega * (target.mean - q[i]) / (s[i] ** 2 + 0.1)
            d_std[i] = -omega * (gap**2 - s[i] ** 2) / (s[i] ** 3 + 0.1)
        else:
            rho = np.clip(ms**2 / (s[i] ** 2 + 0.1), 0.1, 10)
            huber = np.where(abs(gap) < 50, 0.5 * gap**2, 50 * (abs(gap) - 25))
            d_mean[i] = rho * np.clip(q[i] - target.mean, -50, 50)
            d_std[i] = rho * (s[i] ** 2 - huber) / (s[i] + 0.1)
    return d_mean / size, d_std / size


@LOSSES
def test_the_critic_loss_has_the_published_gradients_and_no_other(critic_loss, x64):
    config = dataclasses.replace(CONFIG, critic_loss=critic_loss)
    params, target = random_values(jax.random.key(0))
    assert jnp.abs(target.mean[None] - params["mean"]).max() > 50  # the Huber loss is linear here
    old = jnp.array([1.0, 2.0])
    networks = dsac.Networks(None, Table(), None)
    grads, metrics = jax.grad(dsac.critic_loss, has_aux=True)(
        params, networks, config, transition(8), target, old
    )
    spread = 0.995 * old + 0.005 * params["std"].mean(1)  # moves before it is used
    chex.assert_trees_all_close(metrics["spread"], spread, rtol=1e-6)
    d_mean, d_std = closed_form(critic_loss, params, target, spread)
    chex.assert_trees_all_close(grads, {"mean": d_mean, "std": d_std}, rtol=1e-6)


def settle(config, draw, steps=3000):
    """Mean and standard deviation, averaged over the last third, that critics settle at."""
    networks = dsac.Networks(None, Constant(), None)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, steps))
    params = jnp.zeros(2), jnp.ones(2)
    grad = jax.grad(dsac.critic_loss, has_aux=True)

    def step(carry, i):
        params, opt, spread = carry
        target = draw(jax.random.fold_in(jax.random.key(0), i))
        batch = transition(len(target.mean))
        grads, metrics = grad(params, networks, config, batch, target, spread)
        updates, opt = optimizer.update(grads, opt)
        params = optax.apply_updates(params, updates)
        return (params, opt, metrics["spread"]), (params[0], jax.nn.softplus(params[1]))

    start = params, optimizer.init(params), jnp.zeros(2)
    path = jax.jit(lambda: jax.lax.scan(step, start, jnp.arange(steps))[1])()
    return jax.tree.map(lambda x: float(x[-steps // 3 :].mean()), path)


FIXED = {"paper": 0.9974, "huber2025": 0.6812}  # of the true standard deviation


@LOSSES
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_std_fixed_point_under_noisy_rewards(critic_loss, scale):
    levels = (jnp.arange(4096) + 0.5) / 4096
    reward = scale * jax.scipy.special.ndtri(levels)  # N(0, scale^2) without sampling error
    config = dataclasses.replace(CONFIG, critic_loss=critic_loss)
    mean, std = settle(config, lambda key: dsac.Target(reward, reward))
    assert abs(mean) < 0.01 * scale
    near = {name: abs(std / scale - fixed) < 0.01 for name, fixed in FIXED.items()}
    assert near == {name: name == critic_loss for name in FIXED}


@pytest.mark.parametrize(
    ("critic_loss", "low", "high"), [("paper", 0.995, 0.998), ("huber2025", 0.67, 0.69)]
)
def test_std_propagates_from_the_next_state(critic_loss, low, high):
    config = dataclasses.replace(CONFIG, critic_loss=critic_loss, gamma=0.9)
    networks, state = stub(Table(), mean=[2.0, 3.0], std=[1.5, 1.5])

    def draw(key):
        return dsac.soft_target(networks, config, state, transition(4096), key)[0]

    mean, std = settle(config, draw)
    assert mean == pytest.approx(1 + 0.9 * (2 + 0.2 * 0.5), rel=1e-3)
    assert low < std / (0.9 * 1.5) < high


def test_the_soft_target_by_hand():
    config = dataclasses.replace(CONFIG, gamma=0.9)
    networks, state = stub(Table(), mean=[2.0, 2.5], std=[1.0, 1.0])
    for discount, expected in [(1.0, 2.89), (0.0, 1.0)]:  # a time limit keeps discount 1
        batch = transition(4096, discount=discount)._replace(last=jnp.full(4096, True))
        target, metrics = dsac.soft_target(networks, config, state, batch, jax.random.key(0))
        chex.assert_trees_all_close(target.mean, jnp.full(4096, expected), rtol=1e-6)
        assert float(metrics["entropy"]) == 0.5
    scaled = dataclasses.replace(config, reward_scale=10.0)
    target, _ = dsac.soft_target(networks, scaled, state, transition(4096), jax.random.key(0))
    chex.assert_trees_all_close(target.mean, jnp.full(4096, 11.89), rtol=1e-6)


def test_twins_lend_mean_and_std_together_and_the_mean_never_varies():
    config = dataclasses.replace(CONFIG, gamma=0.9)
    networks, state = stub(Table(), mean=[2.0, 2.5], std=[1.0, 100.0])
    draws = [
        dsac.soft_target(networks, config, state, transition(4096), jax.random.key(i))[0]
        for i in range(2)
    ]
    assert float(draws[0].sample.std()) == pytest.approx(0.9, rel=0.05)
    assert jnp.abs(draws[0].sample - draws[0].mean).max() <= 0.9 * 3 + 1e-5
    chex.assert_trees_all_equal(draws[0].mean, draws[1].mean)
    assert jnp.abs(draws[0].sample - draws[1].sample).max() > 0.1
    swapped, other = stub(Table(), mean=[2.5, 2.0], std=[100.0, 1.0])
    target, _ = dsac.soft_target(swapped, config, other, transition(4096), jax.random.key(0))
    chex.assert_trees_all_equal(target, draws[0])


def test_critics_share_targets_but_clip_by_their_own_mean_and_spread():
    target = dsac.Target(jnp.array([10.0]), jnp.array([10.0]))
    mean, std, spread = jnp.array([[1.0], [2.0]]), jnp.ones((2, 1)), jnp.array([1.0, 2.0])
    d_mean, d_std = dsac.critic_gradients(CONFIG, mean, std, target, spread)
    omega = np.array([[1.1], [4.1]])
    chex.assert_trees_all_close(d_mean, -omega * np.array([[9.0], [8.0]]) / 1.1, rtol=1e-5)
    clipped = np.array([[3.0], [6.0]])  # 3 * spread, since both errors exceed it
    chex.assert_trees_all_close(d_std, -omega * (clipped**2 - 1) / 1.1, rtol=1e-5)


def test_v1_learns_from_samples_with_one_critic_and_a_fixed_bound():
    networks, state = stub(Table(), mean=[2.0], std=[1.0])
    target, _ = dsac.soft_target(networks, V1, state, transition(4096), jax.random.key(0))
    chex.assert_trees_all_equal(target.mean, target.sample)
    assert float(target.mean.std()) == pytest.approx(0.99, rel=0.05)
    y = dsac.Target(jnp.array([9.0]), jnp.array([9.0]))
    slopes = dsac.critic_gradients(V1, jnp.zeros((1, 1)), jnp.ones((1, 1)), y, jnp.ones(1) * 7)
    chex.assert_trees_all_close(slopes, (jnp.full((1, 1), -9 / 1.1), jnp.full((1, 1), -3 / 1.1)))
