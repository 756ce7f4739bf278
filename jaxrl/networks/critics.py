"""Value functions: of states, of state-action pairs, and ensembles of the latter."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn

from jaxrl.networks.mlp import Encoder
from jaxrl.types import Array, PyTree


class Value(nn.Module):
    """V(s)."""

    encode: Encoder
    torso: nn.Module  # [..., F] -> [..., 1]

    @nn.compact
    def __call__(self, obs: PyTree) -> Array:
        """[...]"""
        return self.torso(self.encode(obs))[..., 0]


class Critic(nn.Module):
    """An ensemble of `size` independent networks over states and, if continuous, actions.

    `torso()` builds one of them. The result is `[size, ..., outputs]`, or `[size, ...]` where the
    torso has one output; discrete tasks have an output per action.
    """

    encode: Encoder
    torso: Callable[[], nn.Module]
    size: int = 2

    @nn.compact
    def __call__(self, obs: PyTree, action: Array | None = None) -> Array:
        x = self.encode(obs)
        if action is not None:
            x = jnp.concatenate([x, action.astype(x.dtype)], -1)
        q = jnp.stack([self.torso()(x) for _ in range(self.size)])
        return q[..., 0] if q.shape[-1] == 1 else q


class GaussianCritic(nn.Module):
    """Normal distributions over returns, from a critic with two outputs."""

    critic: nn.Module  # obs, action -> [..., 2]

    @nn.compact
    def __call__(self, obs: PyTree, action: Array) -> tuple[Array, Array]:
        """Means and standard deviations, `[...]` each; softplus without a floor, in float32."""
        outputs = self.critic(obs, action)
        outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
        return outputs[..., 0], nn.softplus(outputs[..., 1])
