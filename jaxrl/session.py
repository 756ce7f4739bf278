"""An open run: its directory and devices, training and its reports, stopping and resuming."""

import dataclasses
import functools
import io
import itertools
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import checkpoint, loops, parallel, paths, processes, provenance, report, video, writers
from jaxrl.envs import Env, HostEnv
from jaxrl.errors import UserError
from jaxrl.loops import Loop, Run, acting
from jaxrl.loops.evaluate import Score
from jaxrl.types import Metrics, Policy, Spec, State

SCORE_KEY = 2**31 - 1  # every seed and every report is scored from the same starts
FREE = (*provenance.FREE, "processes", "checkpoint_every", "seeds", "cache")
GROUND = ("python", "versions", "commit", "dirty")  # of which processes of a run may have but one
PARTS = "report-{}.npz"  # in the directory of a run, with the step of a checkpoint between reports


class Preempted(Exception):
    """This signal arrived, SIGTERM or an interrupt, and everything has been saved."""


class Session:
    """An open run: its directory, its devices, and how far it has come.

    What else decides its numbers, such as a `scaling`, is given by name, for `config.json`.
    `values` are those of a sweep, `[members]`: every member has all seeds, one after another.
    """

    def __init__(
        self, config: Any, algorithm: ModuleType, spec: Spec, values: Any = None, **facts: Any
    ):
        self.config, self.values = config, values or {}
        self.mesh = parallel.start(config.mesh)
        name = name_of(algorithm)
        self.directory = paths.of(config.out or default_directory(name, config.env))
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
        check_same(self.settings)
        self.members = members_of(config, self.values)
        seeds = [config.seed + i % config.num_seeds for i in range(self.members)]
        self.keys = self._everywhere(lambda: jnp.stack([jax.random.key(s) for s in seeds]))
        self.step = 0
        self.returns = np.full(self.members, -np.inf)
        self.terminated = processes.Termination()

    def _how(self) -> str:
        """How seeds are run; a sweep is one program."""
        how: parallel.How = "vmap" if self.values else self.config.seeds
        return checkpoint.how_seeds(self.directory, how, self.mesh)

    def _everywhere(self, make: Callable) -> Any:
        return parallel.everywhere(make, self.mesh)

    def __enter__(self) -> Self:
        processes.note_failure(self.directory, None)
        self.terminated.__enter__()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self.terminated.__exit__()
        if error is not None and not isinstance(error, Preempted | GeneratorExit):
            processes.note_failure(self.directory, error)

    def train(self, loop: Loop) -> Iterator[tuple[Run, Metrics]]:
        """Play `loop`, of one seed on one device, for all seeds and over the mesh.

        Goes on from the newest checkpoint if there is one. Saves by the clock, at the end and at
        SIGTERM, upon which it raises `Preempted`. A run that is complete is left as it is.
        """
        loop = self._placed(loop)
        loops.check_memory(loop, self.keys)
        report.make(self.directory)
        place, every = self.directory / "checkpoints", self.config.checkpoint_every
        with paths.held(self.directory), checkpoint.Checkpoints(place, every) as saved:
            self._at(saved.resume(lambda: loop.begin(jax.random.clone(self.keys))))
            self._recall()
            if self.step >= self.config.steps or processes.first(self._reached()):
                return processes.tell(
                    f"{self.directory} is complete: it has {self.step} steps already"
                )
            with self._report() as self.report:
                yield from self._play(loop, saved)

    def _play(self, loop: Loop, saved: checkpoint.Checkpoints) -> Iterator[tuple[Run, Metrics]]:
        each = self.config.loop.iteration_steps
        total, every = -(-self.config.steps // each), max(1, self.config.loop.report_every // each)
        parts, asked = read_parts(self.directory, self.step), itertools.count(1)

        def pause() -> bool:
            agreed = processes.alone() or next(asked) % 10 == 0  # on the time, which costs a moment
            return self.terminated() or (agreed and processes.first(saved.due()))

        for run, metrics in loops.train(loop, self.keys, self.run, total, every, pause, parts):
            self._at(run)
            self._refuse_non_finite(run, metrics)
            if not parts:
                yield run, metrics
            if self.terminated() or (not parts and processes.first(self._reached())):
                break
            if processes.first(saved.due()):
                self._save(saved, parts)
        if not (self._save(saved, parts) and saved.wait()):
            raise UserError(f"out: the last state could not be saved in {self.directory}")
        if self.terminated.come:
            raise Preempted(self.terminated.signal)

    def _save(self, saved: checkpoint.Checkpoints, parts: list[Metrics]) -> bool:
        """Save the run, and with it what it will report next."""
        first = jax.process_index() == 0
        if first:
            write_parts(self.directory, self.step, parts)
        done = saved.save(self.step, self.run)
        if first:
            forget_parts(self.directory, saved.steps())
        return done

    def _placed(self, loop: Loop) -> Loop:
        if not self.values:
            loop = loops.seeds(loop, self.members, self.settings["seeds"])
        if self.mesh.size == 1 or loop.placed:
            return loop
        return loops.shard(loop, self.mesh, parallel.run_rules(self.mesh, self.members))

    def _report(self) -> report.Report:
        config = self.config
        return report.open(
            self.directory, self.settings, config.steps, self.step, config.writers, FREE
        )

    def _at(self, run: Run) -> None:
        self.run = run
        self.step = int(loops.step_of(run)) * self.config.loop.iteration_steps

    def _recall(self) -> None:
        """Take the returns of the report at which a checkpoint was made, if there was one."""
        rows = writers.records(self.directory / "metrics.jsonl") if self.step else []
        at = [row["return"] for row in rows if row["step"] == self.step and "return" in row]
        if at:
            self.returns = np.asarray(at[-1], float)

    def _reached(self) -> bool:
        goal = self.config.stop_at_return
        return goal is not None and bool((self.returns >= goal).all())

    def _refuse_non_finite(self, run: Run, metrics: Metrics) -> None:
        """Stop where every seed has diverged, or an environment failed one that has not."""
        wrong = {name: ~np.isfinite(np.atleast_1d(x)) for name, x in metrics.items()}
        lost = np.logical_or.reduce(list(wrong.values()))
        names = ", ".join(name for name, x in wrong.items() if x.any())
        if lost.all():
            self._refuse(run, f"agent: {names} not finite at step {self.step}")
        if lost.any():
            seeds = ", ".join(map(str, np.flatnonzero(lost)))
            processes.tell(
                f"agent: {names} not finite at step {self.step}, in run {seeds} of {len(lost)}"
            )
        noted = [r.env.failed_at for r in runs_of(run) if hasattr(r.env, "failed_at")]
        failed = [np.ravel(at) for at in parallel.whole(noted)]
        at = np.concatenate(failed or [np.full(len(lost), -1)]).reshape(len(lost), -1)[~lost]
        if (at >= 0).any():
            first = at[at >= 0].min() * self.config.loop.iteration_steps
            what = f"a non-finite observation or reward at step {first}"
            self._refuse(run, f"env {self.config.env}: {what}")

    def _refuse(self, run: Run, what: str) -> None:
        directory = self.directory / "failed"
        with checkpoint.Checkpoints(directory) as saved:
            saved.save(self.step, run)
        raise UserError(f"{what}; the state at step {self.step} is saved in {directory}")

    def scores(self, score: Score, run: Run) -> Metrics:
        """Mean return and length of the episodes of `score`. Arrays `[num_seeds]`.

        On the device all seeds are scored at once, where their states are; on the host in turn, by
        every process for itself.
        """
        if isinstance(run, Run) and not score.on_host:
            key = self._everywhere(lambda: jax.random.key(SCORE_KEY))
            scores = parallel.whole(self._vmapped(score.play)(self._acting(run.state), key))
        else:
            states = [self._acting(state, i) for i, state in enumerate(states_of(run))]
            all_scores = [score(state, jax.random.key(SCORE_KEY)) for state in states]
            scores = jax.tree.map(lambda *x: np.stack(x), *all_scores)
        self.returns = np.asarray(scores.returns).mean(-1)
        return {"return": self.returns, "episode_length": np.asarray(scores.lengths).mean()}

    def _acting(self, state: State, member: int | None = None) -> Any:
        """What the policy acts on: the state, and in a sweep the values of its members."""
        if not self.values:
            return state
        pick = slice(None) if member is None else member
        return {name: column[pick] for name, column in self.values.items()}, state

    def _vmapped(self, score: Callable) -> Callable:
        axes = parallel.seed_axes(self.run.state)
        return _vmapped(score, (0, axes) if self.values else axes)

    def record(self, env: Env | HostEnv, policy: Policy) -> None:
        """With `--video`, write a greedy episode of the first seed into the directory."""
        if not self.config.video:
            return
        state = self._acting(states_of(self.run)[0], 0)
        if jax.process_index() == 0:
            written = video.record(env, policy, state, self.directory / "rollout")
            processes.tell(f"video: {written}")

    def log(self, metrics: Metrics) -> None:
        """Send one record to the terminal, the files and the writers."""
        self.report.log(self.step, metrics | {"compile_seconds": _compiling["seconds"]})


@functools.cache
def _vmapped(score: Callable, axes: Any) -> Callable:
    return jax.jit(jax.vmap(score, (axes, None)))


def states_of(run: Run | tuple[Run, ...]) -> list[State]:
    """The agent's state of every seed, held by this process."""
    if not isinstance(run, Run):
        return [r.state for r in run]
    state, n = parallel.whole(run.state), len(jax.tree.leaves(run.state._replace(step=None))[0])
    return [checkpoint.pick(state, i) for i in range(n)]


def check_same(settings: Any) -> None:
    """Refuse processes of one run that are set or made differently.

    Raises:
      UserError: names what differs from process 0, or says that another process found something.
    """
    if processes.alone():
        return
    start = provenance.start(0)
    mine = provenance.plain(settings | {name: start[name] for name in GROUND})
    free = ("out", "processes")
    found = provenance.differences(processes.of_first(mine), mine, free)
    if not processes.every(not found) and not found:
        raise UserError("processes: another process has other settings or code; see what it says")
    if found:
        index = jax.process_index()
        said = [f"{name}: process 0 has {a}, process {index} has {b}" for name, a, b in found]
        raise UserError("processes: " + "; ".join(said))


def members_of(config: Any, values: Mapping[str, Any]) -> int:
    """How many runs a run holds: its seeds, or all seeds of every setting of a sweep."""
    return max([config.num_seeds, *map(len, values.values())])


def fitted(config: Any, loop: Loop, members: int) -> Any:
    """The settings with as many devices along `data` as the run can be split over.

    Where a mesh is asked for, or there are several processes, they stay as they are.
    """
    if config.mesh.data or loop.placed or not processes.alone():
        return config
    blocks = config.blocks or acting.default_blocks(getattr(config.loop, "envs", 1))
    if loop.data:
        blocks = jax.tree.leaves(loop.data)[0].shape[0]

    def fits(data: int) -> bool:
        n = data * config.mesh.fsdp
        return n == 1 or not loop.seeds and (members % n == 0 or blocks % n == 0)

    most = jax.device_count() // (config.mesh.fsdp * config.mesh.tensor)
    data = next((n for n in range(most, 0, -1) if fits(n)), 0)
    if 0 < data < most:
        why = "environments on the host" if loop.seeds else f"{members} seeds or {blocks} blocks"
        processes.tell(
            f"mesh: {data} of {most} devices along data, which is what {why} can be split over"
        )
    return dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, data=data))


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
        packed = io.BytesIO()
        np.savez(packed, **stacked)
        paths.replace(directory / PARTS.format(step), packed.getvalue())


def read_parts(directory: Path, step: int) -> list[Metrics]:
    """What `write_parts` kept at this step, if anything."""
    try:
        stacked = dict(np.load(io.BytesIO((directory / PARTS.format(step)).read_bytes())))
    except (FileNotFoundError, zipfile.BadZipFile, ValueError):  # none, or cut short
        return []
    return [{name: x[i] for name, x in stacked.items()} for i in range(len(stacked["updates"]))]


def forget_parts(directory: Path, steps: Collection[int]) -> None:
    """Remove what `write_parts` kept for checkpoints that are no more; those of `steps` are."""
    kept = {PARTS.format(step) for step in steps}
    for path in directory.glob(PARTS.format("*")):
        if path.name not in kept:
            path.unlink(missing_ok=True)
