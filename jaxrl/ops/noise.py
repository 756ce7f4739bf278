"""Random numbers, drawn so that CPUs are quick about it."""

import math
from typing import Any

import jax
from jax import Array


def normal(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Standard normal numbers, the same bits as `jax.random.normal`.

    They are drawn along one axis: XLA on CPUs works on several numbers at once along the last axis
    only, and that of actions is short.
    """
    return jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)
