"""Score a trained run again, from its directory.

    python experiments/evaluate.py --run runs/sac-jaxrl-Pendulum-v1 --episodes 100 --video
    python experiments/evaluate.py --run runs/decision_transformer-... --targets 3600 1800

Prints one JSON object: the mean return, that of every seed (for every member of a sweep), that of
every episode, the share of successes where the task defines them, and with several targets, tried
in one call, the return of each.
"""

import dataclasses
import itertools
import json
from pathlib import Path

import jax
import numpy as np
import tyro

from jaxrl import checkpoint, envs, experiment, offline, provenance, video
from jaxrl.envs import Env, HostEnv, wrappers
from jaxrl.errors import UserError
from jaxrl.loops import evaluate


@dataclasses.dataclass(frozen=True)
class Config:
    """Which run to score, and how."""

    run: Path  # the directory that a script wrote
    episodes: int = 20  # per seed, and per target
    env: str | None = None  # another task than the run's
    targets: tuple[float, ...] = ()  # returns to ask a decision transformer for, one by one
    sampled: bool = False  # draw actions instead of taking the mode
    seed: int = 0  # of the episodes
    video: bool = False  # also record an episode of the first seed


def task(config: Config, settings: dict) -> Env | HostEnv:
    """The task to score in.

    Raises:
      UserError: there is none, or its observations or actions have other shapes than the run's.
    """
    name = config.env or settings["env"]
    if not name:
        raise UserError(f"env: the run in {config.run} names none, expected --env")
    env, spec = envs.make(name), checkpoint.decode_spec(settings["spec"])
    if offline.shapes(env.spec) != offline.shapes(spec):
        raise UserError(
            f"env {name}: observations and actions have shapes {offline.shapes(env.spec)}; those "
            f"of the run have {offline.shapes(spec)}"
        )
    return env


def main(config: Config) -> None:
    """Score a trained run again, from its directory."""
    settings = checkpoint.settings(config.run)
    env = task(config, settings)
    env = wrappers.squash(env) if settings["agent"].get("squash") else env
    greedy = not (config.sampled or settings.get("sampled"))  # some policies have no mode
    episodes, returns = config.episodes * max(len(config.targets), 1), []
    members, first = checkpoint.members(settings), settings["seed"]
    for member, seed in itertools.product(range(len(members)), range(settings["num_seeds"])):
        agent, state = checkpoint.load(config.run, first + seed, member)
        policy = checkpoint.policy_of(members[member], agent, config.targets)
        score = evaluate.make(env, policy, episodes, greedy)
        returns.append(np.asarray(score(state, jax.random.key(config.seed)).returns))
        if config.video and len(returns) == 1:
            video.record(env, policy, state, config.run / "rollout")
    means = np.mean(returns, -1)
    result = {"return_mean": means.mean(), "return": means, "episodes": returns}
    if (enough := envs.success_return(config.env or settings["env"])) is not None:
        result["success"] = np.mean(np.asarray(returns) >= enough, -1)
    if config.targets:
        result["return_of_target"] = np.reshape(returns, (-1, len(config.targets))).mean(0)
    print(json.dumps(provenance.plain(result)))


if __name__ == "__main__":
    experiment.guard(lambda: main(tyro.cli(Config)))
