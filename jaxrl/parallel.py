"""Meshes and seeds as functions from agents (or loops) to agents (or loops)."""

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrl.errors import UserError
from jaxrl.networks.placement import MIN_ROWS, SEQUENCE_RULES, activations
from jaxrl.types import Agent, Array, PyTree, Segment

How = Literal["auto", "map", "vmap"]
Rule = P | Callable[[tuple[int, ...], Mesh], P]
Rules = Sequence[tuple[str, Rule]]
Seedable = TypeVar("Seedable")

MESH_VARIABLE = "JAXRL_MESH"
BATCH = ("data", "fsdp")  # the mesh axes that split whatever has a batch axis


@dataclass(frozen=True)
class MeshConfig:
    """Devices per mesh axis; `data` 0 takes all that `fsdp` and `tensor` leave."""

    data: int = 0
    fsdp: int = 1
    tensor: int = 1


def mesh_of_environment() -> MeshConfig:
    """The mesh that the variable `JAXRL_MESH` asks for: `data,fsdp,tensor`, as in `4,2,1`.

    Raises:
      UserError: it holds anything else.
    """
    text = os.environ.get(MESH_VARIABLE, "")
    if not text:
        return MeshConfig()
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
        raise UserError(f"{MESH_VARIABLE}: found {text!r}, expected data,fsdp,tensor such as 4,2,1")
    return MeshConfig(*map(int, parts))


