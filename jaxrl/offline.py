"""What the scripts of offline agents share: a dataset by name, made ready, and a run on it.

    offline.train(config, iql)

The dataset stays as it was read, but for the episodes that are left out and the odds of drawing a
transition. What is done to observations and rewards is a `Scaling` around the agent.
"""

import dataclasses
import fnmatch
import json
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import envs, experiment, loading, policies
from jaxrl.data import d4rl, sources
from jaxrl.data.dataset import Dataset, sample
from jaxrl.data.episodes import Source
from jaxrl.envs import Env, HostEnv
from jaxrl.errors import UserError
from jaxrl.loops import Loop, acting
from jaxrl.loops import offline as updates
from jaxrl.scaling import Scaling, scale_obs, scaled
from jaxrl.session import default_directory, name_of
from jaxrl.types import Metrics, Policy, Spec

# Tasks of datasets that name none. Physics and rewards have moved since D4RL's were recorded.
ENVS = {
    "*halfcheetah*": "gymnasium/HalfCheetah-v5",
    "*hopper*": "gymnasium/Hopper-v5",
    "*walker2d*": "gymnasium/Walker2d-v5",
}
LOCOMOTION = tuple(ENVS)
ADROIT = ("*adroit*", "*/pen[-/]*", "*/door[-/]*", "*/hammer[-/]*", "*/relocate[-/]*")
BENCHMARKS = ("d4rl", "tfds", "minari")  # sources whose names are of D4RL's tasks


@dataclasses.dataclass(frozen=True)
class Data:
    """Flags of whatever reads a dataset."""

    dataset: str = "jaxrl/pendulum-mixed-v0"  # source/name
    repair: tuple[Literal["float64", "actions", "tail"], ...] = ()  # mend instead of refusing
    top_fraction: float = 1.0  # keep the episodes of highest return that make up this share
    sampling: Literal["uniform", "return_weighted", "advantage_weighted"] = "uniform"
    sampling_temperature: float = 0.1  # of the weights, whose logarithms span 1 / temperature
    clip_actions: float = 1.0  # bound of the data's actions
    normalize_obs: bool = False  # by the dataset's mean and deviation
    reward: Literal["raw", "locomotion", "antmaze-iql", "antmaze-cql", "antmaze-corl"] = "raw"


@dataclasses.dataclass(frozen=True)
class Config(Data, experiment.Config):
    """Flags of every offline script; `agent` and `loop` come with the algorithm."""

    env: str = ""  # to score in; empty: the dataset's own, or none where it names none
    steps: int = 1_000_000  # updates
    stream: int = 0  # transitions on the device at a time; 0: the whole dataset
    anneal: bool = False  # let the agent's learning rate fall to 0 over `steps`


class View(NamedTuple):
    """What an algorithm draws from a dataset, and how it acts on what it has learned."""

    data: Any  # in blocks
    draw: updates.Draw
    policy: Callable[..., Policy]  # agent, config: its settings
    greedy: bool = True
    facts: Mapping[str, Any] = {}  # what `checkpoint.policy_of` needs beyond the settings
    made: Mapping[str, Any] = {}  # what the algorithm's `make` is given beyond the settings


Viewed = Callable[[Any, Dataset, Scaling], View]  # of the settings and the dataset


def transitions(config: Any, dataset: Dataset, scaling: Scaling) -> View:
    """Single transitions, and acting on the present observation."""
    del config, scaling
    return View(dataset, sample, lambda agent, config: policies.memoryless(agent))


def drawn(algorithm: ModuleType) -> Viewed:
    """Single transitions, and acting by the draws that the algorithm's `scorer` ranks."""

    def view(config: Any, dataset: Dataset, scaling: Scaling) -> View:
        see = partial(scale_obs, scaling)
        policy = partial(policies.own, algorithm=algorithm, spec=dataset.spec, see=see)
        return View(dataset, sample, policy, greedy=False, facts={"sampled": True})

    return view


