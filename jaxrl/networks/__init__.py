"""Network modules; the only package that imports flax. Agents call `.init` and `.apply` alone."""

from flax.linen import Module

from jaxrl.networks.actors import (
    CategoricalActor,
    DeterministicActor,
    GaussianActor,
    TanhGaussianActor,
)
from jaxrl.networks.critics import Critic, GaussianCritic, Value
from jaxrl.networks.denoisers import (
    Denoiser,
    MLPDenoiser,
    ResidualDenoiser,
    TransformerDenoiser,
    UNet,
    denoiser_torso,
)
from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.mamba import Mamba, decayed
from jaxrl.networks.mlp import MLP, Scalar, dummy, encoder
from jaxrl.networks.trajectory import TrajectoryModel
from jaxrl.networks.transformer import Attention, Backbone, Block

__all__ = [
    "MLP",
    "Attention",
    "Backbone",
    "Block",
    "CategoricalActor",
    "Critic",
    "Denoiser",
    "DeterministicActor",
    "GaussianActor",
    "GaussianCritic",
    "MLPDenoiser",
    "Mamba",
    "Module",
    "ResidualDenoiser",
    "Scalar",
    "TanhGaussianActor",
    "TrajectoryModel",
    "TransformerDenoiser",
    "UNet",
    "Value",
    "decayed",
    "denoiser_torso",
    "dummy",
    "encoder",
    "orthogonal",
]
