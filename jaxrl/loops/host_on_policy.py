"""On-policy learning with environments on the host: a device call per step, and one per update.

The numbers are those of `on_policy`. Parameters stay where they are during a rollout; observation,
reward and end travel as one array, actions come back as another.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import policies
from jaxrl.envs import wrappers
from jaxrl.envs.gymnasium import HostEnv
from jaxrl.loops import acting, on_policy
from jaxrl.loops.acting import ACT, INIT, LEARN, STEP
from jaxrl.loops.loop import Loop, Run
from jaxrl.loops.on_policy import Config
from jaxrl.loops.stage import Stage, averages, pack, unpack, unstacked
from jaxrl.types import Agent, Array, Key, Metrics, Policy, PyTree, Spec, State, Transition


class Kept(NamedTuple):
    """What stays on the device between two rollouts; as in `on_policy.Playing`."""

    memory: PyTree  # [N, ...], the policy's
    reward: Array  # [N], of the last step
    last: Array  # [N] bool
    scale: wrappers.RewardScale | None


def make(
    agent: Agent,
    env: HostEnv,
    config: Config = Config(),
    blocks: int = 0,
    gamma: float = 0.99,
    policy: Policy | None = None,
    num_seeds: int = 1,
) -> Loop:
    """The loop of `num_seeds` seeds, whose environments are stepped in turn.

    Keys are `[num_seeds]` and the run is a tuple, as under `seeds(loop, num_seeds, "map")`.
    """
    on_policy.check(config, blocks or acting.default_blocks(config.envs))
    policy = policy or policies.memoryless(agent)
    stage = Stage(env, config.envs, num_seeds, partial(_first, agent, policy, config))
    answer, learn = partial(_answer, policy, env.spec), partial(_learn, agent, gamma)
    return stage.loop(Player(stage, config.steps, answer, learn).advance)


class Seen(NamedTuple):
    """What a policy is told at a step, of the environments of all seeds or of one."""

    obs: PyTree  # [N, *obs_shape]
    reward: Any  # [N], of the last step
    last: Any  # [N] bool


class Player:
    """The live environments, and the two compiled programs: one acts, one updates."""

    def __init__(self, stage: Stage, steps: int, answer: Callable, learn: Callable):
        self.stage, self.steps = stage, steps
        self.answer, self.learn = jax.jit(answer), jax.jit(learn, donate_argnums=0)

    def advance(self, runs: tuple[Run, ...], keys: Key, n: int) -> tuple[tuple[Run, ...], Metrics]:
        """Play `n` iterations, or as many as there are until a number is not finite."""
        live = self.stage.wake(runs)
        keys, step, names = unstacked(keys), int(runs[0].step), ["updates"]
        log, failed = [], [int(run.env.failed_at) for run in runs]
        for i in range(step, step + n):
            memories, batches, seen = self._rollout(live, keys)
            bad = [not finite(part) for part in zip(batches, seen, strict=True)]
            if any(bad):
                failed = [i if b else at for b, at in zip(bad, failed, strict=True)]
                break
            args = zip(live, memories, batches, seen, keys, strict=True)
            pairs = [self.learn(*x) for x in args]
            live, metrics = [run for run, _ in pairs], jax.device_get([m for _, m in pairs])
            names = sorted(metrics[0])
            log.append([[m[name] for name in names] for m in metrics])
        return self.stage.suspend(live, failed), averages(names, log, len(runs))

    def _rollout(self, runs: list[Run], keys: list[Key]) -> tuple[list, list, list]:
        """For each seed: the policy's memory, transitions `[N, T]`, and what is seen after them."""
        at = [run.env for run in runs]
        memories = [kept.memory for _, kept in at]
        begun = jax.device_get([Seen(obs, kept.reward, kept.last) for obs, kept in at])
        seen, rows = jax.tree.map(lambda *x: np.concatenate(x), *begun), []
        for t in range(self.steps):
            packed = [pack(part) for part in self.stage.parts(seen)]
            args = zip(runs, memories, packed, keys, strict=True)
            pairs = [self.answer(r.state, r.step, t, *rest) for r, *rest in args]
            memories, action = [m for m, _ in pairs], np.concatenate([a for _, a in pairs])
            step = self.stage.env.step(action)
            rows.append((seen.obs, action, *step[1:]))
            seen = Seen(step.obs, step.reward, step.last)
        batch = Transition(*jax.tree.map(lambda *x: np.stack(x, 1), *rows))
        return memories, self.stage.parts(batch), self.stage.parts(seen)


def finite(tree: PyTree) -> bool:
    """Whether every number in a tree of NumPy arrays is."""
    return all(np.isfinite(x).all() for x in jax.tree.leaves(tree))


def _first(agent: Agent, policy: Policy, config: Config, key: Key, obs: PyTree) -> Run:
    """A run before its first step, as `on_policy.begin` makes it."""
    state = agent.init(jax.random.fold_in(key, INIT))
    scale = wrappers.reward_scale(config.envs) if config.normalize_reward else None
    none = jnp.zeros(config.envs)
    kept = Kept(policy.start(config.envs), none, none > 0, scale)
    return Run(state, (obs, kept), (), jnp.int32(0))


def _answer(
    policy: Policy,
    spec: Spec,
    state: State,
    count: Array,
    t: Array,
    memory: PyTree,
    packed: Array,
    key: Key,
) -> tuple[PyTree, Array]:
    """The policy's memory and its actions, drawn as at step `t` of `on_policy`'s rollout."""
    like = Seen(spec.obs, jax.ShapeDtypeStruct((), float), jax.ShapeDtypeStruct((), bool))
    for name in (STEP, count, t, ACT):
        key = jax.random.fold_in(key, name)
    return policy.step(state, memory, *unpack(like, packed), key)


def _learn(
    agent: Agent, gamma: float, run: Run, memory: PyTree, batch: Transition, seen: Seen, key: Key
) -> tuple[Run, Metrics]:
    """Scale the rewards of a rollout `[N, T]`, and update."""
    batch, (_, kept) = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), batch), run.env
    scale = kept.scale
    if scale is not None:
        normalize = partial(wrappers.normalize_reward, gamma=gamma)
        scale, batch = jax.lax.scan(normalize, scale, batch)
    for name in (STEP, run.step, LEARN):
        key = jax.random.fold_in(key, name)
    state, metrics = agent.update(run.state, batch, key)
    kept = Kept(memory, seen.reward, seen.last, scale)
    return Run(state, (seen.obs, kept), (), run.step + 1), metrics | {"updates": jnp.int32(1)}
