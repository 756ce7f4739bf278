"""Floating-point operations of matrix products and convolutions, counted on the jaxpr.

That is the useful work of a program: independent of device, compiler and sharding, and exact for
loops of known length, which a compiler's own count takes for one iteration.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np


def count(function: Callable, *args: Any, taken: float = 1.0) -> float:
    """Operations of `function(*args)` on all devices together, two per multiply-add.

    Args:
      taken: how often a `cond` takes its dearest branch rather than its cheapest.

    Raises:
      ValueError: a `while` of unknown length holds a product.
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr, taken)


def _of_jaxpr(jaxpr: Any, taken: float) -> float:
    return sum(_of_equation(equation, taken) for equation in jaxpr.eqns)


def _of_equation(equation: Any, taken: float) -> float:
    """Operations of one primitive, and of the jaxprs inside it."""
    name = equation.primitive.name
    if name == "dot_general":
        return _dot(equation)
    if name == "conv_general_dilated":
        return _convolution(equation)
    inner = [_of_jaxpr(jaxpr, taken) for jaxpr in _inner(equation)]
    if name == "cond":
        return taken * max(inner) + (1 - taken) * min(inner)
    if name == "while" and any(inner):
        raise ValueError("a while loop of unknown length holds a product; write it as a scan")
    return _times(equation) * sum(inner)


def _times(equation: Any) -> int:
    """How often a primitive runs what is inside it: per iteration, or on every device."""
    if equation.primitive.name == "scan":
        return equation.params["length"]
    return equation.params["mesh"].size if equation.primitive.name == "shard_map" else 1


def _dot(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)


def _convolution(equation: Any) -> float:
    image, kernel = (x.aval.shape for x in equation.invars)
    out, parameters = equation.outvars[0].aval.shape, equation.params
    numbers = parameters["dimension_numbers"]
    products = out[numbers.out_spec[0]] * out[numbers.out_spec[1]] * kernel[numbers.rhs_spec[1]]
    windows = zip(
        [image[i] for i in numbers.lhs_spec[2:]],
        [out[i] for i in numbers.out_spec[2:]],
        [kernel[i] for i in numbers.rhs_spec[2:]],
        parameters["window_strides"],
        [low for low, _ in parameters["padding"]],
        parameters["lhs_dilation"],
        parameters["rhs_dilation"],
        strict=True,
    )
    return 2.0 * products * math.prod(taps(*window) for window in windows)


@functools.cache
def taps(
    inputs: int, outputs: int, size: int, stride: int, pad: int, holes: int, spacing: int
) -> int:
    """Products along one dimension of a convolution: neither with padding nor with holes.

    Args:
      pad: zeros before the first input.
      holes: distance at which inputs are spread, with zeros in between (`lhs_dilation`).
      spacing: distance between the taps of the window (`rhs_dilation`).
    """
    at = np.arange(outputs) * stride - pad
    total = 0
    for tap in range(size):
        place = at + tap * spacing
        total += ((place >= 0) & (place <= (inputs - 1) * holes) & (place % holes == 0)).sum()
    return int(total)


def _inner(equation: Any) -> Iterator[Any]:
    """The jaxprs among a primitive's parameters."""
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            item = getattr(item, "jaxpr", item)  # a closed jaxpr holds one
            if hasattr(item, "eqns"):
                yield item
