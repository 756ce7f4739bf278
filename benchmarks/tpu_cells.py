"""What `benchmarks.tpu` compiles: updates of every agent, whole loops, and models that fill slices.

Batches, environments, seeds and critics are given per chip, so that a slice of another size does
the same work on more of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any, Literal

from jax.sharding import Mesh

from benchmarks import tpu_models as models
from benchmarks.cases import SPEC
from benchmarks.tpu_programs import (
    Program,
    blocks,
    loop,
    transitions,
    update,
    update_of_seeds,
    windows,
)
from jaxrl import envs
from jaxrl.agents import (
    bc,
    cql,
    decision_transformer,
    diffusion_policy,
    diffusion_ql,
    dsac,
    idql,
    iql,
    ppo,
    sac,
    sac_discrete,
    td3_bc,
)
from jaxrl.loops import off_policy, offline, on_policy
from jaxrl.types import PyTree, Spec

Precision = Literal["float32", "tensorfloat32", "bfloat16"]
Shapes = Callable[[Spec, int], PyTree]  # of a batch of so many
PENDULUM = "jaxrl/Pendulum-v1"


@dataclass(frozen=True)
class Workload:
    """A program for any mesh."""

    build: Callable[[Mesh, int, str | None], Program]  # mesh, number per chip, computation dtype
    per_chip: int  # of `unit`
    unit: str
    fills: Literal["batch", "seeds", "ensemble"] = "batch"  # what grows with the chips
    fsdp: int = 1  # chips that share the parameters of a model
    precision: Precision = "float32"
    group: str = "all"


def one_model(
    module: ModuleType, config: Any, shapes: Shapes, mesh: Mesh, n: int, dtype: str | None
) -> Program:
    """An update with `n` per chip."""
    agent = module.make(SPEC, replace(config, dtype=dtype))
    return update(agent, shapes(SPEC, n * mesh.size), mesh)


def discrete(mesh: Mesh, n: int, dtype: str | None) -> Program:
    """An update of SAC for discrete actions."""
    spec = Spec.categorical(17, 6)
    agent = sac_discrete.make(spec, sac_discrete.Config(dtype=dtype))
    return update(agent, transitions(spec, n * mesh.size), mesh)


def proximal(mesh: Mesh, n: int, dtype: str | None, steps: int = 256, **settings: Any) -> Program:
    """All epochs of PPO over rollouts of `steps` in `n` environments per chip."""
    config = ppo.Config(blocks=blocks(n * mesh.size), dtype=dtype, **settings)
    return update(ppo.make(SPEC, config), transitions(SPEC, steps, n * mesh.size), mesh)


def seed_each(mesh: Mesh, n: int, dtype: str | None, **settings: Any) -> Program:
    """A seed of SAC per chip, each with a batch of `n`."""
    agent = sac.make(SPEC, sac.Config(dtype=dtype, **settings))
    return update_of_seeds(agent, transitions(SPEC, n), mesh)


def model_per_group(mesh: Mesh, n: int, dtype: str | None) -> Program:
    """A decision transformer of 350M parameters per group of chips that share its parameters."""
    agent = decision_transformer.make(SPEC, replace(models.DT_350M, dtype=dtype))
    fsdp = mesh.shape["fsdp"]
    return update_of_seeds(agent, windows(SPEC, n * fsdp), mesh, fsdp)


def sac_loop(mesh: Mesh, n: int, dtype: str | None, seeds: bool = False) -> Program:
    """SAC on the pendulum, an update an iteration: over all chips, or a seed of its own on each."""
    env, chips = envs.make(PENDULUM), 1 if seeds else mesh.size
    size = n * chips
    sizes = off_policy.Config(
        envs=size, batch_size=256 * chips, warmup=256 * chips, updates_per_step=1 / size
    )
    agent = sac.make(env.spec, sac.Config(dtype=dtype))
    one = off_policy.make(agent, env, sizes, blocks(size))
    return loop(one, mesh, n * mesh.size, mesh.size if seeds else 0)


def ppo_loop(steps: int, minibatches: int, mesh: Mesh, n: int, dtype: str | None) -> Program:
    """PPO on the pendulum: a rollout of `steps` and four epochs an iteration."""
    env, size = envs.make(PENDULUM), n * mesh.size
    config = ppo.Config(epochs=4, minibatches=minibatches, blocks=blocks(size), dtype=dtype)
    sizes = on_policy.Config(envs=size, steps=steps)
    one = on_policy.make(ppo.make(env.spec, config), env, sizes, config.blocks)
    return loop(one, mesh, size * steps)


def iql_loop(mesh: Mesh, n: int, dtype: str | None) -> Program:
    """IQL on a million transitions, drawn and learned from on the device."""
    size = n * mesh.size
    data = models.dataset(SPEC, blocks(size))
    one = offline.make(iql.make(SPEC, iql.Config(dtype=dtype)), data, offline.Config(size))
    return loop(one, mesh, size)


FLAT = (sac, dsac, bc, td3_bc, cql, iql, diffusion_ql, idql)  # learn from transitions `[B]`
UPDATES = {
    module.__name__.rpartition(".")[2]: Workload(
        partial(one_model, module, module.Config(), transitions), 256, "transitions"
    )
    for module in FLAT
} | {
    "sac_discrete": Workload(discrete, 256, "transitions"),
    "ppo": Workload(proximal, 64, "environments"),
    "decision_transformer": Workload(
        partial(one_model, decision_transformer, decision_transformer.Config(), windows),
        64,
        "windows",
    ),
    "decision_mamba": Workload(
        partial(one_model, decision_transformer, models.MAMBA, windows), 64, "windows"
    ),
    "diffusion_policy": Workload(
        partial(one_model, diffusion_policy, diffusion_policy.Config(), models.chunks),
        256,
        "chunks",
    ),
}
LOOPS = {
    "sac_loop": Workload(sac_loop, 8, "environments", group="loops"),
    "sac_seeds_loop": Workload(
        partial(sac_loop, seeds=True), 8, "environments", "seeds", group="loops"
    ),
    "ppo_loop": Workload(partial(ppo_loop, 16, 32), 256, "environments", group="loops"),
    "ppo_long_loop": Workload(partial(ppo_loop, 128, 4), 256, "environments", group="loops"),
    "iql_loop": Workload(iql_loop, 256, "transitions", group="loops"),
}
LARGE = {
    "sac_seeds": Workload(seed_each, 256, "transitions", "seeds", group="large"),
    "iql_ensemble": Workload(models.many_critics, 8, "critics", "ensemble", group="large"),
    "decision_transformer_350m": Workload(
        partial(one_model, decision_transformer, models.DT_350M, windows),
        64,
        "windows",
        fsdp=8,
        precision="bfloat16",
        group="large",
    ),
    "decision_transformer_1b3": Workload(
        partial(one_model, decision_transformer, models.DT_1B3, windows),
        64,
        "windows",
        fsdp=16,
        precision="bfloat16",
        group="large",
    ),
    "diffusion_transformer_300m": Workload(
        models.diffusion_transformer, 256, "chunks", fsdp=8, precision="bfloat16", group="large"
    ),
    "decision_transformer_350m_seeds": Workload(
        model_per_group, 64, "windows", "seeds", fsdp=8, precision="bfloat16", group="large"
    ),
}
SMALL = {  # one of each kind, which compile in seconds
    "small_sac_seeds": Workload(
        partial(seed_each, hidden=(128, 128)), 64, "transitions", "seeds", group="small"
    ),
    "small_ppo": Workload(
        partial(proximal, steps=8, epochs=2, minibatches=2), 32, "environments", group="small"
    ),
    "small_decision_transformer": Workload(
        partial(one_model, decision_transformer, models.DT_SMALL, windows),
        8,
        "windows",
        fsdp=4,
        group="small",
    ),
}
WORKLOADS = UPDATES | LOOPS | LARGE | SMALL
# Every agent's update, training loops, what fills slices, and what the tests compile.
GROUPS = ("all", "loops", "large", "small")
