"""What stands between environments and an agent, as pure functions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs.base import Env
from jaxrl.errors import UserError
from jaxrl.ops import moments
from jaxrl.types import Array, Transition


def squash(env: Env) -> Env:
    """The environment of actions before tanh, for agents whose `act` returns those.

    Raises:
      UserError: the environment runs on the host, where actions are clipped.
    """
    if not isinstance(env, Env):
        found = type(env).__name__
        raise UserError(f"squash: found {found}, expected an environment on the device (Env)")
    return env._replace(step=lambda state, action, key: env.step(state, jnp.tanh(action), key))


class RewardScale(NamedTuple):
    """What reward normalisation of `N` environments remembers."""

    returns: Array  # [N], discounted rewards of the episode so far, newest undiscounted
    moments: moments.Moments  # of all such returns, over time and environments


def reward_scale(n: int) -> RewardScale:
    """Nothing seen yet, at the start of `n` episodes."""
    return RewardScale(jnp.zeros(n), moments.zeros(jax.ShapeDtypeStruct((), float)))


def normalize_reward(
    scale: RewardScale, row: Transition, gamma: float, clip: float = 10.0
) -> tuple[RewardScale, Transition]:
    """Rewards `[N]` over the running deviation of discounted returns, clipped, not centred.

    The scale moves before it is used. Returns are zeroed after an episode's last step, which
    counts the final reward in its own episode (OpenAI Baselines, `VecNormalize`).
    """
    returns = gamma * scale.returns + row.reward
    seen = moments.update(scale.moments, returns)
    reward = (row.reward / moments.std(seen, floor=1e-4)).clip(-clip, clip)
    return RewardScale(returns * ~row.last, seen), row._replace(reward=reward)