def make_mesh(config: MeshConfig = MeshConfig(), devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with axes data, fsdp and tensor; one device is the mesh (1, 1, 1).

    Raises:
      UserError: the axes ask for more devices than there are, or do not divide them.
    """
    devices = list(devices if devices is not None else jax.devices())
    inner = config.fsdp * config.tensor
    if min(config.data, config.fsdp - 1, config.tensor - 1) < 0:
        raise UserError(
            f"mesh: found {config}, expected fsdp and tensor at least 1, data at least 0"
        )
    shape = (config.data or -(-len(devices) // inner), config.fsdp, config.tensor)
    size = shape[0] * inner
    if size > len(devices):
        raise UserError(f"mesh {shape} needs {size} devices; there are {len(devices)}")
    axis_types, names = (AxisType.Auto,) * 3, ("data", "fsdp", "tensor")
    try:
        return jax.make_mesh(shape, names, axis_types, devices=devices[:size])
    except NotImplementedError:  # rings of that many chips do not fit the slice
        kind = devices[0].device_kind
        raise UserError(
            f"mesh {shape} cannot be laid over {size} {kind} devices; expected axes whose sizes "
            "are products of the slice's own"
        ) from None


def largest_dimension(shape: tuple[int, ...], mesh: Mesh) -> P:
    """Split the largest dimension over fsdp where every shard keeps at least `MIN_ROWS` rows."""
    n = mesh.shape["fsdp"]
    wide = [(size, axis) for axis, size in enumerate(shape) if size % n == 0]
    size, axis = max(wide, default=(0, 0))
    return P(*[None] * axis, "fsdp") if n > 1 and size // n >= MIN_ROWS else P()


def split_axis(axis: int) -> Rule:
    """A rule that splits this axis over all batch axes of the mesh, where an array has it."""

    def rule(shape: tuple[int, ...], mesh: Mesh) -> P:
        n = mesh.shape["data"] * mesh.shape["fsdp"]
        if len(shape) <= axis:
            return P()
        if shape[axis] % n:
            raise UserError(
                f"mesh: {n} devices along data and fsdp do not divide an axis of {shape[axis]}; "
                "the run's --blocks must be a multiple of them"
            )
        return P(*[None] * axis, BATCH)

    return rule


PARAMETERS: Rules = (*SEQUENCE_RULES, (r".*", largest_dimension))
DEFAULT_RULES: Rules = ((r"^(env|replay|dataset)/", split_axis(0)), *PARAMETERS)
SEED_AXIS: Rules = ((r".*", split_axis(0)),)  # a seed or more per device: no gradient traffic


def run_rules(mesh: Mesh, num_seeds: int) -> Rules:
    """Rules for a run with an axis of seeds: seeds fill the mesh where they can, else blocks."""
    if num_seeds % (mesh.shape["data"] * mesh.shape["fsdp"]) == 0:
        return SEED_AXIS
    shared = (r"^dataset/", split_axis(0))  # by all seeds, so without their axis
    return (shared, (r"^(env|replay)/", split_axis(1)), *PARAMETERS)


def place(tree: PyTree, mesh: Mesh, rules: Rules = DEFAULT_RULES) -> PyTree:
    """A `NamedSharding` for every leaf, by the first rule whose pattern matches its path.

    Paths read `state/actor/params/...`, without brackets or dots.
    """

    def leaf(path: tuple, x: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rule = next((rule for pattern, rule in rules if re.search(pattern, name)), P())
        if name.endswith("step"):
            rule = P()
        return NamedSharding(mesh, rule(jnp.shape(x), mesh) if callable(rule) else rule)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def constrain(tree: PyTree, mesh: Mesh, rules: Rules) -> PyTree:
    """Pin every leaf of a traced tree to where the rules put it."""
    return jax.lax.with_sharding_constraint(tree, place(tree, mesh, rules))


def place_data(data: PyTree, mesh: Mesh, rules: Rules) -> PyTree:
    """Move data that all seeds share: its blocks split, or a copy each where seeds are split.

    Every process holds the same data and hands over what its devices are to have of it.
    """
    uncut: Rules = ((r".*", P()),)
    named = {"dataset": data}
    placement = place(named, mesh, uncut if rules is SEED_AXIS else rules)
    return jax.tree.map(_put, named, placement)["dataset"]


def _put(x: Any, sharding: NamedSharding) -> Array:
    if sharding.is_fully_addressable:
        return jax.device_put(x, sharding)
    local = np.asarray(x)
    return jax.make_array_from_callback(local.shape, sharding, lambda index: local[index])


def global_batch(batch: PyTree, mesh: Mesh) -> PyTree:
    """One batch `[B]` over the mesh from the rows `[B / processes]` that each process has."""
    sharding = NamedSharding(mesh, P(BATCH))
    put = partial(jax.make_array_from_process_local_data, sharding)
    return jax.tree.map(put, batch)


def everywhere(make: Callable[[], PyTree], mesh: Mesh) -> PyTree:
    """`make()` as every device of the mesh holds it, where the mesh spans processes."""
    if jax.process_count() == 1:
        return make()
    return jax.jit(make, out_shardings=NamedSharding(mesh, P()))()


def whole(tree: PyTree) -> PyTree:
    """The tree with what other processes hold of it; all of them must ask."""
    held: list[Any] = [x for x in jax.tree.leaves(tree) if isinstance(x, jax.Array)]
    apart = [x for x in held if not x.is_fully_addressable]
    if not apart:
        return tree
    replicated = NamedSharding(apart[0].sharding.mesh, P())
    return jax.tree.map(np.asarray, jax.jit(lambda x: x, out_shardings=replicated)(tree))


def batch_rules(batch: PyTree, mesh: Mesh, rules: Rules, axes: tuple[str, ...] = BATCH) -> Rules:
    """Where a batch is split: on its `[B]` axis, or on the seeds where those fill the mesh.

    Raises:
      UserError: the mesh does not divide the batch; names the nearest sizes that work.
    """
    reward = batch.reward
    axis = 0 if rules is SEED_AXIS else reward.ndim - (2 if isinstance(batch, Segment) else 1)
    n, size = math.prod(mesh.shape[name] for name in axes), reward.shape[axis]
    if size % n:
        near = sorted({max(n, size - size % n), size - size % n + n})
        raise UserError(f"a batch of {size} cannot be split over {n} devices; try {near}")
    return ((r".*", P(*[None] * axis, axes)),)


def batch_sharding(mesh: Mesh, rules: Rules, axes: tuple[str, ...] = BATCH) -> NamedSharding | None:
    """Where activations `[B, ...]` of a batch are split; None where seeds use the mesh."""
    return None if rules is SEED_AXIS else NamedSharding(mesh, P(axes))


def shard(
    agent: Agent,
    mesh: Mesh,
    rules: Rules = DEFAULT_RULES,
    donate: bool = False,
    axes: tuple[str, ...] = BATCH,
) -> Agent:
    """The same agent with its state laid out over `mesh` and its batches split along `[B]`.

    Placement is pinned inside the traced functions, so they compose with `jit`, `scan` and
    `seeds`. A donated state is deleted by the update that consumes it.

    Args:
      axes: of the mesh that split a batch. `("fsdp",)` leaves `data` to `seeds(..., axis="data")`.
    """

    @jax.jit
    def init(key):
        return constrain(agent.init(key), mesh, rules)

    def update(state, batch, key):
        batch = constrain(batch, mesh, batch_rules(batch, mesh, rules, axes))
        with activations(batch_sharding(mesh, rules, axes)):
            state, metrics = agent.update(constrain(state, mesh, rules), batch, key)
        return constrain(state, mesh, rules), metrics

    return Agent(init, jax.jit(update, donate_argnums=(0,) if donate else ()), agent.act)


def how_seeds(how: How, mesh: Mesh | None = None) -> Literal["map", "vmap"]:
    """`map` on a single CPU device, where seeds in turn are cheaper; `vmap` everywhere else."""
    if how != "auto":
        return how
    devices = list(mesh.devices.flat) if mesh is not None else jax.local_devices()[:1]
    return "map" if len(devices) == 1 and devices[0].platform == "cpu" else "vmap"


def seed_axes(tree: PyTree) -> PyTree:
    """`vmap` axes of a state or a run: 0 for every leaf but `step`, which all seeds share.

    A batched step would turn every `cond` on it into a `select` that pays for both branches.
    """
    axes = {name: None if name == "step" else 0 for name in tree._fields}
    if "state" in axes:
        axes["state"] = seed_axes(tree.state)
    return type(tree)(**axes)


def seeds(agent: Agent, n: int, how: How = "auto", axis: str | None = None) -> Agent:
    """`n` independent copies of an agent as one: keys, batches and metrics gain an axis `[n]`.

    Every leaf of the state but `step` gains it too. `act` is batched likewise. For loops there is
    `jaxrl.loops.seeds`.

    Args:
      axis: of the mesh that splits the seeds at once of an agent that is itself laid out over the
        others: `seeds(shard(agent, mesh, axes=("fsdp",)), n, axis="data")`.
    """
    in_turn = axis is None and how_seeds(how) == "map"
    update = _map_seeds(agent.update) if in_turn else _vmap_seeds(agent.update, axis)

    def init(keys):
        state = jax.vmap(agent.init, spmd_axis_name=axis)(_seed_keys(keys, n))
        return state._replace(step=state.step[0])

    def act(state, obs, key=None):
        keys = () if key is None else (key,)
        return jax.vmap(agent.act, (seed_axes(state), 0) + (0,) * len(keys))(state, obs, *keys)

    return Agent(init, update, act)


def _seed_keys(keys, n: int):
    if keys.shape != (n,):
        raise UserError(f"keys: found shape {keys.shape}, expected one key per seed, ({n},)")
    return keys


def _vmap_seeds(update: Callable, axis: str | None) -> Callable:
    def mapped(state, batch, keys):
        axes = seed_axes(state)
        many = jax.vmap(update, (axes, 0, 0), (axes, 0), spmd_axis_name=axis)
        return many(state, batch, keys)

    return mapped


def _map_seeds(update: Callable) -> Callable:
    def mapped(state, batch, keys):
        def one(x):
            return update(x[0]._replace(step=state.step), *x[1:])

        new, metrics = jax.lax.map(one, (state._replace(step=None), batch, keys))
        return new._replace(step=new.step[0]), metrics

    return mapped


def start(config: MeshConfig = MeshConfig()) -> Mesh:
    """The run's mesh, over the devices of all its processes.

    Raises:
      UserError: as `make_mesh`, or the mesh leaves out a process.
    """
    mesh = make_mesh(config)
    found = {device.process_index for device in mesh.devices.flat}
    if len(found) < jax.process_count():
        raise UserError(
            f"mesh {tuple(mesh.shape.values())} uses {mesh.size} of {jax.device_count()} devices, "
            f"those of {len(found)} of {jax.process_count()} processes; expected some of each"
        )
    return mesh
