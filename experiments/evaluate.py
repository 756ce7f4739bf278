"""Score a trained run again, from its directory.

    python experiments/evaluate.py --run runs/sac-jaxrl-Pendulum-v1 --episodes 100 --video

Prints one JSON object: the mean return, that of every seed, and that of every episode.
"""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import tyro

from jaxrl import checkpoint, envs, experiment, policies, provenance, video
from jaxrl.envs import wrappers
from jaxrl.loops import evaluate


@dataclasses.dataclass(frozen=True)
class Config:
    """Which run to score, and how."""

    run: Path  # the directory that a script wrote
    episodes: int = 20  # per seed
    env: str | None = None  # another task than the run's
    sampled: bool = False  # draw actions instead of taking the mode
    seed: int = 0  # of the episodes
    video: bool = False  # also record an episode of the first seed


def main(config: Config) -> None:
    """Score a trained run again, from its directory."""
    settings = checkpoint.settings(config.run)
    env = envs.make(config.env or settings["env"])
    env = wrappers.squash(env) if settings["agent"].get("squash") else env
    returns = []
    for seed in range(settings["seed"], settings["seed"] + settings["num_seeds"]):
        agent, state = checkpoint.load(config.run, seed)
        policy = policies.memoryless(agent)
        score = evaluate.make(env, policy, config.episodes, greedy=not config.sampled)
        returns.append(np.asarray(score(state, jax.random.key(config.seed)).returns))
        if config.video and len(returns) == 1:
            video.record(env, policy, state, config.run / "rollout")
    means = np.mean(returns, -1)
    result = {"return_mean": means.mean(), "return": means, "episodes": returns}
    print(json.dumps(provenance.plain(result)))


if __name__ == "__main__":
    experiment.guard(lambda: main(tyro.cli(Config)))
