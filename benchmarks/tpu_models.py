"""Models and data large enough to fill slices of TPUs."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from benchmarks.cases import SPEC
from benchmarks.tpu_programs import Program, numbers, transitions, update, windows
from jaxrl import networks as nets
from jaxrl import parallel
from jaxrl.agents import decision_transformer, diffusion_policy, iql
from jaxrl.data.dataset import Dataset, Steps
from jaxrl.types import Array, Key, Params, PyTree, Spec

MAMBA = decision_transformer.Config(backbone="mamba")
DT_SMALL = decision_transformer.Config(width=128, heads=2, layers=2)
DT_350M = decision_transformer.Config(width=1024, layers=28, heads=16, remat=True)
DT_1B3 = decision_transformer.Config(width=2048, layers=26, heads=16, remat=True)
HELD = 2**20  # rows of a dataset
ROWS = 4096  # transitions that a large ensemble learns from

chunks = partial(windows, length=16)


def dataset(spec: Spec, blocks: int) -> Dataset:
    """Shapes of a million rows in blocks."""
    rows = HELD // blocks
    held = transitions(spec, blocks, rows)
    steps = Steps(held.obs, held.action, held.reward, held.discount, held.last)
    valid, count = numbers(blocks, rows, dtype=jnp.int32), numbers(blocks, dtype=jnp.int32)
    return Dataset(steps, valid, count)


def diffusion_transformer(mesh: Mesh, n: int, dtype: str | None) -> Program:
    """Diffusion Policy with a transformer of 300M parameters, `n` chunks per chip."""
    config = diffusion_policy.Config()
    torso = nets.TransformerDenoiser(1024, 24, 16, remat=True, dtype=dtype)
    denoiser = nets.Denoiser(nets.encoder(SPEC), torso)
    networks = diffusion_policy.Networks(denoiser, diffusion_policy.build_process(config))
    agent = diffusion_policy.make(SPEC, config, networks)
    return update(agent, chunks(SPEC, n * mesh.size), mesh)


class Ensemble:
    """Critics whose parameters are stacked, `[E, ...]`, so that they can be split over devices."""

    def __init__(self, critic: Any, size: int):
        self.critic, self.size = critic, size  # an ensemble of one, and how many of it

    def init(self, key: Key, *inputs: PyTree) -> Params:
        """Parameters of all."""
        keys = jax.random.split(key, self.size)
        return jax.vmap(self.critic.init, (0, *[None] * len(inputs)))(keys, *inputs)

    def apply(self, params: Params, *inputs: PyTree) -> Array:
        """Values. [E, B]"""
        return jax.vmap(self.critic.apply, (0, *[None] * len(inputs)))(params, *inputs)[:, 0]


def many_critics(mesh: Mesh, n: int, dtype: str | None) -> Program:
    """IQL with `n` critics per chip and a batch that is split for all else."""
    networks = iql.build(SPEC, iql.Config(critics=1, dtype=dtype))
    networks = networks._replace(critic=Ensemble(networks.critic, n * mesh.size))
    agent = iql.make(SPEC, iql.Config(), networks)
    rules = (r"^(critic|target)/", parallel.split_axis(0)), (r".*", jax.sharding.PartitionSpec())
    return update(agent, transitions(SPEC, ROWS), mesh, rules)
