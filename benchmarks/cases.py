"""What `benchmarks.throughput` measures: one row per agent, all at the shapes of HalfCheetah."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.agents import bc, cql, decision_transformer, dsac, iql, ppo, sac, td3_bc
from jaxrl.data import replay, segments
from jaxrl.data.dataset import Steps
from jaxrl.loops import on_policy
from jaxrl.types import Key, PyTree, Segment, Spec, Transition

SPEC = Spec.continuous(17, 6)
HELD = 131_072  # transitions in replay
BATCH = 256


def transitions(key: Key, *shape: int, spec: Spec = SPEC) -> Transition:
    """Random experience of leading axes `shape`, a hundredth of it terminal."""
    keys = jax.random.split(key, 5)
    ends = jax.random.uniform(keys[0], shape) < 0.01
    return Transition(
        obs=jax.random.normal(keys[1], (*shape, *spec.obs.shape)),
        action=jax.random.uniform(keys[2], (*shape, *spec.action.shape), minval=-1),
        reward=jax.random.normal(keys[3], shape),
        discount=1 - ends.astype(float),
        next_obs=jax.random.normal(keys[4], (*shape, *spec.obs.shape)),
        last=ends,
    )


def ring(key: Key) -> Transition:
    """A full replay."""
    return transitions(key, 1, HELD, 1)


def from_ring(data: Transition, key: Key) -> Transition:
    """A batch `[BATCH]`, as the off-policy loop draws it."""
    return replay.sample(data, jnp.int32(HELD), key, BATCH)


def rollout(key: Key, steps: int = 128, envs: int = 16) -> Transition:
    """A rollout `[T, N]`."""
    return transitions(key, steps, envs)


def whole(data: PyTree, key: Key) -> PyTree:
    """The same rollout in every update."""
    del key
    return data


def windows(key: Key, length: int = 20, episode: int = 1024) -> segments.Windows:
    """All windows of episodes of equal length."""
    row = jnp.arange(HELD, dtype=jnp.int32)[None]
    timestep = row % episode
    data = transitions(key, 1, HELD)
    steps = Steps(data.obs, data.action, data.reward, data.discount, timestep == episode - 1)
    start = row.reshape(-1, episode)[:, :-1].reshape(1, -1)  # but for the final observations
    count = jnp.array([start.size])
    return segments.Windows(
        steps, data.reward, timestep, episode - 1 - timestep, start, count, length=length
    )


def from_windows(data: segments.Windows, key: Key) -> Segment:
    """A batch `[64, K]`, as the offline loop draws it."""
    return segments.draw(data, key, 64)


@dataclass(frozen=True)
class Case:
    """An agent at the sizes that are compared."""

    module: ModuleType
    config: Any
    length: int = 100  # updates per compiled program
    taken: float = 1.0  # share of updates that take the dearer branch of a `cond`
    data: Callable[[Key], PyTree] = ring
    draw: Callable[[PyTree, Key], PyTree] = from_ring
    beside: str | None = None  # the case whose cost this one's is divided by
    host: bool = False  # also end to end on Gymnasium's HalfCheetah-v5
    simulated: on_policy.Config | None = None  # also end to end on SIMULATOR, with these rollouts


SIMULATOR = "brax/hopper?backend=spring"
SAC, DSAC = sac.Config(), dsac.Config()
DT = decision_transformer.Config(unroll=jax.default_backend() == "cpu")
PPO = ppo.Config(  # what `peers/brax_ppo.py` sets, and brax's defaults
    gamma=0.97,
    learning_rate=3e-4,
    adam_eps=1e-8,
    max_grad_norm=None,
    epochs=4,
    minibatches=8,
    clip=0.3,
    value_clip=None,
    entropy_cost=1e-2,
    reward_scale=10.0,
    normalize_obs=True,
    squash=True,
    hidden=(32,) * 4,
    critic_hidden=(256,) * 5,
    activation="swish",
    blocks=8,
)
CASES = {
    "sac": Case(sac, SAC, host=True),
    "dsac": Case(
        dsac, replace(DSAC, hidden=SAC.hidden), taken=1 / DSAC.delay, beside="sac", host=True
    ),
    "ppo": Case(ppo, ppo.Config(), length=1, data=rollout, draw=whole),
    "ppo_brax": Case(
        ppo,
        PPO,
        length=1,
        data=partial(rollout, steps=20, envs=256),
        draw=whole,
        simulated=on_policy.Config(envs=256, steps=20),
    ),
    "bc": Case(bc, bc.Config()),
    "td3_bc": Case(td3_bc, td3_bc.Config(), taken=1 / td3_bc.Config().delay),
    "iql": Case(iql, iql.Config()),
    "cql": Case(cql, cql.Config(parts=16 if jax.default_backend() == "cpu" else 1), length=10),
    "decision_transformer": Case(
        decision_transformer, DT, length=10, data=windows, draw=from_windows
    ),
    "decision_mamba": Case(
        decision_transformer,
        replace(DT, backbone="mamba"),
        length=10,
        data=windows,
        draw=from_windows,
        beside="decision_transformer",
    ),
}
