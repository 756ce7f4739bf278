"""Policies: from observations to an action distribution."""

import jax.numpy as jnp
from flax import linen as nn

from jaxrl.distributions import Categorical, Deterministic, Gaussian, TanhGaussian
from jaxrl.networks.mlp import Encoder
from jaxrl.types import PyTree


class TanhGaussianActor(nn.Module):
    """A squashed normal whose mean and log standard deviation both depend on the observation."""

    encode: Encoder
    torso: nn.Module  # [..., F] -> [..., 2 A]
    log_std_min: float = -20.0
    log_std_max: float = 2.0

    @nn.compact
    def __call__(self, obs: PyTree) -> TanhGaussian:
        mean, log_std = jnp.split(self.torso(self.encode(obs)), 2, -1)
        return TanhGaussian(mean, jnp.clip(log_std, self.log_std_min, self.log_std_max))


class GaussianActor(nn.Module):
    """A normal with a log standard deviation that is learned but the same in every state."""

    encode: Encoder
    torso: nn.Module  # [..., F] -> [..., A]
    log_std_min: float = -20.0
    log_std_max: float = 2.0
    tanh_mean: bool = False

    @nn.compact
    def __call__(self, obs: PyTree) -> Gaussian:
        mean = self.torso(self.encode(obs))
        mean = jnp.tanh(mean) if self.tanh_mean else mean
        log_std = self.param("log_std", nn.initializers.zeros, mean.shape[-1:], float)
        log_std = jnp.clip(log_std, self.log_std_min, self.log_std_max)
        return Gaussian(mean, jnp.broadcast_to(log_std.astype(mean.dtype), mean.shape))


class DeterministicActor(nn.Module):
    """One action per observation, within (-1, 1) by tanh."""

    encode: Encoder
    torso: nn.Module  # [..., F] -> [..., A]

    @nn.compact
    def __call__(self, obs: PyTree) -> Deterministic:
        return Deterministic(jnp.tanh(self.torso(self.encode(obs))))


class CategoricalActor(nn.Module):
    """A softmax over discrete actions."""

    encode: Encoder
    torso: nn.Module  # [..., F] -> [..., num_actions]

    @nn.compact
    def __call__(self, obs: PyTree) -> Categorical:
        return Categorical(self.torso(self.encode(obs)))
