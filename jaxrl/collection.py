"""Datasets of a trained run: whose experience, how much of it, and where it came from.

random: uniform actions. expert: the run's final policy. medium: the same of a run that was stopped
early, by `--stop-at-return`. replay: what the run remembers, its newest transitions; of a run that
was stopped early this is what D4RL calls medium-replay. mixed: stated shares of these. Policies
are sampled, not taken by their mode.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from jaxrl import checkpoint, envs, policies, provenance
from jaxrl.data import rollouts
from jaxrl.data.episodes import Episode
from jaxrl.envs import Env, HostEnv
from jaxrl.errors import UserError, check_range
from jaxrl.loops import collect
from jaxrl.types import Agent, Key, Policy, Transition


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Shares of the transitions, which add up to one."""

    random: float = 0.0
    medium: float = 0.5
    replay: float = 0.5
    expert: float = 0.0


KINDS = tuple(field.name for field in dataclasses.fields(Mixture))


@dataclasses.dataclass(frozen=True)
class Config:
    """Which run to collect from, and what."""

    run: Path  # the directory that a script wrote
    out: Path  # a new directory; read it as the dataset local/OUT
    kind: Literal["random", "medium", "replay", "expert", "mixed"] = "expert"
    steps: int = 100_000  # transitions
    seed: int = 0  # of the collection
    of_seed: int | None = None  # which of the run's seeds acts; the first
    envs: int = 10  # environments side by side; their last episodes are cut short
    mixture: Mixture = Mixture()  # of the kind mixed
    medium_run: Path | None = None  # the run of `medium` in a mixture, if not `run`


def sizes(config: Config) -> dict[str, int]:
    """Transitions to collect of every kind.

    Raises:
      UserError: shares are negative or do not add up to one.
    """
    check_range("steps", config.steps, 1)
    check_range("envs", config.envs, 1)
    if config.kind != "mixed":
        return {config.kind: config.steps}
    shares = dataclasses.asdict(config.mixture)
    for kind, share in shares.items():
        check_range(f"mixture.{kind}", share, 0, 1)
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise UserError(f"mixture: found {shares}, expected shares that add up to 1")
    return {kind: round(share * config.steps) for kind, share in shares.items() if share}


def source_of(config: Config, kind: str) -> Path:
    """The run that a kind comes from.

    Raises:
      UserError: `medium` of a run that was not stopped early, or a sweep.
    """
    run = (config.medium_run or config.run) if kind == "medium" else config.run
    settings = checkpoint.of_one_setting(run)
    if kind == "medium" and settings["stop_at_return"] is None:
        raise UserError(
            f"kind medium: the run in {run} was not stopped early; train one with "
            "--stop-at-return, at about a third of what the task allows, and collect from it"
        )
    if not settings["env"] or settings["env"] != checkpoint.settings(config.run)["env"]:
        raise UserError(f"run: {run} is of the task {settings['env'] or 'none'!r}, which cannot be")
    return run


def rows(config: Config, kind: str, size: int, env: Env | HostEnv, key: Key) -> Transition:
    """`size` transitions of a kind, rounded down to whole rows. [T, n, ...]"""
    run, n = source_of(config, kind), min(config.envs, size)
    if kind == "replay":
        ring = rollouts.in_order(*checkpoint.load_replay(run, config.of_seed))
        return rollouts.newest(ring, size)
    agent, state = checkpoint.load(run, config.of_seed)
    policy = collect.uniform(env.spec) if kind == "random" else policy_of(run, agent)
    return collect.rollout(env, policy, state, n, size // n, key)


def policy_of(run: Path, agent: Agent) -> Policy:
    """How the agent of a run acts, in actions that environments take."""
    settings = checkpoint.settings(run)
    policy = checkpoint.policy_of(settings, agent)
    return policies.squashed(policy) if settings["agent"].get("squash") else policy


def episodes(config: Config) -> tuple[list[Episode], dict[str, Any]]:
    """The episodes that the settings ask for, kind after kind, and where they came from.

    Raises:
      UserError: a run, a kind or a share that cannot be used.
    """
    asked = sizes(config)
    runs = {kind: source_of(config, kind) for kind in asked}
    name = checkpoint.settings(config.run)["env"]
    env, collected, parts = envs.make(name), [], {}
    for kind, size in asked.items():
        key = jax.random.fold_in(jax.random.key(config.seed), KINDS.index(kind))
        found = list(rollouts.episodes(rows(config, kind, size, env, key)))
        parts[kind] = {"run": described(runs[kind], config.of_seed), **summary(found)}
        collected += found
    now = provenance.start(0)
    start = {name: now[name] for name in ("commit", "dirty", "versions")}
    about = {"env": name, "kind": config.kind, "seed": config.seed, "parts": parts, **start}
    return collected, provenance.plain(about | summary(collected))


def described(run: Path, seed: int | None) -> dict[str, Any]:
    """What a dataset says of the run that it came from."""
    settings = checkpoint.settings(run)
    start = settings["starts"][-1]
    return {
        "name": run.resolve().name,
        "algorithm": settings["algorithm"],
        "seed": settings["seed"] if seed is None else seed,
        "stop_at_return": settings["stop_at_return"],
        "commit": start["commit"],
        "dirty": start["dirty"],
    }


def summary(found: list[Episode]) -> dict[str, Any]:
    """Number of transitions, and how the returns of the episodes are distributed."""
    returns = np.array([episode.reward.sum(dtype=np.float64) for episode in found])
    quantiles = np.quantile(returns, (0, 0.25, 0.5, 0.75, 1)).tolist()
    return {
        "transitions": sum(len(episode.action) for episode in found),
        "episodes": len(found),
        "return_mean": returns.mean(),
        "return_std": returns.std(),
        "return_quantiles": dict(zip(("min", "25%", "50%", "75%", "max"), quantiles, strict=True)),
    }
