"""What every experiment script shares: its flags, its presets, and how it is launched.

A script builds an agent and a loop, and has them run:

    loop = experiment.off_policy_loop(config, agent, env)
    experiment.run(config, sac, loop, env.spec, env, policies.memoryless(agent))

`launch(main, tyro.cli, PRESETS)` adds the flags, the exit codes and one-line errors.
"""

import dataclasses
import fnmatch
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import jax

from jaxrl import envs, parallel
from jaxrl.envs import Env, HostEnv
from jaxrl.errors import UserError, check_range
from jaxrl.loops import Loop, evaluate, host, host_on_policy, off_policy, on_policy
from jaxrl.session import Preempted, Session, count_compiling
from jaxrl.types import Agent, Metrics, Policy, Spec

TERMINATED = 128 + signal.SIGTERM


@dataclasses.dataclass(frozen=True)
class Config:
    """Flags of every script; `agent` and `loop` come with the algorithm."""

    env: str = "jaxrl/Pendulum-v1"  # backend/Name, or package.module:function
    steps: int = 10_000  # environment steps per seed online, updates offline
    num_seeds: int = 1
    seed: int = 0  # seed i of the run is the run with this seed plus i
    out: Path | None = None  # default: runs/ALGORITHM-ENV
    blocks: int = 0  # fixed blocks of whatever has a batch axis; 0: largest divisor of 8 that fits
    episodes: int = 20  # per evaluation
    stop_at_return: float | None = None  # stop when every seed's mean return is at least this
    precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    seeds: parallel.How = "auto"  # in turn (map) or in one program (vmap)
    mesh: parallel.MeshConfig = parallel.MeshConfig()
    checkpoint_every: float = 120.0  # seconds
    writers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    video: bool = False  # record an episode at the end
    cache: Path | None = Path("~/.cache/jaxrl")  # of compiled programs


def run(
    config: Any,
    algorithm: ModuleType,
    loop: Loop,
    spec: Spec,
    env: Env | HostEnv | None,
    policy: Policy,
    greedy: bool = True,
    more: Callable[[Metrics], Metrics] = lambda scores: {},
    **facts: Any,
) -> None:
    """Train `loop`, score `policy` in `env` and log at every report, and record a video if asked.

    A script that wants something else between reports writes these lines out.

    Args:
      spec: what the agent was made for.
      env: None scores nothing.
      more: what to log of the scores beside them.
      facts: what `config.json` holds beyond the settings.
    """
    score = evaluate.make(env, policy, config.episodes, greedy) if env else None
    with Session(config, algorithm, spec, **facts) as session:
        for run, metrics in session.train(loop):
            scores = session.scores(score, run) if score else {}
            session.log(metrics | scores | more(scores))
        if env:
            session.record(env, policy)


def off_policy_loop(config: Any, agent: Agent, env: Env | HostEnv, **sources: Any) -> Loop:
    """The off-policy loop for an environment of either kind; `sources` are its `mix` and `data`."""
    return _online(off_policy, host, config, agent, env, **sources)


def on_policy_loop(config: Any, agent: Agent, env: Env | HostEnv) -> Loop:
    """The on-policy loop for an environment of either kind."""
    return _online(on_policy, host_on_policy, config, agent, env)


def _online(
    on_device: ModuleType, on_host: ModuleType, config: Any, agent: Agent, env: Any, **sources: Any
) -> Loop:
    check_drawn(config, env)
    args = (agent, env, config.loop, config.blocks, config.agent.gamma)
    if isinstance(env, HostEnv):
        return on_host.make(*args, num_seeds=config.num_seeds, **sources)
    return on_device.make(*args, **sources)


def check_drawn(config: Any, env: Env | HostEnv) -> None:
    """Refuse a video of what has no pictures.

    Raises:
      UserError: names the environment.
    """
    if config.video and env.render is None:
        raise UserError(f"video: env {config.env} cannot be drawn")


def prepare(config: Any) -> Any:
    """Check the common flags, set what is global to the process, and pass precision on.

    Raises:
      UserError: a size is not positive.
    """
    for name in ("steps", "num_seeds", "episodes"):
        check_range(name, getattr(config, name), 1)
    check_range("checkpoint_every", config.checkpoint_every, 0)
    check_range("seed", config.seed, 0)
    jax.config.update("jax_default_matmul_precision", config.precision)
    if config.cache:
        jax.config.update("jax_compilation_cache_dir", str(config.cache.expanduser()))
    count_compiling()
    if config.precision != "bfloat16":
        return config
    return dataclasses.replace(config, agent=dataclasses.replace(config.agent, dtype="bfloat16"))


def changed(config: Any, agent: Any = (), loop: Any = (), **run: Any) -> Any:
    """Settings with some fields replaced, of the agent's, of the loop's and of the run's own."""
    replace = dataclasses.replace
    parts = {"agent": replace(config.agent, **dict(agent))}
    parts["loop"] = replace(config.loop, **dict(loop))
    return replace(config, **parts, **run)


def given(name: str, argv: Sequence[str]) -> str | None:
    """The value of `--name` on a command line that has not been read yet."""
    flags = dict(zip(argv, [*argv[1:], ""], strict=True))
    flags |= dict(arg.split("=", 1) for arg in argv if arg.startswith("--") and "=" in arg)
    return flags.get(f"--{name}")


def preset(
    presets: Mapping[str, Any],
    argv: Sequence[str],
    discrete: Mapping[str, Any] | None = None,
    by: str = "env",
) -> Any:
    """The settings of the first pattern that matches the task on the command line.

    Args:
      presets: patterns of tasks (`gymnasium/*`) and their settings; the first is the default.
      discrete: the same for tasks of discrete actions, where these need another algorithm.
      by: the setting that patterns are of: `env`, or `dataset`.
    """
    task = given(by, argv) or getattr(next(iter(presets.values())), by)
    if discrete and envs.make(task).spec.discrete:
        presets = discrete
    found = [config for pattern, config in presets.items() if fnmatch.fnmatch(task, pattern)]
    return dataclasses.replace((found or list(presets.values()))[0], **{by: task})


def launch(
    main: Callable[[Any], None],
    parse: Callable,
    presets: Mapping[str, Any],
    discrete: Mapping[str, Any] | None = None,
    by: str = "env",
) -> None:
    """Run `main` on the flags, read by `parse` over the preset of the task they name."""

    def run() -> None:
        default = preset(presets, sys.argv[1:], discrete, by)
        main(prepare(parse(type(default), default=default, description=main.__doc__)))

    guard(run)


def guard(main: Callable[[], None]) -> None:
    """Run a script: exits with 2 and one line at a user's error, with 143 after SIGTERM."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Preempted:
        print("terminated: the run is saved, and the same command resumes it", file=sys.stderr)
        sys.exit(TERMINATED)
