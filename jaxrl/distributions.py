"""Action distributions as pytrees: `mode`, `sample`, `log_prob`, `entropy`. All batched, in nats.

Log-probabilities stay at least float32, whatever the networks compute in.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops.noise import normal
from jaxrl.types import Array, Key

LOG_2PI = 1.8378770664093453


def _full(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class Gaussian(NamedTuple):
    """Diagonal normal over `[..., A]`; `log_std` broadcasts against `mean` at equal rank."""

    mean: Array  # [..., A]
    log_std: Array  # [..., A]

    def mode(self) -> Array:
        return _full(self.mean)

    def sample(self, key: Key) -> Array:
        mean, log_std = _full(self.mean), _full(self.log_std)
        return mean + jnp.exp(log_std) * normal(key, mean.shape, mean.dtype)

    def log_prob(self, action: Array) -> Array:
        """log N(action), summed over the action dimensions. [...]"""
        mean, log_std = _full(self.mean), _full(self.log_std)
        z = (action - mean) * jnp.exp(-log_std)
        return -(0.5 * jnp.square(z) + log_std + 0.5 * LOG_2PI).sum(-1)

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        """A reparameterised sample `[..., A]` and, from its noise, its log-probability `[...]`."""
        mean, log_std = _full(self.mean), _full(self.log_std)
        noise = normal(key, mean.shape, mean.dtype)
        log_prob = -(0.5 * jnp.square(noise) + log_std + 0.5 * LOG_2PI).sum(-1)
        return mean + jnp.exp(log_std) * noise, log_prob

    def entropy(self) -> Array:
        """Differential entropy, summed over the action dimensions. [...]"""
        log_std = jnp.broadcast_to(_full(self.log_std), self.mean.shape)
        return (log_std + 0.5 * (LOG_2PI + 1)).sum(-1)


class Deterministic(NamedTuple):
    """All mass on one action; has no density."""

    action: Array  # [..., A]

    def mode(self) -> Array:
        return _full(self.action)

    def sample(self, key: Key) -> Array:
        del key
        return self.mode()


def tanh_log_slope(u: Array) -> Array:
    """log(1 - tanh(u)^2), exact for large |u| where the textbook form is -inf."""
    size = jnp.abs(u)
    return 2 * (jnp.log(2.0) - size - jnp.log(1 + jnp.exp(-2 * size)))  # the sum is in [1, 2]


class TanhGaussian(NamedTuple):
    """A diagonal normal squashed into (-1, 1) by tanh; its entropy has no closed form."""

    mean: Array  # [..., A], before tanh
    log_std: Array  # [..., A], before tanh

    def mode(self) -> Array:
        """tanh of the mean, which is what the literature evaluates."""
        return jnp.tanh(_full(self.mean))

    def sample(self, key: Key) -> Array:
        return jnp.tanh(Gaussian(*self).sample(key))

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        """A reparameterised sample `[..., A]` and its log-probability `[...]`."""
        u, log_prob = Gaussian(*self).sample_and_log_prob(key)
        return jnp.tanh(u), log_prob - tanh_log_slope(u).sum(-1)

    def log_prob(self, action: Array, clip: float = 1e-5) -> Array:
        """log-probability of given actions `[..., A]`, kept `clip` away from the bounds. [...]"""
        u = jnp.arctanh(jnp.clip(_full(action), -1 + clip, 1 - clip))
        return Gaussian(*self).log_prob(u) - tanh_log_slope(u).sum(-1)

    def entropy(self, key: Key) -> Array:
        """One-sample estimate of the entropy. [...]"""
        return -self.sample_and_log_prob(key)[1]


class Categorical(NamedTuple):
    """Choices `[0, n)` with unnormalised log-probabilities."""

    logits: Array  # [..., n]

    def log_probs(self) -> Array:
        """Normalised log-probabilities of all choices. [..., n]"""
        return jax.nn.log_softmax(_full(self.logits))

    def mode(self) -> Array:
        return jnp.argmax(self.logits, -1)

    def sample(self, key: Key) -> Array:
        return jax.random.categorical(key, _full(self.logits))

    def log_prob(self, action: Array) -> Array:
        """[...]"""
        return jnp.take_along_axis(self.log_probs(), action[..., None], -1)[..., 0]

    def sample_and_log_prob(self, key: Key) -> tuple[Array, Array]:
        action = self.sample(key)
        return action, self.log_prob(action)

    def entropy(self) -> Array:
        """[...]"""
        log_probs = self.log_probs()
        return -(jnp.exp(log_probs) * log_probs).sum(-1)
