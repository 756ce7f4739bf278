"""Updates per second of every agent for several seeds in one program, as shares of the roofline.

    python -m benchmarks.rooflines --json benchmarks/results/rooflines.json --profile profile
    python -m benchmarks.rooflines --agents sac iql --seeds 1 8

An update can be no faster than its products at the best rate of large products, nor than reading
and writing the state and reading the batch once at the best rate of negating a large array; both
rates are measured in the same process. `--profile` keeps a trace of the program with the smallest
share, for TensorBoard or XProf. Meant for an accelerator; a CPU takes small numbers of seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro

from benchmarks import machine, programs, timing
from benchmarks.cases import CASES, Case
from jaxrl import experiment
from jaxrl.errors import check_range, unknown_name
from jaxrl.loops.loop import nbytes

SIZES = {"cpu": (1024, 2**26)}  # of the large products, and bytes of the large array
ON_ACCELERATORS = (8192, 2**30)


@dataclass(frozen=True)
class Config:
    """Flags."""

    agents: tuple[str, ...] = tuple(CASES)
    seeds: tuple[int, ...] = (1, 8, 32, 128)
    seconds: float = 2.0  # length of a window
    json: Path | None = None  # where results go
    profile: Path | None = None  # where the trace of the slowest goes


def peaks(seconds: float) -> dict[str, float]:
    """The best rates of this device: FLOP/s of products, and bytes per second of memory."""
    size, held = SIZES.get(jax.default_backend(), ON_ACCELERATORS)
    windows = {"products": timing.ceiling(seconds, size), "memory": timing.bandwidth(seconds, held)}
    return {name: max(rates) for name, rates in timing.interleaved(windows).items()}


def traffic(case: Case, seeds: int) -> int:
    """Bytes that an update moves at least: the state in and out, and the batch in."""
    init, _ = programs.update_of(case, seeds)
    key = jax.random.key(0)
    data = jax.eval_shape(case.data, key)
    batch = jax.eval_shape(case.draw, data, key)
    return 2 * nbytes(jax.eval_shape(init, key)) + seeds * nbytes(batch)


def limits(flops: float, moved: float, peaks: Mapping[str, float]) -> dict[str, float]:
    """Seconds that an update takes at least, for each of the two reasons."""
    return {"products": flops / peaks["products"], "memory": moved / peaks["memory"]}


def measure(name: str, config: Config, peaks: Mapping[str, float]) -> list[dict[str, Any]]:
    """A row for each number of seeds, in interleaved windows."""
    case = CASES[name]
    played = {n: programs.compiled(case, config.seconds, n) for n in config.seeds}
    medians = timing.medians(timing.interleaved({str(n): p.window for n, p in played.items()}))

    def row(n: int, program: programs.Program) -> dict[str, Any]:
        rate, least = medians[str(n)], limits(program.flops, traffic(case, n), peaks)
        bound = max(least, key=least.__getitem__)
        return {
            "agent": name,
            "seeds": n,
            "updates_per_second": rate * n,
            "bound": bound,
            "share": rate * least[bound],
            "flops": program.flops,
            "compile_seconds": program.compile_seconds,
            "bytes": program.bytes,
        }

    return [row(n, program) for n, program in played.items()]


def keep_trace(row: Mapping[str, Any], directory: Path) -> None:
    """A profile of one call of a row's program, after one that warms up."""
    program = programs.compiled(CASES[row["agent"]], 0.0, row["seeds"])
    program.window()
    with jax.profiler.trace(str(directory)):
        program.window()


def described(row: Mapping[str, Any]) -> str:
    """A row as a line to read."""
    rate, share = row["updates_per_second"], row["share"]
    return (
        f"{row['agent']:<22} {row['seeds']:>4} seeds {rate:>10.4g} updates/s in all, "
        f"{share:.3f} of the bound by {row['bound']}"
    )


def main(config: Config) -> None:
    """Measure, print, and write what has been found after each agent."""
    for name in config.agents:
        if name not in CASES:
            raise unknown_name("agents", name, CASES)
    for n in config.seeds:
        check_range("seeds", n, 1)
    jax.config.update("jax_default_matmul_precision", "float32")
    best, rows = peaks(config.seconds), []
    for name in config.agents:
        rows += measure(name, config, best)
        print("\n".join(described(row) for row in rows[-len(config.seeds) :]), flush=True)
        found = {"peaks": best, "rows": rows} | machine.peaks()
        machine.write(config.json, machine.about("benchmarks.rooflines") | found)
    if config.profile:
        keep_trace(min(rows, key=lambda row: row["share"]), config.profile)


if __name__ == "__main__":
    experiment.guard(lambda: main(tyro.cli(Config, description=__doc__)))
