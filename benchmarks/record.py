"""Turn the directory of a run into a result that can be committed.

    python -m benchmarks.record runs/sac-jaxrl-Pendulum-v1 --json benchmarks/results/sac.json

The result holds the command, commit, versions and hardware of every start, all settings, and the
returns of every seed at every report.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks import machine
from jaxrl import checkpoint, experiment, writers
from jaxrl.errors import UserError


def summary(directory: Path) -> dict:
    """What a run did and where it came to.

    Raises:
      UserError: the directory holds no run, or one that has reported nothing.
    """
    settings = checkpoint.settings(directory)
    rows = [row for row in writers.records(directory / "metrics.jsonl") if "return" in row]
    if not rows:
        raise UserError(f"run: {directory} has reported no returns")
    starts = settings.pop("starts")
    seeds = [settings["seed"] + i for i in range(settings["num_seeds"])]
    final = np.asarray(rows[-1]["return"])
    return {
        "starts": [_portable(start) for start in starts],
        "settings": {
            name: value for name, value in settings.items() if name not in ("out", "cache")
        },
        "seeds": seeds,
        "steps": [row["step"] for row in rows],
        "return": [row["return"] for row in rows],  # per report, per seed
        "final_return": final.tolist(),
        "final_return_mean": final.mean(),
        "normalized_score": rows[-1].get("normalized_score"),  # D4RL's, of every seed
        "seconds": rows[-1]["seconds"],
        "compile_seconds": rows[-1].get("compile_seconds"),
        "updates_per_second": float(np.median([row["updates_per_second"] for row in rows])),
    }


def _portable(start: dict) -> dict:
    """A start without the directories of the machine it was on."""
    script, *flags = start["command"]
    paths = [i + j for i, flag in enumerate(flags) if flag in ("--out", "--cache") for j in (0, 1)]
    kept = [flag for i, flag in enumerate(flags) if i not in paths]
    return start | {"command": ["python", f"experiments/{Path(script).name}", *kept]}


@dataclass(frozen=True)
class Config:
    """Flags."""

    run: tyro.conf.Positional[Path]  # the directory that a script wrote
    json: Path  # where the result goes


def main(config: Config) -> None:
    """Turn the directory of a run into a result that can be committed."""
    machine.write(config.json, summary(config.run))


if __name__ == "__main__":
    experiment.guard(lambda: main(tyro.cli(Config, description=__doc__)))
