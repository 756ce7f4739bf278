"""Act, remember, sample, update: off-policy learning with everything on the device."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from jaxrl.data import replay
from jaxrl.envs.base import Env
from jaxrl.errors import UserError, check_range
from jaxrl.loops import acting
from jaxrl.loops.acting import ACT, ENV, INIT, LEARN, RESET, SAMPLE, STEP
from jaxrl.loops.loop import Loop, Run, compiled
from jaxrl.types import Agent, Array, Key, Metrics, PyTree, Spec

Draw = Callable[[Key, int], PyTree]  # key, batch size -> a batch of replay
Mix = Callable[..., PyTree]  # draw, key, batch size, *data -> the batch to learn from


@dataclass(frozen=True)
class Config:
    """Sizes of the loop; steps and transitions are counted over all environments of a seed."""

    envs: int = 1  # environments stepped together
    batch_size: int = 256  # transitions per update
    capacity: int = 1_000_000  # transitions that replay holds
    warmup: int = 1_000  # transitions collected before updates begin
    warmup_actions: Literal["random", "agent"] = "random"  # whose those are
    updates_per_step: float = 1.0  # updates per environment step, any ratio
    n_step: int = 1  # rewards summed per sampled transition
    report_every: int = 1_000  # environment steps between reports

    @property
    def iteration_steps(self) -> int:
        """Environment steps per iteration."""
        return self.envs

    @property
    def warmup_iterations(self) -> int:
        """Iterations before updates begin: unlike steps, these do not overflow in a long run."""
        return -(-self.warmup // self.envs)


def check(config: Config, blocks: int) -> None:
    """Refuse sizes that cannot work.

    Raises:
      UserError: names the setting, what was found and what was expected.
    """
    acting.check_blocks("loop.envs", config.envs, blocks)
    acting.check_blocks("loop.batch_size", config.batch_size, blocks)
    for name in ("warmup", "n_step", "report_every"):
        check_range(f"loop.{name}", getattr(config, name), 1)
    check_range("loop.updates_per_step", config.updates_per_step, 1e-4)
    held = min(config.warmup, replay.rows(config.capacity, config.envs) * config.envs)
    if config.batch_size > held:
        raise UserError(
            f"loop.batch_size: found {config.batch_size}, expected at most {held}, which replay "
            "holds when updates begin (the lesser of loop.warmup and loop.capacity)"
        )


def alone(draw: Draw, key: Key, batch_size: int) -> PyTree:
    """A batch of replay and of nothing else."""
    return draw(key, batch_size)


def make(
    agent: Agent,
    env: Env,
    config: Config = Config(),
    blocks: int = 0,
    gamma: float = 0.99,
    mix: Mix = alone,
    data: tuple = (),
) -> Loop:
    """The loop of one seed on one device.

    Args:
      blocks: fixed blocks of environments, replay and batch; 0 takes the default of the run.
      gamma: the agent's, needed for n-step returns alone.
      mix: joins what is drawn from replay with `data`, such as a dataset in the same blocks.
    """
    blocks = blocks or acting.default_blocks(config.envs)
    check(config, blocks)
    return compiled(
        partial(begin, agent, env, config, blocks),
        partial(step, agent, env, config, gamma, mix),
        *data,
    )


def begin(agent: Agent, env: Env, config: Config, blocks: int, key: Key) -> Run:
    """A fresh agent, environments at their start, nothing remembered."""
    n = config.envs // blocks
    rows = replay.rows(config.capacity, config.envs)
    return Run(
        state=agent.init(jax.random.fold_in(key, INIT)),
        env=acting.begin(env, jax.random.fold_in(key, RESET), blocks, n),
        replay=replay.empty(env.spec, blocks, rows, n),
        step=jnp.int32(0),
    )


def step(
    agent: Agent, env: Env, config: Config, gamma: float, mix: Mix, run: Run, key: Key, *data
) -> tuple[Run, Metrics]:
    """One step of every environment, and the updates that it pays for."""
    key = jax.random.fold_in(jax.random.fold_in(key, STEP), run.step)
    obs = acting.merge(run.env.obs)
    action = choose(agent, env.spec, config, run, obs, jax.random.fold_in(key, ACT))
    env_now, transition = acting.step(env, run.env, action, jax.random.fold_in(key, ENV), run.step)
    ring = replay.add(run.replay, transition, run.step)
    run = Run(run.state, env_now, ring, run.step + 1)
    draw = partial(replay.sample, ring, run.step, n_step=config.n_step, gamma=gamma)
    draw = partial(mixed, mix, draw, data)
    state, metrics = learn(agent, config, draw, run, jax.random.fold_in(key, LEARN))
    return run._replace(state=state), metrics


def mixed(mix: Mix, draw: Draw, data: tuple, key: Key, batch_size: int) -> PyTree:
    """A batch of both, by key and size alone."""
    return mix(draw, key, batch_size, *data)


def choose(agent: Agent, spec: Spec, config: Config, run: Run, obs: PyTree, key: Key) -> Array:
    """Actions `[N, A]`: random until `warmup` transitions are held, then the agent's samples."""
    if config.warmup_actions == "agent":
        return agent.act(run.state, obs, key)
    return jax.lax.cond(
        run.step < config.warmup_iterations,
        lambda key: acting.random_action(spec, config.envs, key),
        lambda key: agent.act(run.state, obs, key),
        key,
    )


def learn(agent: Agent, config: Config, draw: Draw, run: Run, key: Key) -> tuple:
    """The updates due after an iteration: the agent's state and metrics averaged over them.

    `draw(key, batch_size)` samples a batch.
    """

    def one(state, i):
        key_i = jax.random.fold_in(key, i)
        batch = draw(jax.random.fold_in(key_i, SAMPLE), config.batch_size)
        return agent.update(state, batch, jax.random.fold_in(key_i, LEARN))

    ratio = Fraction(config.updates_per_step * config.envs).limit_denominator(10_000)
    due = updates_due(ratio, run.step)
    ready = run.step >= config.warmup_iterations
    most = -(-ratio.numerator // ratio.denominator)
    return repeat(one, run.state, jnp.where(ready, due, 0), most)


def updates_due(ratio: Fraction, step: Array) -> Array:
    """floor(step * ratio) - floor((step - 1) * ratio), without large products. [] int32"""
    p, q = ratio.numerator, ratio.denominator
    phase = (step - 1) % q
    return ((phase + 1) * p) // q - (phase * p) // q


def repeat(one, state, n: Array, most: int) -> tuple:
    """`one(state, i)` for i below `n <= most`; metrics are means over the calls made."""
    shapes = jax.eval_shape(lambda: one(state, 0)[1])
    nothing = {name: jnp.zeros(s.shape, s.dtype) for name, s in shapes.items()}

    def body(state, i):
        return jax.lax.cond(i < n, lambda s: one(s, i), lambda s: (s, nothing), state)

    state, metrics = jax.lax.scan(body, state, jnp.arange(most))
    calls = jnp.maximum(n, 1)
    means = {name: x.sum(0) / calls for name, x in metrics.items()}
    return state, means | {"updates": n}
