"""Play a rollout with frozen parameters, then update once: on-policy learning on the device."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl import policies
from jaxrl.envs import wrappers
from jaxrl.envs.base import Env
from jaxrl.errors import check_range
from jaxrl.loops import acting
from jaxrl.loops.acting import ACT, ENV, INIT, LEARN, RESET, STEP
from jaxrl.loops.loop import Loop, Run, compiled
from jaxrl.types import Agent, Array, Key, Metrics, Policy, PyTree, State, Transition


@dataclass(frozen=True)
class Config:
    """Sizes of the loop; an iteration is a rollout of `steps * envs` transitions and one update."""

    envs: int = 8  # environments stepped together
    steps: int = 256  # length of a rollout per environment
    normalize_reward: bool = False  # by the running deviation of discounted returns
    report_every: int = 20_480  # environment steps between reports

    @property
    def iteration_steps(self) -> int:
        """Environment steps per iteration."""
        return self.envs * self.steps


class Playing(NamedTuple):
    """Environments and the policy's memory between two steps."""

    acting: acting.Acting
    memory: PyTree  # [N, ...], the policy's
    reward: Array  # [N], of the last step, as the environment gave it
    last: Array  # [N] bool
    scale: wrappers.RewardScale | None

    @property
    def failed_at(self) -> Array:
        """Iteration of each block's first non-finite number, -1 if none. [D]"""
        return self.acting.failed_at


def check(config: Config, blocks: int) -> None:
    """Refuse sizes that cannot work.

    Raises:
      UserError: names the setting, what was found and what was expected.
    """
    acting.check_blocks("loop.envs", config.envs, blocks)
    for name in ("steps", "report_every"):
        check_range(f"loop.{name}", getattr(config, name), 1)


def make(
    agent: Agent,
    env: Env,
    config: Config = Config(),
    blocks: int = 0,
    gamma: float = 0.99,
    policy: Policy | None = None,
) -> Loop:
    """The loop of one seed on one device.

    Args:
      blocks: fixed blocks of environments, also the agent's `Config.blocks`; 0 takes the default.
      gamma: the agent's, needed to normalise rewards alone.
      policy: what collects; None acts on the present observation alone.
    """
    blocks = blocks or acting.default_blocks(config.envs)
    check(config, blocks)
    policy = policy or policies.memoryless(agent)
    return compiled(
        partial(begin, agent, policy, env, config, blocks),
        partial(step, agent, policy, env, config, gamma),
    )


def begin(agent: Agent, policy: Policy, env: Env, config: Config, blocks: int, key: Key) -> Run:
    """A fresh agent, environments at their start, nothing remembered."""
    n = config.envs // blocks
    playing = Playing(
        acting=acting.begin(env, jax.random.fold_in(key, RESET), blocks, n),
        memory=policy.start(config.envs),
        reward=jnp.zeros(config.envs),
        last=jnp.zeros(config.envs, bool),
        scale=wrappers.reward_scale(config.envs) if config.normalize_reward else None,
    )
    return Run(agent.init(jax.random.fold_in(key, INIT)), playing, (), jnp.int32(0))


def step(
    agent: Agent, policy: Policy, env: Env, config: Config, gamma: float, run: Run, key: Key
) -> tuple[Run, Metrics]:
    """One rollout and one update."""
    key = jax.random.fold_in(jax.random.fold_in(key, STEP), run.step)
    play = partial(play_one, policy, env, gamma, run.state, run.step)
    playing, batch = jax.lax.scan(
        lambda playing, t: play(playing, jax.random.fold_in(key, t)),
        run.env,
        jnp.arange(config.steps),
    )
    state, metrics = agent.update(run.state, batch, jax.random.fold_in(key, LEARN))
    return Run(state, playing, (), run.step + 1), metrics | {"updates": jnp.int32(1)}


def play_one(
    policy: Policy,
    env: Env,
    gamma: float,
    state: State,
    count: Array,
    playing: Playing,
    key: Key,
) -> tuple[Playing, Transition]:
    """One step of every environment; the transitions are `[N]`."""
    obs, key_act = acting.merge(playing.acting.obs), jax.random.fold_in(key, ACT)
    memory, action = policy.step(state, playing.memory, obs, playing.reward, playing.last, key_act)
    now, row = acting.step(env, playing.acting, action, jax.random.fold_in(key, ENV), count)
    row = acting.merge(row)
    reward = row.reward.astype(playing.reward.dtype)
    playing = Playing(now, memory, reward, row.last, playing.scale)
    if playing.scale is None:
        return playing, row
    scale, row = wrappers.normalize_reward(playing.scale, row, gamma)
    return playing._replace(scale=scale), row
