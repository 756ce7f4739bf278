"""A sequence model of returns, observations and actions, which predicts the actions."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrl.distributions import Categorical, Deterministic
from jaxrl.networks.mlp import Dtype, Encoder, drop
from jaxrl.networks.transformer import norm
from jaxrl.types import Array, Segment

EMBED = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class TrajectoryModel(nn.Module):
    """Reads (R_t, s_t, a_t) of every step as three tokens and predicts a_t at that of s_t.

    The three share an embedding of the time step. Padded tokens are zero, and hidden from the
    backbone. `return_to_go` comes in the units that the model is trained with.
    """

    encode: Encoder
    backbone: nn.Module  # [B, 3 K, H], mask [B, 3 K], read -> [B, K, H]
    width: int  # H
    action_dim: int  # or the number of choices
    discrete: bool = False
    max_timestep: int = 1000  # later steps share the last embedding
    dropout: float | Array | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, segment: Segment) -> Deterministic | Categorical:
        """Distributions of the actions, `[B, K]` of them."""
        tokens = norm(self.dtype)(self._tokens(segment))
        mask = jnp.repeat(segment.mask, 3, axis=1)
        tokens = drop(self, jnp.where(mask[..., None], tokens, 0), self.dropout)
        states = self.backbone(tokens, mask, (1, None, 3))
        head = nn.Dense(self.action_dim, kernel_init=EMBED, param_dtype=float, name="head")(states)
        return Categorical(head) if self.discrete else Deterministic(jnp.tanh(head))

    def _tokens(self, segment: Segment) -> Array:
        """R_0, s_0, a_0, R_1, ... `[B, 3 K, H]`"""
        parts = {
            "return": segment.return_to_go[..., None],
            "obs": self.encode(segment.obs),
            "action": self._one_hot(segment.action),
        }
        time = self._embed_time(segment.timestep)
        tokens = [self._embed(name)(part) + time for name, part in parts.items()]
        return jnp.stack(tokens, axis=2).reshape(time.shape[0], -1, self.width)

    def _one_hot(self, action: Array) -> Array:
        return jax.nn.one_hot(action, self.action_dim) if self.discrete else action

    def _embed(self, name: str) -> nn.Module:
        name = f"embed_{name}"
        return nn.Dense(
            self.width, dtype=self.dtype, kernel_init=EMBED, param_dtype=float, name=name
        )

    def _embed_time(self, timestep: Array) -> Array:
        init = nn.initializers.normal(1.0)
        table = nn.Embed(self.max_timestep, self.width, self.dtype, float, init, name="embed_time")
        return table(jnp.clip(timestep, 0, self.max_timestep - 1))
