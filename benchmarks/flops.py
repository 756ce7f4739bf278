"""Floating-point operations of matrix products and convolutions, counted on the jaxpr.

That is the useful work of a program: independent of device, compiler and sharding, and exact for
loops of known length, which a compiler's own count takes for one iteration.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def count(function: Callable, *args: Any, taken: float = 1.0) -> float:
    """Operations of `function(*args)`, two per multiply-add.

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
    return equation.params.get("length", 1) * sum(inner) if name == "scan" else sum(inner)


def _dot(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)


def _convolution(equation: Any) -> float:
    kernel = equation.invars[1].aval.shape  # of which each output value uses one feature's part
    features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / features


def _inner(equation: Any) -> Iterator[Any]:
    """The jaxprs among a primitive's parameters."""
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            item = getattr(item, "jaxpr", item)  # a closed jaxpr holds one
            if hasattr(item, "eqns"):
                yield item
