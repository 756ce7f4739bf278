"""Network modules; the only package that imports flax. Agents call `.init` and `.apply` alone."""

from flax.linen import Module

from jaxrl.networks.actors import CategoricalActor, GaussianActor, TanhGaussianActor
from jaxrl.networks.critics import Critic, Value
from jaxrl.networks.mlp import MLP, Scalar, dummy, encoder

__all__ = [
    "MLP",
    "CategoricalActor",
    "Critic",
    "GaussianActor",
    "Module",
    "Scalar",
    "TanhGaussianActor",
    "Value",
    "dummy",
    "encoder",
]
