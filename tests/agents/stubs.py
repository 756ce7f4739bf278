"""Networks small enough to be worked by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp

from jaxrl.distributions import TanhGaussian
from jaxrl.types import PyTree


@dataclass(frozen=True)
class Stub:
    """Looks like a network: `apply(params, *inputs)` is the given function."""

    apply: Callable[..., Any]
    params: PyTree = field(default_factory=dict)

    def init(self, key, *inputs) -> PyTree:
        del key, inputs
        return self.params


@dataclass(frozen=True)
class Fixed:
    """A distribution whose sample and log-probability are given."""

    action: Any  # [B, A]
    log_prob: Any  # [B]

    def sample_and_log_prob(self, key):
        del key
        return self.action, self.log_prob


def state_free_actor(mean: float, log_std: float, wrap: Callable = TanhGaussian) -> Stub:
    """One tanh-Gaussian over one action dimension, the same in every state."""

    def apply(params, obs):
        shape = (obs.shape[0], 1)
        return wrap(*(jnp.broadcast_to(params[k], shape) for k in ("mean", "log_std")))

    return Stub(apply, {"mean": jnp.full((1, 1), mean), "log_std": jnp.full((1, 1), log_std)})


def noisy_actor() -> Stub:
    """A linear tanh-Gaussian that finds its noise in the last column of the observation.

    So the noise belongs to the sample and moves with it when a batch is permuted.
    """

    def apply(params, obs):
        policy = TanhGaussian(obs[:, :1] * params["w"], jnp.full((obs.shape[0], 1), -0.5))
        action = jnp.tanh(policy.mean + jnp.exp(policy.log_std) * obs[:, -1:])
        return Fixed(action, policy.log_prob(action))

    return Stub(apply, {"w": jnp.full((1, 1), 0.3)})