def train(config: Any, algorithm: ModuleType, view: Viewed = transitions) -> None:
    """Train on the dataset; at every report, score in the task that it is of, and log.

    Raises:
      UserError: a dataset, a task or a setting that cannot be used.
    """
    source = sources.find(config.dataset, config.repair)
    config = annealed(resolved(config, algorithm, source))
    env = task(config, source.spec)
    blocks = config.blocks or default_blocks(config, source)
    dataset, scaling, learning = loading.opened(config, source, blocks)
    seen = view(config, dataset, scaling)

    def build(config: Any) -> tuple[Loop, Policy]:
        agent = scaled(algorithm.make(dataset.spec, config.agent, **seen.made), scaling)
        return learning(agent, seen.data, seen.draw), seen.policy(agent, config=config.agent)

    facts, more = {"scaling": scaling, **seen.facts}, partial(normalized, config)
    experiment.run(config, algorithm, build, dataset.spec, env, seen.greedy, more, **facts)


def resolved(config: Any, algorithm: ModuleType, source: Source, kind: str = "") -> Any:
    """The settings with the task and the directory that the dataset implies."""
    env = config.env or env_of(config.dataset, source.metadata)
    out = config.out or default_directory(kind + name_of(algorithm), config.dataset)
    return dataclasses.replace(config, env=env, out=out)


def annealed(config: Any) -> Any:
    """The settings with the length of the agent's schedule: the run's, unless one was set.

    Raises:
      UserError: the agent has no schedule.
    """
    if not config.anneal:
        return config
    if not hasattr(config.agent, "decay_steps"):
        raise UserError("anneal: found True, but the agent's learning rate has no schedule")
    agent = config.agent
    if agent.decay_steps != type(agent)().decay_steps:
        return config
    steps = max(config.steps, getattr(agent, "warmup_steps", 0) + 1)
    return dataclasses.replace(config, agent=dataclasses.replace(agent, decay_steps=steps))


def env_of(dataset: str, metadata: Mapping[str, Any]) -> str:
    """The task that a dataset is of: by its metadata, else by its name, else empty."""
    if "env" in metadata:
        return str(metadata["env"])
    if spec := metadata.get("env_spec"):  # Minari's
        return f"gymnasium/{json.loads(spec)['id']}"
    return next((env for name, env in ENVS.items() if fnmatch.fnmatch(dataset, name)), "")


def task(config: Any, spec: Spec) -> Env | HostEnv | None:
    """The environment to score in, if there is one.

    Raises:
      UserError: it is not that of the dataset, or a flag needs what it has not.
    """
    if not config.env:
        if config.video or config.stop_at_return is not None:
            raise UserError(f"env: video and stop_at_return need one; {config.dataset} names none")
        return None
    env = envs.make(config.env)
    experiment.check_drawn(config, env)
    if shapes(env.spec) != shapes(spec):
        raise UserError(
            f"env {config.env}: observations and actions have shapes {shapes(env.spec)}; "
            f"those of {config.dataset} have {shapes(spec)}"
        )
    return env


def shapes(spec: Spec) -> Any:
    """Shapes of observations and actions, to be compared and printed."""
    return jax.tree.map(lambda s: s.shape, (spec.obs, spec.action))


def default_blocks(config: Any, source: Source) -> int:
    """The default of the run, or fewer where there are fewer episodes."""
    most = acting.default_blocks(config.loop.batch_size)
    return next(d for d in (8, 4, 2, 1) if d <= min(most, max(1, len(source.lengths))))


def normalized(config: Any, scores: Metrics) -> Metrics:
    """D4RL's normalised score of every seed, where its references are known."""
    name = reference_name(config)
    if not scores or name is None:
        return {}
    returns = np.asarray(scores["return"])
    return {"normalized_score": jnp.asarray(d4rl.normalized_score(name, returns))}


def reference_name(config: Any) -> str | None:
    """D4RL's name of the task: its environment's, or a part of the dataset's name."""
    source, _, dataset = config.dataset.partition("/")
    backend, _, name = config.env.partition("/")
    if backend not in ("", "gymnasium"):
        return None
    words = dataset.replace("_", "-").replace("/", "-").split("-")
    parts = ["-".join(words[i:]) for i in range(len(words))] if source in BENCHMARKS else []
    return next(filter(d4rl.known, [name.rpartition(":")[2], *parts]), None)
