"""What a run writes into its directory and shows on the terminal, from process 0 alone.

    with report.open(directory, config, total_steps, step) as run_report:
        run_report.log(step, metrics)

writes `config.json`, `metrics.jsonl` and `curve.png`; see `provenance` and `writers`.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np

from jaxrl import paths, provenance, writers
from jaxrl.errors import UserError
from jaxrl.writers import Writer


class Report:
    """The open outputs of a run; on processes other than 0 it has none and does nothing."""

    def __init__(self, outputs: Sequence[Writer], step: int = 0, seconds: float = 0.0):
        """`step` and `seconds`: how far the run had come when it was opened."""
        self.outputs = outputs
        self.step = step
        self.opened = time.monotonic() - seconds
        self.logged = time.monotonic()

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Sends one record to every output.

        `step` counts as `--steps` does. `metrics` are scalars, or `[n]` with one number per seed.
        `return` always becomes a list; `updates`, made since the last record and summed over
        seeds, becomes `updates_per_second`, and is taken as one a step where it is absent.
        """
        if not self.outputs:
            return
        values = _values(metrics)  # waits for the device, so before the clock is read
        now = time.monotonic()
        updates = np.sum(values.pop("updates", step - self.step))
        rate = float(updates) / max(now - self.logged, 1e-9)
        record = {"step": step, "seconds": now - self.opened, "updates_per_second": rate, **values}
        for output in self.outputs:
            output.write(record)
        self.step, self.logged = step, time.monotonic()  # so that writing slows no rate

    def close(self) -> None:
        """Draws the last curve and closes every output; a second call does nothing."""
        outputs, self.outputs = self.outputs, ()
        for output in outputs:
            output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open(
    directory: str | Path,
    config: Any,
    total_steps: int,
    step: int = 0,
    names: Sequence[str] = (),
    free: Sequence[str] = provenance.FREE,
) -> Report:
    """Opens the outputs of a run, new or resumed from a checkpoint at `step`.

    `config` is a dataclass or a mapping; `names` are of `writers.OPTIONAL`; `free` are the
    settings that may differ from those that the directory was made with.

    Raises:
      UserError: an unknown writer, a directory that cannot be written, or that holds a run with
        other settings.
    """
    makers = [writers.optional(name) for name in names]
    if jax.process_index() != 0:
        return Report(())
    directory = make(paths.of(directory))
    provenance.check(directory, config, free)
    extra = [make(directory, config, step) for make in makers]
    _write_config(directory, config, step)
    before = len(writers.records(directory / "metrics.jsonl"))
    kept = writers.trim(directory / "metrics.jsonl", step)
    if step or before:
        dropped = before - len(kept)
        again = f"; {dropped} later reports are written again" if dropped else ""
        print(f"{directory}: going on from step {step} of {total_steps}{again}", file=sys.stderr)
    outputs = [
        writers.jsonl(directory / "metrics.jsonl"),
        writers.console(total_steps, step),
        writers.curve(directory),
        *extra,
    ]
    return Report(outputs, step, kept[-1]["seconds"] if kept else 0.0)


def _values(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics as JSON holds them, with `return` as a list beside its mean."""
    values = provenance.plain(metrics)
    if "return" in metrics:
        returns = np.atleast_1d(np.asarray(metrics["return"], float))
        values |= {"return": provenance.plain(returns)}
        values |= {"return_mean": provenance.plain(returns.mean())}
    return values


def make(directory: Path) -> Path:
    """Makes the directory of a run, if it is not there.

    Raises:
      UserError: it cannot be made, or holds something else.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out: cannot make the directory {directory} ({error.strerror})") from None
    if (directory / "metrics.jsonl").exists() and not (directory / "config.json").exists():
        raise UserError(f"out: {directory} holds metrics.jsonl but no config.json of a run")
    return directory


def _write_config(directory: Path, config: Any, step: int) -> None:
    """Keeps the earlier starts, and says where the ground of this one differs."""
    starts = []
    if (directory / "config.json").exists():
        starts = provenance.read(directory).get("starts", [])
    start = provenance.start(step)
    if starts:
        moved = provenance.differences(starts[-1], start, ("step", "command", "commit", "dirty"))
        for name, old, new in moved:
            print(f"resumed at step {step}: {name} was {old}, is {new}", file=sys.stderr)
    provenance.write(directory, config, [*starts, start])
