"""What every experiment script shares: its flags, its presets, and how it is launched.

A script names its algorithm and its loop, and has them run:

    experiment.online(config, sac, experiment.off_policy_loop, envs.make(config.env))

`launch(main, tyro.cli, PRESETS)` adds the flags, the exit codes and one-line errors.
"""

import dataclasses
import fnmatch
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import jax
import numpy as np

from jaxrl import envs, parallel, paths, policies, population, processes
from jaxrl.envs import Env, HostEnv
from jaxrl.errors import UserError, check_range
from jaxrl.loops import Loop, evaluate, host, host_on_policy, off_policy, on_policy
from jaxrl.processes import ProcessConfig
from jaxrl.session import Preempted, Session, count_compiling, fitted, members_of
from jaxrl.types import Agent, Metrics, Policy, Spec

EXTRA_OPTIONS = "--xla_backend_extra_options"
# Below so many bytes that a loop touches, CPUs run it as one function.
SMALL_LOOPS = f"{EXTRA_OPTIONS}=xla_cpu_small_while_loop_byte_threshold={2**18}"


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
    sweep: population.Sweep = population.Sweep()  # numbers of the agent to try side by side
    mesh: parallel.MeshConfig = parallel.MeshConfig()
    processes: ProcessConfig = ProcessConfig()
    checkpoint_every: float = 120.0  # seconds
    writers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    video: bool = False  # record an episode at the end
    cache: Path | None = Path("~/.cache/jaxrl")  # of compiled programs


def online(
    config: Any,
    algorithm: ModuleType,
    play: Callable[[Any, Agent, Any], Loop],
    env: Env | HostEnv,
) -> None:
    """Learn in `env` by `off_policy_loop` or `on_policy_loop`."""

    def build(config: Any) -> tuple[Loop, Policy]:
        agent = algorithm.make(env.spec, config.agent)
        return play(config, agent, env), policies.memoryless(agent)

    run(config, algorithm, build, env.spec, env)


def run(
    config: Any,
    algorithm: ModuleType,
    build: Callable[[Any], tuple[Loop, Policy]],
    spec: Spec,
    env: Env | HostEnv | None,
    greedy: bool = True,
    more: Callable[[Metrics], Metrics] = lambda scores: {},
    **facts: Any,
) -> None:
    """Train a loop, score a policy in `env` and log at every report, and record a video if asked.

    A script that wants something else between reports writes these lines out.

    Args:
      build: the loop, of one seed on one device, and the policy that settings stand for.
      spec: what the agent was made for.
      env: None scores nothing.
      more: what to log of the scores beside them.
      facts: what `config.json` holds beyond the settings.
    """
    loop, policy, values = members(config, build)
    score = evaluate.make(env, policy, config.episodes, greedy) if env else None
    if loop.seeds and not loop.placed:  # environments on the host play one seed after another
        config = dataclasses.replace(config, seeds="map")
    config = fitted(config, loop, members_of(config, values))
    with Session(config, algorithm, spec, values, **facts) as session:
        for run, metrics in session.train(loop):
            scores = session.scores(score, run) if score else {}
            session.log(metrics | scores | more(scores))
        if env:
            session.record(env, policy)
        if values and env and np.isfinite(session.returns).all():
            tell(config, session.returns)


def members(config: Any, build: Callable) -> tuple[Loop, Policy, population.Values]:
    """What `build` gives, or with `--sweep` the same for every combination of settings and seed.

    Raises:
      UserError: environments on the host cannot be played by one program, or a value decides it.
    """
    points = population.grid(dataclasses.asdict(config.sweep.agent))
    loop, policy = build(member(config, points[0]))
    if len(points) == 1:
        return loop, policy, {}
    if loop.seeds:
        raise UserError("sweep: streamed data and environments on the host take one setting")
    for point in points[1:]:
        build(member(config, point))  # refuses what is out of range, which a tracer would hide
    settings = [dataclasses.replace(config.agent, **point) for point in points]
    _, values = population.varied([s for s in settings for _ in range(config.num_seeds)])
    _check_traceable(lambda values: build(member(config, values)), values)

    def loop_of(values: Any) -> Loop:
        return build(member(config, values))[0]

    def policy_of(values: Any) -> Policy:
        return build(member(config, values))[1]

    return population.play(loop_of, values), population.policy(policy_of, values), values


def tell(config: Any, returns: np.ndarray) -> None:
    """Print what every member of a sweep came to, from the `returns` of all seeds of each."""
    points = population.grid(dataclasses.asdict(config.sweep.agent))
    for point, seeds in zip(points, returns.reshape(len(points), -1), strict=True):
        settings = " ".join(f"{name} {value:g}" for name, value in point.items())
        processes.tell(f"{settings}: return {seeds.mean():.1f}, {len(seeds)} seeds")


def _check_traceable(make: Callable, values: population.Values) -> None:
    try:
        jax.eval_shape(lambda values: (make(values), 0)[1], population.member_of(values, 0))
    except jax.errors.ConcretizationTypeError:
        raise UserError(
            f"sweep: a value of {', '.join(values)} decides the program; run it one by one"
        ) from None


def member(config: Any, values: Mapping[str, Any]) -> Any:
    """The settings of one member of a sweep."""
    return changed(config, agent=values)


def off_policy_loop(config: Any, agent: Agent, env: Env | HostEnv, **sources: Any) -> Loop:
    """The off-policy loop for an environment of either kind; `sources` are its `mix` and `data`."""
    loop = _online(off_policy, host, config, agent, env, **sources)
    if -(-config.steps // config.loop.iteration_steps) < config.loop.warmup_iterations:
        processes.tell(
            f"note: nothing is learned in {config.steps} steps; updates begin at "
            f"loop.warmup {config.loop.warmup}"
        )
    return loop


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
        jax.config.update("jax_compilation_cache_dir", str(paths.of(config.cache)))
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
    task = processes.given(by, argv) or getattr(next(iter(presets.values())), by)
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
        default = placed(population.sweepable(preset(presets, sys.argv[1:], discrete, by)))
        main(prepare(parse(type(default), default=default, description=main.__doc__)))

    guard(run)


def placed(config: Any) -> Any:
    """The settings with the mesh that the environment asks for, unless a flag will."""
    return dataclasses.replace(config, mesh=parallel.mesh_of_environment())


def compile_small_loops() -> None:
    """Have XLA compile a small loop on CPUs into one function; call it before JAX has devices.

    Random bits are such a loop of many tiny operations, each of which is dispatched otherwise. The
    extra options of a user stay as they are, and so does the name of a file of flags.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if EXTRA_OPTIONS not in flags and flags.strip()[:1] in ("", "-"):
        os.environ["XLA_FLAGS"] = f"{flags} {SMALL_LOOPS}".strip()


def guard(main: Callable[[], None]) -> None:
    """Run a script: exits with 2 and one line at a user's error, 143 after SIGTERM, 130 by Ctrl-C.

    With several processes whatever else goes wrong ends this one at once, so that the others, which
    wait for it, end too.
    """
    compile_small_loops()
    try:
        processes.connect(processes.flags(sys.argv[1:]))
        main()
    except UserError as error:
        processes.leave(2, f"error: {error}")
    except Preempted as stop:
        saved = "terminated: the run is saved, and the same command resumes it"
        processes.leave(128 + stop.args[0], saved)
    except Exception as error:
        if processes.alone():
            raise
        traceback.print_exc()
        processes.leave(1, f"error: {type(error).__name__}: {error}")
