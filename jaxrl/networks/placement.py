"""How sequence networks want to be laid out over a mesh; no other network says anything of one."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrl.types import Array

MIN_ROWS = 16  # a smaller shard is below the tile of a TPU's memory

_activations: ContextVar[NamedSharding | None] = ContextVar("activations", default=None)


def rows(x: Array) -> Array:
    """`x` `[B, ...]`, pinned to be split along its batch where a mesh has been set for the trace.

    Without it the compiler gathers the activations of a model with sharded parameters, many times
    their bytes, instead of the parameters. Networks call it at the entry of each block.
    """
    sharding = _activations.get()
    return x if sharding is None else jax.lax.with_sharding_constraint(x, sharding)


@contextlib.contextmanager
def activations(sharding: NamedSharding | None) -> Iterator[None]:
    """Set what `rows` does in functions traced inside."""
    token = _activations.set(sharding)
    try:
        yield
    finally:
        _activations.reset(token)


def trailing(*axes: str) -> Callable[[tuple[int, ...], Mesh], P]:
    """A rule that splits the last axes of an array over the mesh axes of these names.

    What is before them, such as an axis of layers or seeds, stays whole, and so does an axis whose
    shards would be unequal or have fewer than `MIN_ROWS` rows.
    """

    def rule(shape: tuple[int, ...], mesh: Mesh) -> P:
        def fits(size: int, n: int) -> bool:
            return n > 1 and size % n == 0 and size // n >= MIN_ROWS

        sizes = shape[len(shape) - len(axes) :]
        names = [a if fits(s, mesh.shape[a]) else None for s, a in zip(sizes, axes, strict=True)]
        return P(*[None] * (len(shape) - len(axes)), *names)

    return rule


# Into a block's hidden units and out of them again, so that `tensor` needs one reduction for both.
SEQUENCE_RULES = (
    (r"blocks?/.*\b(qkv|in|up)/kernel$", trailing("fsdp", "tensor")),
    (r"blocks?/.*\b(out|down)/kernel$", trailing("tensor", "fsdp")),
)
