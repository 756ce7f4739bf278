"""Agents and loops over a mesh, ready to be compiled for it, and what one step of them is.

Arrays are described and never made, so the devices of the mesh need not exist.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrl import loops, parallel
from jaxrl.loops import Loop
from jaxrl.parallel import DEFAULT_RULES, SEED_AXIS, Rules
from jaxrl.types import Agent, Key, PyTree, Segment, Spec, Transition

ITERATIONS = 1_000  # of a loop in one program, as between reports


class Program(NamedTuple):
    """A function on a mesh, and the same work on none."""

    jitted: Any
    args: tuple  # shapes and where they are
    plain: Callable  # one step
    plain_args: tuple  # shapes
    samples: int  # per step, on all chips together
    steps: int = 1  # in one run of the program


def array(s: jax.ShapeDtypeStruct, *axes: int) -> jax.ShapeDtypeStruct:
    """The shape `s` behind some axes, in the type that arrays of it have."""
    return jax.ShapeDtypeStruct((*axes, *s.shape), jax.dtypes.canonicalize_dtype(s.dtype))


def transitions(spec: Spec, *axes: int) -> Transition:
    """Shapes of a batch `[B]`, or of a rollout `[T, B]`."""
    obs = jax.tree.map(lambda s: array(s, *axes), spec.obs)
    number, flag = (array(jax.ShapeDtypeStruct((), dtype), *axes) for dtype in (float, bool))
    return Transition(obs, array(spec.action, *axes), number, number, obs, flag)


def windows(spec: Spec, size: int, length: int = 20) -> Segment:
    """Shapes of windows `[size, length]`."""
    return jax.eval_shape(partial(Segment.empty, spec, size, length))


def keys(n: int = 0) -> Key:
    """The shape of a key, or of one for each of `n` seeds."""
    return jax.eval_shape(
        lambda: jax.random.split(jax.random.key(0), n) if n else jax.random.key(0)
    )


def placed(tree: PyTree, mesh: Mesh, rules: Rules) -> PyTree:
    """Shapes with their placement by `rules`."""

    def leaf(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(leaf, tree, parallel.place(tree, mesh, rules))


def update(agent: Agent, batch: PyTree, mesh: Mesh, rules: Rules = DEFAULT_RULES) -> Program:
    """An update of one model by all chips."""
    sharded = parallel.shard(agent, mesh, rules, donate=True)
    state = jax.eval_shape(agent.init, keys())
    where = parallel.batch_rules(batch, mesh, rules)
    args = placed(state, mesh, rules), placed(batch, mesh, where), placed(keys(), mesh, ())
    return Program(sharded.update, args, agent.update, (state, batch, keys()), batch.reward.size)


def update_of_seeds(agent: Agent, batch: PyTree, mesh: Mesh, fsdp: int = 1) -> Program:
    """Updates of as many models as there are groups of `fsdp` chips, each with a batch `[B]`."""
    n = mesh.size // fsdp
    many = parallel.seeds(agent, n, "vmap")
    state, key = jax.eval_shape(many.init, keys(n)), keys(n)
    batch = jax.tree.map(lambda x: array(x, n), batch)
    if fsdp == 1:
        jitted = parallel.shard(many, mesh, SEED_AXIS, donate=True).update
        args = tuple(placed(tree, mesh, SEED_AXIS) for tree in (state, batch, key))
    else:
        each = parallel.shard(agent, mesh, axes=("fsdp",))
        jitted = jax.jit(parallel.seeds(each, n, axis="data").update, donate_argnums=0)
        rules = tuple((text, partial(_behind_seeds, rule)) for text, rule in parallel.PARAMETERS)
        of_batch, of_keys = (((r".*", P(*axes)),) for axes in (("data", "fsdp"), ("data",)))
        args = placed(state, mesh, rules), placed(batch, mesh, of_batch), placed(key, mesh, of_keys)
    return Program(jitted, args, many.update, (state, batch, key), batch.reward.size)


def _behind_seeds(rule: Callable, shape: tuple[int, ...], mesh: Mesh) -> P:
    return P("data", *rule(shape[1:], mesh))


def loop(one: Loop, mesh: Mesh, samples: int, seeds: int = 0) -> Program:
    """Iterations of a whole loop, of one seed by all chips or of a seed per chip.

    Args:
      samples: per iteration, of all seeds together.
    """
    plain = loops.seeds(one, seeds, "vmap") if seeds else one
    rules = SEED_AXIS if seeds else DEFAULT_RULES
    jitted = loops.shard(plain._replace(data=()), mesh, rules).advance
    key = keys(seeds)
    run, data = jax.eval_shape(plain.begin, key), plain.data
    of_data = () if seeds else DEFAULT_RULES
    there = placed({"dataset": data}, mesh, of_data)["dataset"]
    args = placed(run, mesh, rules), placed(key, mesh, rules if seeds else ()), ITERATIONS, there
    return Program(jitted, args, plain.step, (run, key, *data), samples, ITERATIONS)


def blocks(size: int) -> int:
    """Fixed blocks of a run of `size` environments or samples: a power of two, at most 256."""
    return math.gcd(size, 256)


def numbers(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """The shape of an array."""
    return jax.ShapeDtypeStruct(shape, dtype)
