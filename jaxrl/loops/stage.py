"""Host environments of several seeds, and where the runs that play them stand: for host loops."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.gymnasium import HostEnv, HostStep
from jaxrl.loops.acting import RESET
from jaxrl.loops.loop import Loop, Run
from jaxrl.types import Array, Key, Metrics, PyTree


class Hosted(NamedTuple):
    """What a run remembers of host environments between two steps."""

    snapshot: PyTree  # of the host, numpy arrays [N, ...]
    obs: PyTree  # [N, *obs_shape] on the device
    kept: PyTree  # on the device, what the loop keeps beside it
    failed_at: np.ndarray  # [] int32, iteration of the first non-finite number, -1 if none


class Stage:
    """The live environments of all seeds, stepped in turn. Lists have an entry per seed.

    `first(key, obs)` makes a run with `(obs, kept)` for `env`.
    """

    def __init__(self, env: HostEnv, envs: int, num_seeds: int, first: Callable):
        self.env, self.envs, self.first = HostEnv(env.id, num_seeds * envs), envs, jax.jit(first)
        self.at: list = []  # the snapshots that the live environments stand at
        self.obs = np.zeros((envs, *env.spec.obs.shape), env.spec.obs.dtype)  # of one seed

    def loop(self, advance: Callable) -> Loop:
        """A loop whose keys are `[num_seeds]` and whose run is a tuple, from its `advance`."""
        seeds = self.env.num_envs // self.envs
        return Loop(self.begin, partial(advance, n=1), advance, self.shapes, seeds=seeds)

    def begin(self, keys: Key) -> tuple[Run, ...]:
        """Fresh agents, and environments reset with seeds drawn from their keys."""
        keys = unstacked(keys)
        seeds = np.concatenate([self._seeds(jax.random.fold_in(key, RESET)) for key in keys])
        pairs = zip(keys, self.parts(self.env.reset(seeds.tolist())), strict=True)
        return self.suspend([self.first(*pair) for pair in pairs], [-1] * len(keys))

    def _seeds(self, key: Key) -> np.ndarray:
        return np.asarray(jax.random.bits(key, (self.envs,), "uint32"))

    def shapes(self, keys: Key) -> tuple[Run, ...]:
        """What the runs hold on the device."""
        return tuple(jax.eval_shape(self.first, key, self.obs) for key in unstacked(keys))

    def step(self, actions: list[np.ndarray]) -> list[HostStep]:
        """Step the environments of every seed."""
        return self.parts(self.env.step(np.concatenate(actions)))

    def parts(self, tree: PyTree) -> list:
        """Leaves `[seeds * envs, ...]` cut by seed."""
        if self.env.num_envs == self.envs:
            return [tree]  # every step of a simulator passes here
        cuts = range(0, self.env.num_envs, self.envs)
        return [jax.tree.map(lambda x, i=i: x[i : i + self.envs], tree) for i in cuts]

    def wake(self, runs: tuple[Run, ...]) -> list[Run]:
        """Runs with `(obs, kept)` for `env`, the live environments standing where they do."""
        obs = [run.env.obs for run in runs]
        snapshots = [run.env.snapshot for run in runs]
        if [id(s) for s in snapshots] != [id(s) for s in self.at]:
            restored = self.env.restore(jax.tree.map(lambda *x: np.concatenate(x), *snapshots))
            if not self.env.exact_resume:  # new episodes, so there are new observations to store
                obs = [jnp.asarray(x) for x in self.parts(restored)]
        return [run._replace(env=(x, run.env.kept)) for run, x in zip(runs, obs, strict=True)]

    def suspend(self, runs: list[Run], failed: list[int]) -> tuple[Run, ...]:
        """The inverse of `wake`, with the iterations at which a number was not finite."""
        self.at = self.parts(self.env.snapshot())
        triples = zip(runs, self.at, failed, strict=True)
        return tuple(_hosted(*triple) for triple in triples)


def _hosted(run: Run, snapshot: PyTree, failed_at: int) -> Run:
    obs, kept = run.env
    return run._replace(env=Hosted(snapshot, obs, kept, np.asarray(failed_at, np.int32)))


def unstacked(keys: Key) -> list[Key]:
    """Keys `[n]` as a list."""
    return [jax.random.clone(keys)[i] for i in range(len(keys))]


def pack(tree: PyTree) -> np.ndarray:
    """One row per environment of everything in `tree`, whose leaves are `[n, ...]`."""
    leaves = jax.tree.leaves(tree)
    return np.concatenate([x.reshape(len(x), -1) for x in leaves], 1, dtype=np.float32)


def unpack(like: PyTree, packed: Array) -> PyTree:
    """What `pack` made rows of: `like` holds the shape and type of each leaf without `[n]`."""
    shapes, structure = jax.tree.flatten(like)
    ends = np.cumsum([int(np.prod(s.shape)) for s in shapes])
    parts = jnp.split(packed, ends[:-1], axis=1)
    leaves = [
        part.reshape((-1, *s.shape)).astype(jax.dtypes.canonicalize_dtype(s.dtype))
        for part, s in zip(parts, shapes, strict=True)
    ]
    return jax.tree.unflatten(structure, leaves)


def averages(names: list[str], log: list, seeds: int) -> Metrics:
    """Means over iterations, each weighted by its updates. Arrays `[seeds]` by name.

    `log` holds for each iteration the numbers `[seeds, names]`.
    """
    table = np.asarray(log or np.zeros((1, seeds, len(names))), np.float64)
    updates = table[..., names.index("updates")]
    means = (table * updates[..., None]).sum(0) / np.maximum(updates.sum(0), 1)[:, None]
    return dict(zip(names, means.T, strict=True)) | {"updates": updates.sum(0)}
