"""Denoisers: what a diffusion or flow policy predicts of a noisy action, or chunk of actions.

A torso maps `x` `[B, ..., A]`, a time `[B]` and a condition `[B, C]` or `[B, N, C]` to a
prediction of the shape of `x`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrl.errors import UserError, check_divides
from jaxrl.networks.mlp import MLP, Dtype, Encoder, drop
from jaxrl.networks.transformer import NORMAL, Attention, Backbone
from jaxrl.types import Array, PyTree


class Denoiser(nn.Module):
    """A torso that is told of observations, and of a goal where there is one."""

    encode: Encoder
    torso: nn.Module  # x, time, condition -> prediction

    @nn.compact
    def __call__(self, x: Array, time: Array, obs: PyTree, goal: Array | None = None) -> Array:
        """`obs` is `[B, *obs_shape]`, or `[B, N, *obs_shape]`; `goal` `[B, G]` joins each of N."""
        condition = self.encode(obs)
        if goal is not None:
            goal = goal.reshape(len(goal), *(1,) * (condition.ndim - 2), -1)
            goal = jnp.broadcast_to(goal, (*condition.shape[:-1], goal.shape[-1]))
            condition = jnp.concatenate([condition, goal.astype(condition.dtype)], -1)
        return self.torso(x, time, condition)


def sinusoids(time: Array, size: int) -> Array:
    """Sines and cosines of `time` `[B]` at frequencies from 1 down to 1e-4. [B, size]"""
    half = size // 2
    frequency = jnp.exp(-jnp.log(1e4) * jnp.arange(half) / (half - 1))
    angle = time[:, None] * frequency[None].astype(time.dtype)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


class TimeEmbedding(nn.Module):
    """Sinusoids of a time, through a hidden layer of `expansion` times their number."""

    size: int = 128
    expansion: int = 4
    dtype: Dtype = None

    @nn.compact
    def __call__(self, time: Array) -> Array:
        """[B, size]"""
        sizes = (self.expansion * self.size, self.size)
        return MLP(sizes, jax.nn.mish, dtype=self.dtype)(sinusoids(time, self.size))


def _joined(*parts: Array) -> Array:
    """All of it as one vector per sample. [B, F]"""
    return jnp.concatenate([part.reshape(len(part), -1) for part in parts], -1)


class MLPDenoiser(nn.Module):
    """Dense layers over everything at once; the network of Diffusion-QL."""

    hidden: Sequence[int] = (256, 256, 256)
    embedding: int = 16
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Array, time: Array, condition: Array) -> Array:
        time = TimeEmbedding(self.embedding, 2, self.dtype)(time)
        sizes = (*self.hidden, x[0].size)
        return MLP(sizes, jax.nn.mish, dtype=self.dtype)(_joined(x, time, condition)).reshape(
            x.shape
        )


class ResidualDenoiser(nn.Module):
    """Pre-norm residual layers, four times as wide inside; the network of IDQL.

    Its embedding of time is the sinusoidal one of the others, where IDQL learns the frequencies.
    """

    width: int = 256
    blocks: int = 3
    embedding: int = 128
    dropout: float | Array | None = None
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Array, time: Array, condition: Array) -> Array:
        time = TimeEmbedding(self.embedding, 1, self.dtype)(time)
        h = self.dense(self.width)(_joined(x, time, condition))
        for _ in range(self.blocks):
            inner = nn.LayerNorm(dtype=self.dtype, param_dtype=float)(drop(self, h, self.dropout))
            h = h + self.dense(self.width)(jax.nn.mish(self.dense(4 * self.width)(inner)))
        return MLP((x[0].size,))(jax.nn.mish(h)).reshape(x.shape)

    def dense(self, size: int) -> nn.Module:
        """A layer of IDQL's initialisation."""
        init = nn.initializers.glorot_uniform()
        return nn.Dense(size, kernel_init=init, dtype=self.dtype, param_dtype=float)


