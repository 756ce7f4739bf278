"""Compile one cell for a slice that is not there, and print what was found as a line of JSON.

    python -m benchmarks.tpu_compile '{"workload": "sac", "topology": "v5e:2x4"}'

Started by `benchmarks.tpu` for each cell, with an environment in which libtpu leaves other
processes alone.
"""

import json
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from benchmarks import flops, hlo, work
from benchmarks.tpu_cells import WORKLOADS, Precision
from benchmarks.tpu_programs import Program
from jaxrl import parallel

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
MEMORY = re.compile(r"([\d.]+)([KMGT])\)? (?:exceeds available HBM|of) \(?([\d.]+)([KMGT])")


@dataclass(frozen=True)
class Cell:
    """A workload on a slice; what is not given is the workload's own."""

    workload: str
    topology: str
    mesh: tuple[int, int, int] | None = None  # data, fsdp, tensor
    per_chip: int | None = None
    precision: Precision | None = None


def mesh_of(cell: Cell, devices: list[Any]) -> Mesh:
    """The cell's mesh, over all chips of the slice."""
    fsdp = min(WORKLOADS[cell.workload].fsdp, len(devices))
    shape = cell.mesh or (len(devices) // fsdp, fsdp, 1)
    return parallel.make_mesh(parallel.MeshConfig(*shape), devices)


def compile_cell(cell: Cell) -> dict[str, Any]:
    """Facts about the compiled program, per step and per chip where not said otherwise."""
    workload = WORKLOADS[cell.workload]
    precision = cell.precision or workload.precision
    jax.config.update("jax_default_matmul_precision", precision)
    topology = topologies.get_topology_desc(platform="tpu", topology_name=cell.topology)
    mesh = mesh_of(cell, topology.devices)
    per_chip = cell.per_chip or workload.per_chip
    dtype = "bfloat16" if precision == "bfloat16" else None
    program = workload.build(mesh, per_chip, dtype)
    facts = {
        "mesh": list(mesh.shape.values()),
        "per_chip": per_chip,
        "precision": precision,
        "slice": extents(mesh, range(mesh.size)),
        "samples": program.samples,
        "useful_flops": flops.count(program.plain, *program.plain_args),  # on all chips together
    }
    return facts | compiled(program, mesh)


def compiled(program: Program, mesh: Mesh) -> dict[str, Any]:
    """What the compiler made of a program, or the two numbers if it does not fit."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as dump:
        try:
            options = {"xla_dump_to": dump}
            done = program.jitted.lower(*program.args).compile(compiler_options=options)
        except jax.errors.JaxRuntimeError as error:
            return {"compiles": False} | out_of_memory(str(error))
        text = text_of(done, Path(dump))
    seconds = time.perf_counter() - begin
    memory = done.memory_analysis()
    module = hlo.parse(text)
    return {
        "compiles": True,
        "compile_seconds": seconds,
        "argument_bytes": memory.argument_size_in_bytes,
        "peak_bytes": memory.peak_memory_in_bytes,
        "host_transfers": module.host_transfers,
        **measured(work.of_module(module), mesh, program.steps),
    }


def out_of_memory(message: str) -> dict[str, Any]:
    """Bytes that a program needs and has, from the compiler's message.

    Raises:
      RuntimeError: it is another error; without directories of this machine.
    """
    found = MEMORY.search(message)
    if "RESOURCE_EXHAUSTED" not in message or not found:
        raise RuntimeError(re.sub(r"\S*/\S*", "...", message)[:500])
    needed, unit, available, unit_available = found.groups()
    return {
        "needed_bytes": float(needed) * UNITS[unit],
        "available_bytes": float(available) * UNITS[unit_available],
    }


def text_of(done: Any, dump: Path) -> str:
    """The text of a compiled program; of large ones the one that the compiler dumped itself."""
    try:
        return done.as_text()
    except jax.errors.JaxRuntimeError:
        files = dump.glob("*after_optimizations.txt")
        return max(files, key=lambda path: path.stat().st_size).read_text()


def measured(found: work.Work, mesh: Mesh, steps: int) -> dict[str, Any]:
    """Work per step, collectives by kind and by what their groups span."""
    counts: Counter = Counter()
    sizes: Counter = Counter()
    for key, n in found.items():
        if isinstance(key, work.Collective) and len(key.group) > 1:
            name = key.kind, tuple(extents(mesh, key.group))
            counts[name] += n / steps
            sizes[name] += n * key.bytes / steps
    collectives = [
        {"kind": kind, "extents": list(spans), "count": n, "bytes": sizes[kind, spans]}
        for (kind, spans), n in counts.items()
    ]
    return {
        "flops": found[work.FLOPS] / steps,
        "products": found[work.PRODUCTS] / steps,  # of bfloat16
        "hbm_bytes": found[work.HBM] / steps,
        "unknown_loops": found[work.UNKNOWN],
        "collectives": collectives,
    }


def extents(mesh: Mesh, group: Any) -> list[int]:
    """How many chips a group spans along each axis of the slice."""
    places = np.array([mesh.devices.flat[i].coords for i in group])
    return [len(set(axis)) for axis in places.T.tolist()]


def main() -> None:
    """Compile the cell of the command line."""
    cell = Cell(**json.loads(sys.argv[1]))
    print(json.dumps(asdict(cell) | compile_cell(cell)))


if __name__ == "__main__":
    main()
