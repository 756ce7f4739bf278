"""Off-policy learning with environments on the host: one device call per environment step.

The numbers are those of `off_policy`. A call stores the transition that just ended, updates, and
acts on the new observation with the updated parameters; one packed array travels each way.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data import replay
from jaxrl.envs.gymnasium import HostEnv
from jaxrl.loops import acting, off_policy
from jaxrl.loops.loop import Loop, Run
from jaxrl.loops.off_policy import ACT, INIT, LEARN, RESET, STEP, Config
from jaxrl.types import Agent, Array, Key, Metrics, PyTree, Spec, Transition


class Hosted(NamedTuple):
    """What a run remembers of host environments between two steps."""

    snapshot: PyTree  # of the host, numpy arrays [N, ...]
    obs: PyTree  # [N, *obs_shape] on the device
    action: Array  # [N, A] on the device, the answer to `obs`, not yet played
    failed_at: np.ndarray  # [] int32, iteration of the first non-finite number, -1 if none


def make(
    agent: Agent,
    env: HostEnv,
    config: Config = Config(),
    blocks: int = 0,
    gamma: float = 0.99,
    num_seeds: int = 1,
) -> Loop:
    """The loop of `num_seeds` seeds, whose environments are stepped in turn.

    Keys are `[num_seeds]` and the run is a tuple, as under `seeds(loop, num_seeds, "map")`.
    """
    blocks = blocks or acting.default_blocks(config.envs)
    off_policy.check(config, blocks)
    env = HostEnv(env.id, num_seeds * config.envs)
    player = Player(agent, env, config, blocks, gamma)
    return Loop(
        begin=player.begin,
        step=partial(player.advance, n=1),
        advance=player.advance,
        shapes=player.shapes,
        seeds=num_seeds,
    )


class Player:
    """The live environments, and the two compiled programs that answer them."""

    def __init__(self, agent: Agent, env: HostEnv, config: Config, blocks: int, gamma: float):
        self.env, self.envs = env, config.envs
        self.at: list = []  # the snapshots that the live environments stand at
        args = (agent, env.spec, config, blocks)
        observe = partial(_observe, *args, gamma)
        self.first = jax.jit(partial(_first, *args))
        self.observe = jax.jit(lambda *x: _flat(*observe(*x)), donate_argnums=0)
        self.obs = np.zeros((config.envs, *env.spec.obs.shape), env.spec.obs.dtype)
        self.names = _metric_names(observe, self.first, self.obs)

    def begin(self, keys: Key) -> tuple[Run, ...]:
        """Fresh agents, and environments reset with seeds drawn from their keys."""
        keys = _unstacked(keys)
        obs = self.env.reset(np.concatenate([_env_seeds(key, self.envs) for key in keys]))
        runs = [self.first(key, part) for key, part in zip(keys, self._parts(obs), strict=True)]
        return self._suspended(runs, [-1] * len(runs))

    def shapes(self, keys: Key) -> tuple[Run, ...]:
        """What the runs hold on the device."""
        return tuple(jax.eval_shape(self.first, key, self.obs) for key in _unstacked(keys))

    def advance(self, runs: tuple[Run, ...], keys: Key, n: int) -> tuple[tuple[Run, ...], Metrics]:
        """Play `n` iterations, or as many as there are until a number is not finite."""
        live = self._wake(runs)
        answers = [np.asarray(run.env[1]) for run in live]
        keys, step = _unstacked(keys), int(runs[0].step)
        log, failed = [], [int(run.env.failed_at) for run in runs]
        for i in range(step, step + n):
            packed = self._play(answers)
            bad = [not np.isfinite(x).all() for x in packed]
            if any(bad):
                failed = [i if b else at for b, at in zip(bad, failed, strict=True)]
                break
            pairs = [self.observe(*args) for args in zip(live, packed, keys, strict=True)]
            live, outs = [run for run, _ in pairs], [np.asarray(out) for _, out in pairs]
            answers = [self._action(out) for out in outs]
            log.append([out[-len(self.names) :] for out in outs])
        return self._suspended(live, failed), self._averages(log, len(runs))

    def _play(self, answers: list[np.ndarray]) -> list[np.ndarray]:
        """Step all environments; one packed array `[envs, width]` per seed."""
        step = self.env.step(np.concatenate(answers))
        return [_pack(part) for part in self._parts(step)]

    def _action(self, out: np.ndarray) -> np.ndarray:
        spec = self.env.spec.action
        return out[: -len(self.names)].reshape((self.envs, *spec.shape)).astype(spec.dtype)

    def _averages(self, log: list, seeds: int) -> Metrics:
        """Means over iterations, each weighted by its updates. Arrays `[seeds]` by name."""
        table = np.asarray(log or np.zeros((1, seeds, len(self.names))), np.float64)
        updates = table[..., self.names.index("updates")]
        means = (table * updates[..., None]).sum(0) / np.maximum(updates.sum(0), 1)[:, None]
        return dict(zip(self.names, means.T, strict=True)) | {"updates": updates.sum(0)}

    def _parts(self, tree: PyTree) -> list:
        """Leaves `[seeds * envs, ...]` cut by seed."""
        cuts = range(0, self.env.num_envs, self.envs)
        return [jax.tree.map(lambda x, i=i: x[i : i + self.envs], tree) for i in cuts]

    def _wake(self, runs: tuple[Run, ...]) -> list[Run]:
        """Runs with `(obs, action)` for `env`, the live environments standing where they do."""
        obs = [run.env.obs for run in runs]
        snapshots = [run.env.snapshot for run in runs]
        if [id(s) for s in snapshots] != [id(s) for s in self.at]:
            restored = self.env.restore(jax.tree.map(lambda *x: np.concatenate(x), *snapshots))
            if not self.env.exact_resume:  # new episodes, so there are new observations to store
                obs = [jnp.asarray(x) for x in self._parts(restored)]
        pairs = zip(runs, obs, strict=True)
        return [run._replace(env=(x, run.env.action)) for run, x in pairs]

    def _suspended(self, runs: list[Run], failed: list[int]) -> tuple[Run, ...]:
        self.at = self._parts(self.env.snapshot())
        return tuple(
            run._replace(env=Hosted(snapshot, *run.env, np.asarray(at, np.int32)))
            for run, snapshot, at in zip(runs, self.at, failed, strict=True)
        )


def _unstacked(keys: Key) -> list[Key]:
    return [jax.random.clone(keys)[i] for i in range(len(keys))]


def _env_seeds(key: Key, n: int) -> np.ndarray:
    return np.asarray(jax.random.bits(jax.random.fold_in(key, RESET), (n,), "uint32"))


def _pack(tree: PyTree) -> np.ndarray:
    """One row per environment of everything in `tree`, whose leaves are `[n, ...]`."""
    leaves = jax.tree.leaves(tree)
    return np.concatenate([np.reshape(x, (len(x), -1)) for x in leaves], 1, dtype=np.float32)


def _unpack(spec: Spec, packed: Array) -> tuple:
    """obs, reward, discount, next_obs, last from the rows that `_pack` made."""
    scalar = jax.ShapeDtypeStruct((), float)
    like = (spec.obs, scalar, scalar, spec.obs, jax.ShapeDtypeStruct((), bool))
    shapes, structure = jax.tree.flatten(like)
    ends = np.cumsum([int(np.prod(s.shape)) for s in shapes])
    parts = jnp.split(packed, ends[:-1], axis=1)
    leaves = [
        part.reshape((-1, *s.shape)).astype(jax.dtypes.canonicalize_dtype(s.dtype))
        for part, s in zip(parts, shapes, strict=True)
    ]
    return jax.tree.unflatten(structure, leaves)


def _first(agent: Agent, spec: Spec, config: Config, blocks: int, key: Key, obs: PyTree) -> Run:
    """A run before its first step, with the answer to `obs`."""
    state = agent.init(jax.random.fold_in(key, INIT))
    rows = replay.rows(config.capacity, config.envs)
    ring = replay.empty(spec, blocks, rows, config.envs // blocks)
    return _answer(agent, spec, config, Run(state, obs, ring, jnp.int32(0)), key)


def _answer(agent: Agent, spec: Spec, config: Config, run: Run, key: Key) -> Run:
    """The run with what to do next beside the observation in `run.env`."""
    key = jax.random.fold_in(jax.random.fold_in(key, STEP), run.step)
    key = jax.random.fold_in(key, ACT)
    action = off_policy.choose(agent, spec, config, run, run.env, key)
    return run._replace(env=(run.env, action))


def _observe(
    agent: Agent,
    spec: Spec,
    config: Config,
    blocks: int,
    gamma: float,
    run: Run,
    packed: Array,
    key: Key,
) -> tuple[Run, Metrics]:
    """Store what happened, update, and answer."""
    (seen, action), now = run.env, jax.random.fold_in(jax.random.fold_in(key, STEP), run.step)
    obs, reward, discount, next_obs, last = _unpack(spec, packed)
    row = Transition(seen, action, reward, discount, next_obs, last)
    ring = replay.add(run.replay, acting.split(row, blocks), run.step)
    run = Run(run.state, obs, ring, run.step + 1)
    draw = partial(replay.sample, ring, run.step, n_step=config.n_step, gamma=gamma)
    state, metrics = off_policy.learn(agent, config, draw, run, jax.random.fold_in(now, LEARN))
    return _answer(agent, spec, config, run._replace(state=state), key), metrics


def _flat(run: Run, metrics: Metrics) -> tuple[Run, Array]:
    """The run, and its actions and metrics in one array, for one transfer to the host."""
    numbers = jnp.stack([metrics[name].astype(float) for name in sorted(metrics)])
    return run, jnp.concatenate([run.env[1].reshape(-1).astype(float), numbers])


def _metric_names(observe, first, obs: np.ndarray) -> list[str]:
    """Names of the metrics in the order in which `_flat` lays them out."""
    scalars = (np.zeros(len(obs)),) * 3
    key = jax.random.key(0)
    run = jax.eval_shape(first, key, obs)
    return sorted(jax.eval_shape(observe, run, _pack((obs, *scalars, obs)), key)[1])
