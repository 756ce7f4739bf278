"""SAC of sbx-rl, driven by `benchmarks.peer`: a line in names a measure, a line out is its rate.

It runs in the peers' own environment, so it imports nothing of ours.
"""

import sys
from collections.abc import Callable

import gymnasium
import jax
import numpy as np
import serving
from gymnasium.spaces import Box
from sbx import SAC

OBSERVATIONS, ACTIONS, BATCH = 17, 6, 256
PACKAGES = ("sbx-rl", "stable-baselines3", "jax", "flax", "gymnasium", "mujoco", "torch")


class Shapes(gymnasium.Env):
    """Spaces alone: what an agent is built for where nothing is played."""

    observation_space = Box(-np.inf, np.inf, (OBSERVATIONS,), np.float32)
    action_space = Box(-1, 1, (ACTIONS,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(OBSERVATIONS, np.float32), {}


def updates(held: int = 131_072, chunk: int = 100) -> tuple[Callable[[], None], int]:
    """Updates from a full replay, `chunk` to a compiled program."""
    model = SAC("MlpPolicy", Shapes(), buffer_size=held, batch_size=BATCH, seed=0)
    model._setup_learn(1)
    rng, replay = np.random.default_rng(0), model.replay_buffer
    replay.observations[:] = rng.normal(size=replay.observations.shape)
    replay.next_observations[:] = rng.normal(size=replay.next_observations.shape)
    replay.actions[:] = rng.uniform(-1, 1, replay.actions.shape)
    replay.rewards[:] = rng.normal(size=replay.rewards.shape)
    replay.full = True

    def play() -> None:
        model.train(chunk, BATCH)
        jax.block_until_ready(model.policy.qf_state.params)

    return play, chunk


def environment(warmup: int = 1_000, chunk: int = 250) -> tuple[Callable[[], None], int]:
    """HalfCheetah-v5 end to end: one update per step, after `warmup` random steps."""
    model = SAC("MlpPolicy", "HalfCheetah-v5", learning_starts=warmup, batch_size=BATCH, seed=0)
    model.learn(warmup + chunk)
    return lambda: model.learn(chunk, reset_num_timesteps=False), chunk


def main() -> None:
    """Answer until there is nothing more to read."""
    serving.introduce(PACKAGES, jax.default_backend(), sys.stdout)
    serving.serve({"updates": updates, "environment": environment}, sys.stdout)


if __name__ == "__main__":
    main()
