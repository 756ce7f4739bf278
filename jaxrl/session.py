"""An open run: its directory and devices, training and its reports, stopping and resuming."""

import dataclasses
import functools
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import checkpoint, loops, parallel, provenance, report, video
from jaxrl.envs import Env, HostEnv
from jaxrl.errors import UserError
from jaxrl.loops import Loop, Run
from jaxrl.types import Metrics, Policy, Spec, State

SCORE_KEY = 2**31 - 1  # every seed and every report is scored from the same starts
FREE = (*provenance.FREE, "checkpoint_every", "seeds", "cache")
PARTS = "report.npz"  # in the directory of a run that was stopped between two reports


class Preempted(Exception):
    """SIGTERM arrived, and everything has been saved."""


class Session:
    """An open run: its directory, its devices, and how far it has come.

    What else decides its numbers, such as a `scaling`, is given by name, for `config.json`.
    """

    def __init__(self, config: Any, algorithm: ModuleType, spec: Spec, **facts: Any):
        self.config = config
        self.mesh = parallel.start(config.mesh)
        name = name_of(algorithm)
        self.directory = Path(config.out or default_directory(name, config.env)).expanduser()
        fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
        self.settings = (
            fields
            | facts
            | {
                "algorithm": name,
                "spec": checkpoint.encode_spec(spec),
                "seeds": self._how(),
            }
        )
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
        parts = read_parts(self.directory, self.step)
        playing = loops.train(
            loop, self.keys, self.run, total, every, lambda: self.terminated, parts
        )
        for run, metrics in playing:
            self._at(run)
            self._refuse_non_finite(run)
            if parts:  # stopped between two reports
                break
            yield run, metrics
            if self.terminated or self._reached():
                break
            if saved.due():
                saved.save(self.step, run)
        write_parts(self.directory, self.step, parts)
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
        self.report.log(self.step, metrics | {"compile_seconds": _compiling["seconds"]})


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


def name_of(algorithm: ModuleType) -> str:
    """The name of an agent's module, without its package."""
    return algorithm.__name__.rpartition(".")[2]


def default_directory(name: str, task: str) -> Path:
    """Where a run goes without `--out`: a directory named after the algorithm and the task."""
    return Path("runs") / f"{name}-{task}".replace("/", "-")


_compiling = {"seconds": 0.0}


def count_compiling() -> None:
    """Count from here on what this process spends compiling."""
    jax.monitoring.register_event_duration_secs_listener(_on_duration)


def _on_duration(event: str, duration_secs: float, **_: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _compiling["seconds"] += duration_secs


def write_parts(directory: Path, step: int, parts: list[Metrics]) -> None:
    """Keep the metrics of what was played after the last report, for the report to come."""
    if parts:
        stacked: Any = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        np.savez(directory / PARTS, **stacked, step=step)


def read_parts(directory: Path, step: int) -> list[Metrics]:
    """What `write_parts` kept, if it was at this step."""
    try:
        stacked = dict(np.load(directory / PARTS))
    except (FileNotFoundError, zipfile.BadZipFile, ValueError):  # none, or cut short
        return []
    if stacked.pop("step") != step:
        return []
    return [{name: x[i] for name, x in stacked.items()} for i in range(len(stacked["updates"]))]