def convolve(x: Array, kernel: Array, strides: Sequence[int], padding: str, **options) -> Array:
    """`[B, T, C]` to `[B, T, channels]`; one product where the kernel is longer than the sequence.

    There XLA's convolution takes a hundred times as long on CPUs.
    """
    taps, length = kernel.shape[0], x.shape[1]
    if length >= taps or padding != "SAME":
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    padded = jnp.pad(x, ((0, 0), ((taps - 1) // 2, taps // 2), (0, 0)))
    seen = [padded[:, tap : tap + length] for tap in range(taps)]
    return jnp.concatenate(seen, -1) @ kernel.reshape(-1, kernel.shape[-1])


class ConvBlock(nn.Module):
    """Convolution over time, group norm, Mish."""

    channels: int
    kernel: int = 5
    groups: int = 8
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, T, C] to [B, T, channels]"""
        options = {"dtype": self.dtype, "param_dtype": float, "conv_general_dilated": convolve}
        x = nn.Conv(self.channels, (self.kernel,), **options)(x)
        norm = nn.GroupNorm(self.groups, epsilon=1e-5, dtype=self.dtype, param_dtype=float)
        return jax.nn.mish(norm(x))


class FiLMBlock(nn.Module):
    """Two convolutions with a skip; the condition scales and shifts channels in between.

    FiLM (Perez et al., 2018) as in Diffusion Policy: scale * x + shift, without adding one.
    """

    channels: int
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> Array:
        """[B, T, C] and [B, F] to [B, T, channels]"""
        h = ConvBlock(self.channels, dtype=self.dtype)(x)
        film = nn.Dense(2 * self.channels, dtype=self.dtype, param_dtype=float, name="film")
        scale, shift = jnp.split(film(jax.nn.mish(condition))[:, None], 2, -1)
        h = ConvBlock(self.channels, dtype=self.dtype)(scale * h + shift)
        if x.shape[-1] != self.channels:
            x = nn.Conv(self.channels, (1,), dtype=self.dtype, param_dtype=float, name="skip")(x)
        return h + x


class UNet(nn.Module):
    """1-D U-Net over the steps of a chunk (Chi et al., 2023; arXiv:2303.04137).

    Each level but the last halves the number of steps, which 2^(levels - 1) must divide. Channels
    are multiples of 8. Not causal: every step of the chunk sees every other.
    """

    channels: Sequence[int] = (256, 512, 1024)  # per level
    embedding: int = 256
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Array, time: Array, condition: Array) -> Array:
        """`x` is `[B, T, A]`."""
        time = TimeEmbedding(self.embedding, 4, self.dtype)(time)
        condition = _joined(time, condition)
        h, skips = x, []
        for level, channels in enumerate(self.channels):
            h = self.twice(h, condition, channels)
            skips.append(h)
            if level < len(self.channels) - 1:
                h = nn.Conv(channels, (3,), 2, dtype=self.dtype, param_dtype=float)(h)
        h = self.twice(h, condition, self.channels[-1])
        for channels in reversed(self.channels[:-1]):
            h = self.twice(jnp.concatenate([h, skips.pop()], -1), condition, channels)
            h = nn.ConvTranspose(channels, (4,), (2,), dtype=self.dtype, param_dtype=float)(h)
        h = ConvBlock(self.channels[0], dtype=self.dtype)(h)
        return nn.Conv(x.shape[-1], (1,), param_dtype=float)(h)

    def twice(self, x: Array, condition: Array, channels: int) -> Array:
        """Two blocks at one resolution."""
        for _ in range(2):
            x = FiLMBlock(channels, self.dtype)(x, condition)
        return x


class TransformerDenoiser(nn.Module):
    """A causal transformer over the time, the condition's tokens and the steps of a chunk.

    What it says of a step depends on no later one. Unlike Diffusion Policy's, which attends from
    the actions to an encoding of the condition, it is one sequence.
    """

    width: int = 256
    layers: int = 8
    heads: int = 4
    dropout: float | Array | None = None
    remat: bool = False
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Array, time: Array, condition: Array) -> Array:
        """`x` is `[B, T, A]`, `condition` `[B, N, C]`."""
        time = TimeEmbedding(self.width, 4, self.dtype)(time)[:, None]
        parts = (time, condition, x)
        tokens = [self.dense(f"embed_{i}")(part) for i, part in enumerate(parts)]
        h = jnp.concatenate(tokens, 1)
        h = h + self.param("position", NORMAL, (1, *h.shape[1:]), float).astype(h.dtype)
        backbone = Backbone(
            partial(Attention, self.heads, dtype=self.dtype),
            self.layers,
            nn.gelu,
            self.dropout,
            self.remat,
            self.dtype,
        )
        h = backbone(h, jnp.ones(h.shape[:2], bool), (-x.shape[1], None))
        return nn.Dense(x.shape[-1], kernel_init=NORMAL, param_dtype=float, name="out")(h)

    def dense(self, name: str) -> nn.Module:
        """A projection to the width of the tokens."""
        return nn.Dense(
            self.width, kernel_init=NORMAL, dtype=self.dtype, param_dtype=float, name=name
        )


def denoiser_torso(
    kind: Literal["unet", "transformer", "residual", "mlp"],
    hidden: Sequence[int],
    embedding: int,
    heads: int,
    dropout: float | Array | None = None,
    dtype: Dtype = None,
) -> nn.Module:
    """A torso by name, of `hidden` channels per level (U-Net) or units per layer.

    Raises:
      UserError: `hidden` is empty, or has sizes that the network cannot divide.
    """
    if not hidden:
        raise UserError("hidden: found no sizes, expected at least one")
    width, depth = hidden[0], len(hidden)
    if kind == "unet":
        if any(channels % 8 for channels in hidden):
            raise UserError(f"hidden: found {hidden}, expected multiples of 8 for a U-Net")
        return UNet(hidden, embedding, dtype)
    if kind == "transformer":
        check_divides("heads", heads, width, "units of hidden")
        return TransformerDenoiser(width, depth, heads, dropout, dtype=dtype)
    if kind == "residual":
        return ResidualDenoiser(width, depth, embedding, dropout, dtype)
    return MLPDenoiser(hidden, embedding, dtype)
