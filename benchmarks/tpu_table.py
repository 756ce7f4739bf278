"""What follows from a compiled cell and from the chip's published rates, and lines to read."""

import math
from collections.abc import Mapping
from typing import Any

from benchmarks import chips
from benchmarks.tpu_cells import WORKLOADS

Row = Mapping[str, Any]
LIMIT = 1.05  # replication above which chips do each other's work
EFFICIENT = 0.9  # serial efficiency that a larger batch is asked for


def judged(found: Row) -> dict[str, Any]:
    """Facts of a cell, with bounds on its rate and its weak-scaling efficiency."""
    if not found.get("compiles"):
        return dict(found)
    slice = chips.Slice(chips.of_topology(found["topology"]), found["slice"])
    exchanges = [chips.Exchange(**collective) for collective in found["collectives"]]
    bounds = chips.bounds(slice, found["products"], found["hbm_bytes"], exchanges)
    efficiency = {
        "serial": bounds.efficiency(overlapped=False, latency=False),
        "serial_latency": bounds.efficiency(overlapped=False, latency=True),
        "overlapped": bounds.efficiency(overlapped=True, latency=False),
        "overlapped_latency": bounds.efficiency(overlapped=True, latency=True),
    }
    return {
        **found,
        "replication": found["flops"] * math.prod(found["slice"]) / found["useful_flops"],
        "bound": bounds.name,
        "seconds": bounds._asdict(),
        "steps_per_second": 1 / bounds.least,  # at most
        "samples_per_second": found["samples"] / bounds.least,  # at most, of the whole slice
        "efficiency": efficiency,
    }


def described(row: Row) -> str:
    """A cell as lines."""
    name = f"{row['workload']} on {row['topology']}"
    if "failed" in row:
        return f"{name}: failed, {row['failed']}"
    head = f"{name}, mesh {times(row['mesh'])}, {row['precision']}"
    if not row["compiles"]:
        needed, available = (scaled(row[f"{x}_bytes"], "B") for x in ("needed", "available"))
        return f"{head}: does not fit, needs {needed} of {available} per chip"
    parts = (memory, operations, links, bound, scaling)
    seconds = f"{head}: compiled in {row['compile_seconds']:.1f} s"
    return "\n  ".join([seconds, *(part(row) for part in parts)])


def memory(row: Row) -> str:
    """Bytes per chip."""
    have = scaled(chips.of_topology(row["topology"]).memory, "B")
    arguments, peak = (scaled(row[f"{x}_bytes"], "B") for x in ("argument", "peak"))
    return f"per chip {arguments} of arguments, {peak} at most, of {have}"


def operations(row: Row) -> str:
    """Useful and compiled work."""
    useful, own = (scaled(row[x], "FLOP") for x in ("useful_flops", "flops"))
    passes = row["products"] / row["flops"] if row["flops"] else 1
    unknown = f", {row['unknown_loops']} loops of unknown length" if row["unknown_loops"] else ""
    warning = ": chips repeat each other's work" if row["replication"] > LIMIT else ""
    return (
        f"useful {useful} per step, compiled {own} per chip, each product in {passes:.2g} passes"
        f"{unknown}; replication {row['replication']:.3f}{warning}"
    )


def links(row: Row) -> str:
    """Collectives per step, and what goes to the host."""
    exchanges = ", ".join(exchange(x) for x in row["collectives"]) or "no collectives"
    host = f"{row['host_transfers']} transfers to the host" if row["host_transfers"] else ""
    return exchanges + f"; {host or 'nothing goes to the host'}"


def exchange(collective: Row) -> str:
    """A kind of collective."""
    size, spans = scaled(collective["bytes"], "B"), times(collective["extents"])
    return f"{collective['count']:g} {collective['kind']} of {size} over {spans}"


def bound(row: Row) -> str:
    """What a step waits for at the least, and the rate that this allows."""
    needs = ", ".join(f"{name} {scaled(x, 's')}" for name, x in row["seconds"].items())
    rate, samples = (f"{row[f'{x}_per_second']:,.4g}" for x in ("steps", "samples"))
    return f"bound by {row['bound']} ({needs}): at most {rate} steps/s, {samples} samples/s"


def scaling(row: Row) -> str:
    """Weak-scaling efficiency, and what grows with the chips."""
    shares = {name: f"{share:.2f}" for name, share in row["efficiency"].items()}
    return (
        f"efficiency {shares['serial']} serial, {shares['overlapped']} overlapped "
        f"({shares['serial_latency']}, {shares['overlapped_latency']} with hops); {filled(row)}"
    )


def enough(row: Row) -> tuple[int, float] | None:
    """Work per chip from which the serial efficiency is `EFFICIENT`, and the peak bytes it takes.

    Products grow with a batch, and what chips send of gradients and parameters does not: computing
    has to take EFFICIENT / (1 - EFFICIENT) times as long as the links, hops left out. Memory is
    taken to grow by all that the peak holds beside the arguments. None where more work per chip is
    no larger batch, or where activations are sent, which grow with it.
    """
    if WORKLOADS[row["workload"]].fills != "batch" or row["mesh"][2] > 1:
        return None
    needed = row["seconds"]["interconnect"] * EFFICIENT / (1 - EFFICIENT)
    times = max(1.0, needed / row["seconds"]["compute"])
    temporary = row["peak_bytes"] - row["argument_bytes"]
    return math.ceil(row["per_chip"] * times - 1e-6), row["argument_bytes"] + times * temporary


def filled(row: Row) -> str:
    """Whether batch, seeds or parameters fill the chips."""
    workload, (data, fsdp, tensor) = WORKLOADS[row["workload"]], row["mesh"]
    split = fsdp * tensor
    of_model = f", parameters over {split} chips" if split > 1 else ""
    if workload.fills == "seeds":
        return f"{data} seeds{of_model}"
    return f"{workload.fills} of {row['per_chip']} {workload.unit} per chip{of_model}"


def times(sizes: list[int]) -> str:
    """Sizes as 16x16."""
    return "x".join(map(str, sizes))


def scaled(value: float, unit: str) -> str:
    """Three digits and a prefix, such as 8.05 MB."""
    prefixes = {1e15: "P", 1e12: "T", 1e9: "G", 1e6: "M", 1e3: "k", 1: "", 1e-3: "m", 1e-6: "u"}
    factor = next((f for f in prefixes if value >= f), 1e-6) if value else 1
    return f"{value / factor:.3g} {prefixes[factor]}{unit}"
