"""What every experiment script shares: flags, directory, seeds, mesh, resuming and stopping.

A script builds an agent, a loop and a score, and then says what to do with each report:

    with experiment.Session(config, sac, env.spec) as session:
        for run, metrics in session.train(loop):
            session.log(metrics | session.scores(score, run))

`launch(main, tyro.cli, PRESETS)` adds the flags, the exit codes and one-line errors.
"""

import dataclasses
import fnmatch
import functools
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import checkpoint, loops, parallel, provenance, report, video
from jaxrl.envs import Env, HostEnv
from jaxrl.errors import UserError, check_range
from jaxrl.loops import Loop, Run, host, host_on_policy, off_policy, on_policy
from jaxrl.types import Agent, Metrics, Policy, Spec, State

SCORE_KEY = 2**31 - 1  # every seed and every report is scored from the same starts
FREE = (*provenance.FREE, "checkpoint_every", "seeds", "cache")
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


class Preempted(Exception):
    """SIGTERM arrived, and everything has been saved."""


class Session:
    """An open run: its directory, its devices, and how far it has come."""

    def __init__(self, config: Any, algorithm: ModuleType, spec: Spec):
        self.config = config
        self.mesh = parallel.start(config.mesh)
        self.directory = directory_of(config, algorithm)
        self.settings = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)} | {
            "algorithm": algorithm.__name__.rpartition(".")[2],
            "spec": checkpoint.encode_spec(spec),
            "seeds": self._how(),
        }
        provenance.check(self.directory, self.settings, FREE)
        self.keys = jnp.stack([jax.random.key(config.seed + i) for i in range(config.num_seeds)])
        self.step = 0
        self.returns = np.full(config.num_seeds, -np.inf)
        self.terminated = False

    def _how(self) -> str:
        """How seeds are run; a resumed run keeps its way, whatever the devices are now."""
        if (self.directory / "config.json").exists():
            return checkpoint.settings(self.directory)["seeds"]
        return parallel.how_seeds(self.config.seeds, self.mesh)

    def __enter__(self) -> Self:
        self.previous = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def _terminate(self, *_: Any) -> None:
        self.terminated = True

    def __exit__(self, *_: Any) -> None:
        signal.signal(signal.SIGTERM, self.previous)

    def train(self, loop: Loop) -> Iterator[tuple[Run, Metrics]]:
        """Play `loop`, of one seed on one device, for all seeds and over the mesh.

        Goes on from the newest checkpoint if there is one. Saves by the clock, at the end and at
        SIGTERM, upon which it raises `Preempted`.
        """
        loop = self._placed(loop)
        loops.check_memory(loop, self.keys)
        every = self.config.checkpoint_every
        with checkpoint.Checkpoints(self.directory / "checkpoints", every) as saved:
            self._at(saved.resume(lambda: loop.begin(jax.random.clone(self.keys))))
            with self._report() as self.report:
                yield from self._play(loop, saved)

    def _play(self, loop: Loop, saved: checkpoint.Checkpoints) -> Iterator[tuple[Run, Metrics]]:
        each = self.config.loop.iteration_steps
        total, every = -(-self.config.steps // each), max(1, self.config.loop.report_every // each)
        playing = loops.train(loop, self.keys, self.run, total, every, lambda: self.terminated)
        for run, metrics in playing:
            self._at(run)
            self._refuse_non_finite(run)
            if self.terminated:
                break
            yield run, metrics
            if self._reached():
                break
            if saved.due():
                saved.save(self.step, run)
        if not (saved.save(self.step, self.run) and saved.wait()):
            raise UserError(f"out: the last state could not be saved in {self.directory}")
        if self.terminated:
            raise Preempted

    def _placed(self, loop: Loop) -> Loop:
        loop = loops.seeds(loop, self.config.num_seeds, self.settings["seeds"])
        if self.mesh.size == 1:
            return loop
        return loops.shard(loop, self.mesh, parallel.run_rules(self.mesh, self.config.num_seeds))

    def _report(self) -> report.Report:
        config = self.config
        return report.open(
            self.directory, self.settings, config.steps, self.step, config.writers, FREE
        )

    def _at(self, run: Run) -> None:
        self.run = run
        self.step = int(loops.step_of(run)) * self.config.loop.iteration_steps

    def _reached(self) -> bool:
        goal = self.config.stop_at_return
        return goal is not None and bool((self.returns >= goal).all())

    def _refuse_non_finite(self, run: Run) -> None:
        failed = [np.max(r.env.failed_at) for r in runs_of(run) if hasattr(r.env, "failed_at")]
        if max(failed, default=-1) < 0:
            return
        with checkpoint.Checkpoints(self.directory / "failed") as saved:
            saved.save(self.step, run)
        first = min(at for at in failed if at >= 0) * self.config.loop.iteration_steps
        raise UserError(
            f"env {self.config.env}: a non-finite observation or reward at step {first}; "
            f"the state at step {self.step} is saved in {self.directory / 'failed'}"
        )

    def scores(self, score: Callable, run: Run) -> Metrics:
        """Mean return and length of the episodes of `score(state, key)`. Arrays `[num_seeds]`."""
        key = jax.random.key(SCORE_KEY)
        if isinstance(run, Run):
            axes = parallel.seed_axes(run.state)
            scores = _vmapped(score, axes)(run.state, key)
        else:
            all_scores = [score(r.state, jax.random.clone(key)) for r in run]
            scores = jax.tree.map(lambda *x: np.stack(x), *all_scores)
        self.returns = np.asarray(scores.returns).mean(-1)
        return {"return": self.returns, "episode_length": np.asarray(scores.lengths).mean()}

    def record(self, env: Env | HostEnv, policy: Policy) -> None:
        """With `--video`, write a greedy episode of the first seed into the directory."""
        if not self.config.video:
            return
        state = first_state(self.run)
        written = video.record(env, policy, state, self.directory / "rollout")
        print(f"video: {written}", file=sys.stderr)

    def log(self, metrics: Metrics) -> None:
        """Send one record to the terminal, the files and the writers."""
        self.report.log(self.step, metrics | {"compile_seconds": compile_seconds()})


@functools.cache
def _vmapped(score: Callable, axes: Any) -> Callable:
    return jax.jit(jax.vmap(score, (axes, None)))


def first_state(run: Run | tuple[Run, ...]) -> State:
    """The agent's state of the first seed."""
    if not isinstance(run, Run):
        return run[0].state
    return checkpoint.pick(run.state, 0)


def runs_of(run: Run | tuple[Run, ...]) -> tuple[Run, ...]:
    """The runs of all seeds, or the one run that holds them all."""
    return (run,) if isinstance(run, Run) else run


def directory_of(config: Any, algorithm: ModuleType) -> Path:
    """`--out`, or a directory named after the algorithm and the task."""
    name = f"{algorithm.__name__.rpartition('.')[2]}-{config.env}".replace("/", "-")
    return Path(config.out or Path("runs") / name).expanduser()


def off_policy_loop(config: Any, agent: Agent, env: Env | HostEnv) -> Loop:
    """The off-policy loop for an environment of either kind."""
    return _online(off_policy, host, config, agent, env)


def on_policy_loop(config: Any, agent: Agent, env: Env | HostEnv) -> Loop:
    """The on-policy loop for an environment of either kind."""
    return _online(on_policy, host_on_policy, config, agent, env)


def _online(
    on_device: ModuleType, on_host: ModuleType, config: Any, agent: Agent, env: Any
) -> Loop:
    if config.video and env.render is None:
        raise UserError(f"video: env {config.env} cannot be drawn")
    args = (agent, env, config.loop, config.blocks, config.agent.gamma)
    if isinstance(env, HostEnv):
        return on_host.make(*args, num_seeds=config.num_seeds)
    return on_device.make(*args)


def compile_seconds() -> float:
    """Seconds that this process has spent compiling."""
    return _compiling["seconds"]


_compiling = {"seconds": 0.0}


def _on_duration(event: str, duration_secs: float, **_: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _compiling["seconds"] += duration_secs


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
    jax.monitoring.register_event_duration_secs_listener(_on_duration)
    if config.precision != "bfloat16":
        return config
    return dataclasses.replace(config, agent=dataclasses.replace(config.agent, dtype="bfloat16"))


def preset(presets: Mapping[str, Any], argv: Sequence[str]) -> Any:
    """The settings of the first pattern that matches the task on the command line.

    `presets` maps patterns of tasks (`gymnasium/*`) to settings; its first entry is the default.
    """
    flags = dict(zip(argv, [*argv[1:], ""], strict=True))
    flags |= dict(arg.split("=", 1) for arg in argv if arg.startswith("--") and "=" in arg)
    first = next(iter(presets.values()))
    task = flags.get("--env", first.env)
    found = [config for pattern, config in presets.items() if fnmatch.fnmatch(task, pattern)]
    return dataclasses.replace(found[0] if found else first, env=task)


def launch(main: Callable[[Any], None], parse: Callable, presets: Mapping[str, Any]) -> None:
    """Run `main` on the flags, read by `parse` over the preset of the task they name."""
    default = preset(presets, sys.argv[1:])
    config = parse(type(default), default=default, description=main.__doc__)
    guard(lambda: main(prepare(config)))


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
