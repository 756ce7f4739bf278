"""Off-policy learning with environments on the host: one device call per environment step.

The numbers are those of `off_policy`. A call stores the transition that just ended, updates, and
acts on the new observation with the updated parameters; one packed array travels each way.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data import replay
from jaxrl.envs.gymnasium import HostEnv
from jaxrl.loops import acting, off_policy
from jaxrl.loops.acting import ACT, INIT, LEARN, STEP
from jaxrl.loops.loop import Loop, Run
from jaxrl.loops.off_policy import Config
from jaxrl.loops.stage import Stage, averages, pack, unpack, unstacked
from jaxrl.types import Agent, Array, Key, Metrics, PyTree, Spec, Transition


def make(
    agent: Agent,
    env: HostEnv,
    config: Config = Config(),
    blocks: int = 0,
    gamma: float = 0.99,
    mix: off_policy.Mix = off_policy.alone,
    data: tuple = (),
    num_seeds: int = 1,
) -> Loop:
    """The loop of `num_seeds` seeds, whose environments are stepped in turn.

    Keys are `[num_seeds]` and the run is a tuple, as under `seeds(loop, num_seeds, "map")`.
    """
    blocks = blocks or acting.default_blocks(config.envs)
    off_policy.check(config, blocks)
    first = partial(_first, agent, env.spec, config, blocks)
    stage = Stage(env, config.envs, num_seeds, first)
    observe = partial(_observe, agent, env.spec, config, blocks, gamma, mix)
    return stage.loop(Player(stage, observe, data).advance)


class Player:
    """The live environments, and the compiled program that answers them."""

    def __init__(self, stage: Stage, observe: Callable, data: tuple = ()):
        self.stage, self.spec, self.data = stage, stage.env.spec, data
        self.observe = jax.jit(lambda *x: _flat(*observe(*x)), donate_argnums=0)
        self.names = _metric_names(observe, stage.first, stage.obs, data)

    def advance(self, runs: tuple[Run, ...], keys: Key, n: int) -> tuple[tuple[Run, ...], Metrics]:
        """Play `n` iterations, or as many as there are until a number is not finite."""
        live = self.stage.wake(runs)
        answers = [np.asarray(run.env[1]) for run in live]
        keys, step = unstacked(keys), int(runs[0].step)
        log, failed = [], [int(run.env.failed_at) for run in runs]
        for i in range(step, step + n):
            packed = [pack(part) for part in self.stage.step(answers)]
            bad = [not np.isfinite(x).all() for x in packed]
            if any(bad):
                failed = [i if b else at for b, at in zip(bad, failed, strict=True)]
                break
            triples = zip(live, packed, keys, strict=True)
            pairs = [self.observe(*triple, *self.data) for triple in triples]
            live, outs = [run for run, _ in pairs], [np.asarray(out) for _, out in pairs]
            answers = [self._action(out) for out in outs]
            log.append([out[-len(self.names) :] for out in outs])
        return self.stage.suspend(live, failed), averages(self.names, log, len(runs))

    def _action(self, out: np.ndarray) -> np.ndarray:
        spec = self.spec.action
        return out[: -len(self.names)].reshape((-1, *spec.shape)).astype(spec.dtype)


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
    mix: off_policy.Mix,
    run: Run,
    packed: Array,
    key: Key,
    *data: PyTree,
) -> tuple[Run, Metrics]:
    """Store what happened, update, and answer."""
    (seen, action), now = run.env, jax.random.fold_in(jax.random.fold_in(key, STEP), run.step)
    scalar, flag = jax.ShapeDtypeStruct((), float), jax.ShapeDtypeStruct((), bool)
    obs, reward, discount, next_obs, last = unpack(
        (spec.obs, scalar, scalar, spec.obs, flag), packed
    )
    row = Transition(seen, action, reward, discount, next_obs, last)
    ring = replay.add(run.replay, acting.split(row, blocks), run.step)
    run = Run(run.state, obs, ring, run.step + 1)
    draw = partial(replay.sample, ring, run.step, n_step=config.n_step, gamma=gamma)
    draw = partial(off_policy.mixed, mix, draw, data)
    state, metrics = off_policy.learn(agent, config, draw, run, jax.random.fold_in(now, LEARN))
    return _answer(agent, spec, config, run._replace(state=state), key), metrics


def _flat(run: Run, metrics: Metrics) -> tuple[Run, Array]:
    """The run, and its actions and metrics in one array, for one transfer to the host."""
    numbers = jnp.stack([metrics[name].astype(float) for name in sorted(metrics)])
    return run, jnp.concatenate([run.env[1].reshape(-1).astype(float), numbers])


def _metric_names(observe, first, obs: np.ndarray, data: tuple) -> list[str]:
    """Names of the metrics in the order in which `_flat` lays them out."""
    scalars = (np.zeros(len(obs)),) * 3
    key = jax.random.key(0)
    run = jax.eval_shape(first, key, obs)
    return sorted(jax.eval_shape(observe, run, pack((obs, *scalars, obs)), key, *data)[1])
