"""Network modules; the only package that imports flax. Agents call `.init` and `.apply` alone."""

from flax.linen import Module

from jaxrl.networks.actors import (
    CategoricalActor,
    DeterministicActor,
    GaussianActor,
    TanhGaussianActor,
)
from jaxrl.networks.critics import Critic, GaussianCritic, Value
from jaxrl.networks.mlp import MLP, Scalar, dummy, encoder

__all__ = [
    "MLP",
    "CategoricalActor",
    "Critic",
    "DeterministicActor",
    "GaussianActor",
    "GaussianCritic",
    "Module",
    "Scalar",
    "TanhGaussianActor",
    "Value",
    "dummy",
    "encoder",
]
