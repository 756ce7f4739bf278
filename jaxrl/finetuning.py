"""Going on online from an offline run, or starting online with demonstrations.

A batch is made of two sources, a stated share of it from the dataset and the rest from replay. An
agent that goes on acts from the first step, and learns through the scaling of its run.
"""

import dataclasses
import importlib
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import checkpoint, experiment, loading, offline, policies, scaling
from jaxrl.agents import sac
from jaxrl.data import mixing, sources
from jaxrl.errors import UserError
from jaxrl.loops import Loop, acting, off_policy
from jaxrl.types import Agent, Key, Learner, Policy, PyTree, State

ALGORITHMS = ("sac", "td3_bc", "cql", "iql")  # which learn from transitions, and explore


@dataclasses.dataclass(frozen=True)
class Config(offline.Data, experiment.Config):
    """Flags of fine-tuning; whatever `run` was asked for is their default."""

    env: str = ""  # the run's, or the dataset's
    run: Path | None = None  # to go on from; without one, SAC starts afresh
    offline_share: float = 0.5  # of every batch, from the dataset
    agent: Any = sac.Config()
    loop: off_policy.Config = off_policy.Config()


def defaults(run: str | None) -> Config:
    """The settings of an offline run, as far as they are asked for here.

    A schedule of the learning rate is left out: where the run is over, it would stand at zero.

    Raises:
      UserError: there is no such run, it is a sweep, or of an agent that cannot go on online.
    """
    if run is None:
        return Config()
    settings = checkpoint.of_one_setting(run)
    if settings["algorithm"] not in ALGORITHMS:
        known = ", ".join(ALGORITHMS)
        raise UserError(f"run: {run} is of {settings['algorithm']}, expected one of {known}")
    kept = {f.name for f in dataclasses.fields(offline.Data)} | {"env", "seed", "num_seeds"}
    values = {"dataset": ""} | {n: _tupled(x) for n, x in settings.items() if n in kept}
    agent = checkpoint.config_of(settings)
    if hasattr(agent, "decay_steps"):
        agent = dataclasses.replace(agent, decay_steps=0)
    loop = off_policy.Config(warmup_actions="agent")
    return Config(run=Path(run), agent=agent, loop=loop, **values)


def _tupled(x: Any) -> Any:
    return tuple(x) if isinstance(x, list) else x


def train(config: Config) -> None:
    """Learn online from replay and the dataset, scoring and logging at every report.

    Raises:
      UserError: a run, a task, a dataset or a setting that cannot be used.
    """
    if not config.dataset:
        raise UserError(f"dataset: {config.run} learned from none, expected one to mix in")
    source = sources.find(config.dataset, config.repair)
    algorithm = algorithm_of(config)
    config = offline.resolved(config, algorithm, source, "finetune-")
    env = offline.task(config, source.spec)
    if env is None:
        raise UserError(f"env: the dataset {config.dataset} names none, expected one to act in")
    blocks = config.blocks or acting.default_blocks(config.loop.envs)
    check(config, blocks)
    dataset = loading.load(config, source, blocks)
    around = scaling_of(config, dataset)
    dataset = loading.with_returns(config, dataset, around)
    mix = partial(mixing.two_sources, config.offline_share)
    seeds = range(config.seed, config.seed + config.num_seeds)

    def build(config: Config) -> tuple[Loop, Policy]:
        agent = scaling.scaled(algorithm.make(env.spec, config.agent), around)
        agent = going_on(agent, config.run, seeds) if config.run else agent
        loop = experiment.off_policy_loop(config, agent, env, mix=mix, data=(dataset,))
        return loop, policies.memoryless(agent)

    experiment.run(config, algorithm, build, env.spec, env, scaling=around)


def algorithm_of(config: Config) -> ModuleType:
    """The module of the agent, which its settings come from."""
    return importlib.import_module(type(config.agent).__module__)


def check(config: Config, blocks: int) -> None:
    """Refuse what cannot be right."""
    mixing.offline_rows(config.offline_share, config.loop.batch_size, blocks)
    found = checkpoint.settings(config.run) if config.run else {}
    for name in ("reward", "normalize_obs") if "scaling" in found else ():
        if getattr(config, name) != found[name]:
            raise UserError(
                f"{name}: found {getattr(config, name)}, expected {found[name]}, as in {config.run}"
            )
    if config.loop.n_step > 1 and config.reward != "raw":
        raise UserError("loop.n_step: rewards are transformed after they are summed; expected 1")


def scaling_of(config: Config, dataset: Any) -> scaling.Scaling:
    """The scaling that the run learned with, or else that which the settings ask for."""
    found = checkpoint.settings(config.run) if config.run else {}
    if "scaling" not in found:
        return loading.scaling_of(config, dataset)
    return checkpoint.scaling_of(found)


def going_on(agent: Agent, run: Path, seeds: range) -> Agent:
    """The agent, which begins with what seed i of the run has learned where seed i begins.

    Raises:
      UserError: the run has no such seed, or networks of other sizes.
    """
    states = [checkpoint.load(run, seed)[1] for seed in seeds]
    starts = [adopted(agent.init(jax.random.key(0)), state) for state in states]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *starts)
    keys = [jax.random.fold_in(jax.random.key(seed), acting.INIT) for seed in seeds]
    return agent._replace(init=partial(state_of, jnp.stack(keys), stacked))


def state_of(keys: Key, states: State, key: Key) -> State:
    """The one of `states` `[n]` whose key is given; a loop begins every seed with its own."""
    same = jax.random.key_data(keys) == jax.random.key_data(key)[None]
    index = jnp.argmax(same.all(1))
    return jax.tree.map(lambda x: x[index], states)


def adopted(fresh: State, learned: State) -> State:
    """`learned`, but for what the new settings changed the form of: that is fresh.

    A learner whose optimiser is another keeps its parameters.

    Raises:
      UserError: the networks have other sizes.
    """
    return type(fresh)(*map(_adopted, fresh._fields, fresh, learned))


def _adopted(name: str, new: PyTree, old: PyTree) -> PyTree:
    if _shapes(new) == _shapes(old):
        return old
    if new is None or old is None:  # such as a Lagrange multiplier
        return new
    if isinstance(new, Learner) and _shapes(new.params) == _shapes(old.params):
        return new._replace(params=old.params)
    raise UserError(f"agent: its {name} has other sizes than that of the run")


def _shapes(tree: PyTree) -> list[tuple[str, tuple[int, ...]]]:
    """Path and shape of every leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), jnp.shape(x)) for path, x in leaves]
