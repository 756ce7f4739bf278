"""Agents at work: updates alone in a compiled loop, and a whole run on Gymnasium."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import flops, timing
from benchmarks.cases import SIMULATOR, SPEC, Case, transitions
from benchmarks.timing import Window
from jaxrl import envs, parallel
from jaxrl.envs import Env, HostEnv, wrappers
from jaxrl.loops import acting, host, off_policy, on_policy
from jaxrl.types import Agent, PyTree, Spec

SAMPLE, LEARN = range(2)  # names of an update's random draws
CHUNK = 250  # environment steps between looks at the clock


class Program(NamedTuple):
    """A compiled scan of updates and what is known of it."""

    window: Window
    flops: float  # of one update
    compile_seconds: float
    bytes: int  # arguments, results and temporary memory together


class Player:
    """Plays a compiled program of `length` updates, over and over, from where it came to."""

    def __init__(self, program: Any, state: PyTree, data: PyTree, length: int):
        self.program, self.state, self.data, self.length = program, state, data, length
        self.keys = jax.random.key(2)

    def play(self) -> PyTree:
        self.keys, key = jax.random.split(self.keys)
        self.state, metrics = self.program(self.state, self.data, key)
        return metrics

    def window(self, seconds: float) -> float:
        return timing.window(self.play, self.length, seconds)


def update_of(case: Case, seeds: int) -> tuple[Callable, Callable]:
    """A first state from a key, and an update of one seed, or of several at once, from data."""
    agent, draw = case.module.make(SPEC, case.config), case.draw
    if seeds > 1:
        agent, draw = parallel.seeds(agent, seeds, "vmap"), jax.vmap(draw, (None, 0))

    def keys(key: jax.Array) -> jax.Array:
        return jax.random.split(key, seeds) if seeds > 1 else key

    def init(key: jax.Array) -> PyTree:
        return agent.init(keys(key))

    def update(state: PyTree, data: PyTree, key: jax.Array) -> tuple[PyTree, PyTree]:
        batch = draw(data, keys(jax.random.fold_in(key, SAMPLE)))
        return agent.update(state, batch, keys(jax.random.fold_in(key, LEARN)))

    return init, update


def compiled(case: Case, seconds: float, seeds: int = 1) -> Program:
    """The agent's updates in one `scan`, each on a batch of its own, of one seed or several."""
    init, one = update_of(case, seeds)
    data = jax.jit(case.data)(jax.random.key(0))
    state = jax.jit(init)(jax.random.key(1))

    def many(state: PyTree, data: PyTree, key: jax.Array) -> tuple[PyTree, PyTree]:
        def body(state: PyTree, i: jax.Array) -> tuple[PyTree, PyTree]:
            return one(state, data, jax.random.fold_in(key, i))

        return jax.lax.scan(body, state, jnp.arange(case.length))

    begin = time.perf_counter()
    program = jax.jit(many, donate_argnums=0).lower(state, data, jax.random.key(0)).compile()
    compile_seconds = time.perf_counter() - begin
    work = flops.count(one, state, data, jax.random.key(0), taken=case.taken)
    player = Player(program, state, data, case.length)
    return Program(partial(player.window, seconds), work, compile_seconds, _bytes(program))


def _bytes(program: Any) -> int:
    memory = program.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return held - memory.alias_size_in_bytes + memory.temp_size_in_bytes


def on_host(case: Case, seconds: float, warmup: int = 1_000) -> Window:
    """HalfCheetah-v5 end to end: one update per step, acting with the latest parameters."""
    env = HostEnv("HalfCheetah-v5")
    agent = case.module.make(env.spec, case.config)
    loop = host.make(agent, env, off_policy.Config(warmup=warmup))
    keys = jax.random.key(0)[None]
    runs, _ = loop.advance(loop.begin(keys), keys, warmup + CHUNK)
    newest = [runs]

    def play() -> None:
        newest[0], _ = loop.advance(newest[0], keys, CHUNK)

    return lambda: timing.window(play, CHUNK, seconds)


def on_simulator(case: Case, seconds: float, iterations: int = 10) -> tuple[Window, Window, float]:
    """End to end on a simulator on the device: environment steps per second.

    Returns:
      Windows of the agent and of the simulator alone, and the FLOPs that the agent's own products
      take per environment step.
    """
    env, config = wrappers.squash(envs.make(SIMULATOR)), case.simulated
    agent, size = case.module.make(env.spec, case.config), config.envs * config.steps
    loop = on_policy.make(agent, env, config, case.config.blocks)
    key = jax.random.key(0)
    newest = [loop.begin(key)]

    def play() -> None:
        newest[0], metrics = loop.advance(newest[0], jax.random.clone(key), iterations)
        jax.block_until_ready(metrics)

    window = partial(timing.window, play, iterations * size, seconds)
    work = _work_per_step(agent, env.spec, config)
    return window, _simulator_alone(env, config.envs, iterations * config.steps, seconds), work


def _simulator_alone(env: Env, n: int, length: int, seconds: float) -> Window:
    """`length` steps of `n` environments, actions at rest."""

    @jax.jit
    def many(start: acting.Acting) -> acting.Acting:
        def step(now: acting.Acting, i: jax.Array) -> tuple[acting.Acting, None]:
            rest = jnp.zeros((n, *env.spec.action.shape))
            return acting.step(env, now, rest, jax.random.fold_in(jax.random.key(1), i), i)[0], None

        return jax.lax.scan(step, start, jnp.arange(length))[0]

    start = jax.jit(lambda key: acting.begin(env, key, 8, n // 8))(jax.random.key(0))
    return lambda: timing.window(lambda: many(start), n * length, seconds)


def _work_per_step(agent: Agent, spec: Spec, config: on_policy.Config) -> float:
    """FLOPs of acting and updating, per environment step."""
    key, n = jax.random.key(0), config.envs
    state = jax.eval_shape(agent.init, key)
    row = jax.eval_shape(lambda key: transitions(key, config.steps, n, spec=spec), key)
    update = flops.count(agent.update, state, row, key)
    obs = jax.ShapeDtypeStruct((n, *spec.obs.shape), spec.obs.dtype)
    return update / (n * config.steps) + flops.count(agent.act, state, obs, key) / n
