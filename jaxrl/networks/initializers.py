"""How kernels start."""

from collections.abc import Callable
from functools import partial

import jax

from jaxrl.types import Array, Key


def orthogonal(scale: float | Array = 1.0) -> Callable[..., Array]:
    """Orthogonal rows or columns times `scale`; those of several seeds or critics in turn on CPUs.

    A factorisation of a stack of matrices splits it over the threads that it runs on itself, and as
    many stacks as there are cores wait for one another for ever (jaxlib 0.10).
    """
    draw = jax.nn.initializers.orthogonal(scale)

    def init(key: Key, shape: tuple[int, ...], dtype=float) -> Array:
        def of_data(data: Array) -> Array:
            return draw(jax.random.wrap_key_data(data, impl=jax.random.key_impl(key)), shape, dtype)

        one = jax.custom_batching.custom_vmap(of_data)

        @one.def_vmap
        def many(size: int, batched: list[bool], data: Array) -> tuple[Array, bool]:
            del size, batched  # the only argument is
            in_turn, at_once = partial(jax.lax.map, one), jax.vmap(of_data)
            return jax.lax.platform_dependent(data, cpu=in_turn, default=at_once), True

        return one(jax.random.key_data(key))  # data, since a scan over keys is taken for reuse

    return init
