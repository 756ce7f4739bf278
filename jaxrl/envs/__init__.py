"""Environments as pure functions, and adapters; no third-party library is imported until used."""

from jaxrl.envs.base import Env, TimeStep, auto_reset
from jaxrl.envs.gymnasium import HostEnv, HostStep
from jaxrl.envs.registry import make, success_return

__all__ = ["Env", "HostEnv", "HostStep", "TimeStep", "auto_reset", "make", "success_return"]
