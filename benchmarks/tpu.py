"""Compile agents and loops for slices of TPUs, on a machine that has none.

    python -m benchmarks.tpu --topology v5e:2x4 --agent all --json benchmarks/results/tpu.json

Needs the extra `tpu-compile`. Each cell of the table, an agent's update or a whole loop on one
slice, is compiled by a process of its own, and kept: a cell whose sources and versions are the same
is not compiled again. Nothing runs on a TPU: rates are bounds from published numbers.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import tyro

from benchmarks import chips, machine
from benchmarks.tpu_cells import GROUPS, WORKLOADS, Precision
from benchmarks.tpu_compile import Cell
from benchmarks.tpu_table import described, judged
from jaxrl import experiment
from jaxrl.errors import require, unknown_name

ROOT = Path(__file__).parents[1]
SOURCES = (
    "cases",
    "flops",
    "hlo",
    "work",
    "tpu_cells",
    "tpu_compile",
    "tpu_models",
    "tpu_programs",
)
COMMAND = ["-m", "benchmarks.tpu_compile"]
PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax")
ENVIRONMENT = {  # libtpu looks for no chips, and lets other processes have it too
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_COMPILATION_CACHE_DIR": "",
}


@dataclass(frozen=True)
class Config:
    """Flags."""

    topology: tuple[str, ...] = ("v5e:2x4",)  # slices: v5e:16x16, v6e:16x16, v5p:4x8x8, ...
    agent: str = "all"  # an agent, another workload by name, all agents, `loops` or `large`
    mesh: tuple[int, int, int] | None = None  # chips along data, fsdp and tensor
    per_chip: int | None = None  # transitions, environments or what the workload counts
    precision: Precision | None = None
    json: Path | None = None  # where results go
    cache: Path = Path("~/.cache/jaxrl/tpu")  # where cells are kept
    timeout: float = 900.0  # seconds that a cell may take


def cells(config: Config) -> list[Cell]:
    """The cells to compile.

    Raises:
      UserError: there is no such workload, or no rates of such a chip.
    """
    if config.agent in GROUPS:
        names = [name for name, item in WORKLOADS.items() if item.group == config.agent]
    elif config.agent in WORKLOADS:
        names = [config.agent]
    else:
        raise unknown_name("agent", config.agent, [*GROUPS, *WORKLOADS])
    for topology in config.topology:
        chips.of_topology(topology)
    settings = config.mesh, config.per_chip, config.precision
    return [Cell(name, topology, *settings) for topology in config.topology for name in names]


def key_of(cell: Cell) -> str:
    """A name for what decides a cell's facts: itself, the versions and the sources."""
    digest = hashlib.sha256(json.dumps(asdict(cell)).encode())
    digest.update(json.dumps({name: metadata.version(name) for name in PACKAGES}).encode())
    ours = [ROOT / "benchmarks" / f"{name}.py" for name in SOURCES]
    for path in sorted([*(ROOT / "jaxrl").rglob("*.py"), *ours]):
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:24]


def facts(cell: Cell, cache: Path, timeout: float) -> dict[str, Any]:
    """What compiling a cell found, kept in `cache` unless it failed."""
    path = cache.expanduser() / f"{key_of(cell)}.json"
    if path.exists():
        return json.loads(path.read_text())
    found = compiled(cell, timeout)
    if "failed" not in found:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")  # so that a crash leaves no half of a file
        part.write_text(json.dumps(found))
        part.replace(path)
    return found


def compiled(cell: Cell, timeout: float) -> dict[str, Any]:
    """What a process of its own found; a fault of it is the end of this cell alone."""
    try:
        done = subprocess.run(
            [sys.executable, *COMMAND, json.dumps(asdict(cell))],
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return asdict(cell) | {"failed": f"took longer than {timeout:g} s"}
    if done.returncode:
        return asdict(cell) | {"failed": reason(done.returncode, done.stderr)}
    return json.loads(done.stdout.splitlines()[-1])


def reason(status: int, stderr: str) -> str:
    """The last line of a process that failed, without directories of this machine."""
    lines = [line for line in stderr.splitlines() if line.strip()] or [""]
    return f"status {status}: " + re.sub(r"\S*/\S*", "...", lines[-1])[:300]


def measure(config: Config) -> None:
    """Compile every cell, print it, and write what has been found so far after each."""
    rows: list[dict[str, Any]] = []
    for cell in cells(config):
        rows.append(judged(facts(cell, config.cache, config.timeout)))
        print(described(rows[-1]), flush=True)
        machine.write(config.json, machine.about("benchmarks.tpu") | {"tpu": rows})


def main(config: Config) -> None:
    """Check that the compiler is there, then compile."""
    require("libtpu", "tpu-compile", "benchmarks.tpu")
    jax.config.update("jax_platforms", "cpu")  # of this process, which compiles nothing
    measure(config)


if __name__ == "__main__":
    experiment.guard(lambda: main(tyro.cli(Config, description=__doc__)))
