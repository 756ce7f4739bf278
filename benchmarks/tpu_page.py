"""The page `docs/tpu.md`, from `benchmarks/results/tpu_*.json`.

    python -m benchmarks.tpu_page

Writes the page anew: no number in its tables is typed by hand.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tyro

from benchmarks import chips
from benchmarks.chips import CHIPS, Bounds
from benchmarks.results import RECORDED, ROOT
from benchmarks.tpu_cells import WORKLOADS
from benchmarks.tpu_table import EFFICIENT, LIMIT, Row, enough, filled, scaled, times

PAGE = ROOT / "docs" / "tpu.md"
HEAD = """# Slices of TPUs

Written by `python -m benchmarks.tpu_page` from `benchmarks/results/tpu_*.json`. Cells come from

```bash
python -m benchmarks.tpu --topology v5e:2x4 --agent all
```

which needs the extra `tpu-compile` and no TPU.

**Nothing on this page was measured on a TPU.** Three kinds of statement stand beside each other:

- *Compiled*: what the TPU's own compiler made of the program for that slice. That it compiles and
  fits, bytes per chip, operations, collectives and their bytes are facts of the executable.
- *Counted*: useful operations are those of the jaxpr of one step without any mesh: two per
  multiply-add of matrix products and convolutions, what rematerialisation repeats included. The
  **replication factor** is compiled operations of all chips by useful ones. 1 means that no chip
  does another's work; above {limit} is marked.
- *Predicted*: a step takes at least as long as its bfloat16 products (a float32 product takes 6, a
  tensorfloat32 one 3) at the published peak, and as its collectives at the published bandwidth of
  the links. Rates are these **upper bounds**: memory, short kernels, vector work and what is not
  overlapped come on top, and small networks will be far below. What a step waits for is the longest
  of the two and of its traffic at the published memory bandwidth; that is an estimate, good to a
  factor of about two, mostly too high, and enters neither rates nor efficiencies.

Efficiency is the share of products in the time that products and links need: *serial* where nothing
overlaps, *overlapped* where everything does; in parentheses with {hop} for every hop of every
collective, an assumption. A link's rate is the published interconnect bandwidth of a chip by its
links and both directions. The last column is the work per chip, in the unit of the second, from
which even the serial efficiency is {efficient} without hops, since products grow with a batch and
what is sent of gradients and parameters does not, with the peak memory that it would take.
{transfers}

| chip | bfloat16 FLOP/s | HBM | bandwidth | link, one way | source |
|---|---|---|---|---|---|
"""
COLUMNS = (
    *("workload", "filled by", "slice and mesh", "precision, passes", "arguments, peak per chip"),
    *("useful FLOP per step", "replication", "collectives per step", "waits for"),
    *("samples/s at most", "efficiency serial, overlapped", f"serial {EFFICIENT} from"),
)
TITLES = {
    "all": "Updates of every agent",
    "loops": "Whole training loops, per iteration",
    "large": "What fills a slice",
}
WEAK = """
## Weak scaling

Time that products and links of a step need on the smallest slice that was tried and fits, by that
on another slice with the same work per chip. It is above 1 where the larger slice has rings and the
smaller one none.

| workload | from | to | serial | overlapped |
|---|---|---|---|---|
"""


def recorded(directory: Path) -> dict[str, dict[str, Any]]:
    """What `benchmarks.tpu` has written, by the name of the file."""
    files = sorted(directory.glob("tpu_*.json"))
    return {path.name: json.loads(path.read_text()) for path in files}


def cells(files: Iterable[dict[str, Any]]) -> list[Row]:
    """All cells, by workload and then by size of the slice."""
    rows = [row for file in files for row in file["tpu"]]
    order = list(WORKLOADS)

    def key(row: Row) -> tuple:
        chip, _, sizes = row["topology"].partition(":")
        return order.index(row["workload"]), chip, math.prod(map(int, sizes.split("x")))

    return sorted(rows, key=key)


def line(cells: Iterable[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |\n"


def rates() -> str:
    """What is known of the chips."""
    return "".join(
        line(
            (
                name,
                f"{chip.products:.4g}",
                scaled(chip.memory, "B"),
                scaled(chip.bandwidth, "B/s"),
                scaled(chip.link, "B/s"),
                f"<{chip.source}>",
            )
        )
        for name, chip in CHIPS.items()
    )


def cell(row: Row) -> str:
    """A cell of the big tables."""
    if "failed" in row:
        return line((row["workload"], "", row["topology"], "", row["failed"], *[""] * 7))
    place = f"{row['topology']}, {times(row['mesh'])}"
    start = row["workload"], filled(row), place, _precision(row)
    if not row["compiles"]:
        needed, available = (scaled(row[f"{x}_bytes"], "B") for x in ("needed", "available"))
        useful = scaled(row["useful_flops"], "FLOP")
        return line((*start, f"needs {needed} of {available}: does not fit", useful, *[""] * 6))
    return line((*start, *_compiled(row)))


def _precision(row: Row) -> str:
    """What was asked for, and the bfloat16 products that a product takes on average."""
    passes = f", {row['products'] / row['flops']:.2g}" if row["compiles"] else ""
    return row["precision"] + passes


def _compiled(row: Row) -> tuple[str, ...]:
    """The columns that only a program that fits has."""
    share, longest = row["efficiency"], row["seconds"][row["bound"]]
    mark = " (!)" if row["replication"] > LIMIT else ""
    return (
        f"{scaled(row['argument_bytes'], 'B')}, {scaled(row['peak_bytes'], 'B')}",
        scaled(row["useful_flops"], ""),
        f"{row['replication']:.3f}{mark}",
        "; ".join(_exchange(x) for x in row["collectives"]) or "none",
        f"{row['bound']}, {scaled(longest, 's')}",
        f"{row['samples_per_second']:.3g}",
        f"{share['serial']:.2f}, {share['overlapped']:.2f} "
        f"({share['serial_latency']:.2f}, {share['overlapped_latency']:.2f})",
        _enough(row),
    )


def _enough(row: Row) -> str:
    if (found := enough(row)) is None:
        return ""
    (size, peak), chip = found, chips.of_topology(row["topology"])
    return f"{size:,}, {scaled(peak, 'B')}" + (" (does not fit)" if peak > chip.memory else "")


def _exchange(collective: Row) -> str:
    size, spans = scaled(collective["bytes"], "B"), times(collective["extents"])
    return f"{collective['count']:g} {collective['kind']}, {size} over {spans}"


def weak(rows: Iterable[Row]) -> str:
    """Efficiency of a slice beside the smallest that fits, from the times of a step."""
    families = defaultdict(list)
    for row in rows:
        if row.get("compiles"):
            chip = row["topology"].partition(":")[0]
            families[row["workload"], row["per_chip"], row["precision"], chip].append(row)
    return "".join(
        line((base["workload"], _place(base), _place(row), *_ratios(base, row)))
        for base, *others in families.values()
        for row in others
        if row["topology"] != base["topology"]
    )


def _place(row: Row) -> str:
    return f"{row['topology']}, {times(row['mesh'])}"


def _ratios(base: Row, row: Row) -> tuple[str, str]:
    pairs = [
        [Bounds(**x["seconds"]).time(overlapped, latency) for x in (base, row)]
        for overlapped in (False, True)
        for latency in (False, True)
    ]
    serial, serial_hops, overlapped, overlapped_hops = (f"{a / b:.2f}" for a, b in pairs)
    return f"{serial} ({serial_hops})", f"{overlapped} ({overlapped_hops})"


def page(directory: Path = RECORDED) -> str:
    """The whole page."""
    files = recorded(directory)
    rows = cells(files.values())
    facts = {"limit": LIMIT, "efficient": EFFICIENT, "hop": "1 us"}
    head = HEAD.format(**facts, transfers=_transfers(rows)) + rates()
    for group, title in TITLES.items():
        held = [row for row in rows if WORKLOADS[row["workload"]].group == group]
        head += f"\n## {title}\n\n{line(COLUMNS)}{line(['---'] * len(COLUMNS))}"
        head += "".join(cell(row) for row in held)
    return head + WEAK + weak(rows) + _foot(files)


def _transfers(rows: list[Row]) -> str:
    """How many of the programs talk to the host."""
    compiled = [row for row in rows if row.get("compiles")]
    talking = sum(row["host_transfers"] > 0 for row in compiled)
    return f"Of {len(compiled)} compiled programs, {talking} send to the host or receive from it."


def _foot(files: dict[str, dict[str, Any]]) -> str:
    lines = [
        f"| `{name}` | `{file['command']}` | {file['commit'][:7]}{'+' if file['dirty'] else ''} | "
        f"{file['versions']['jax']} | {file['versions']['libtpu']} |\n"
        for name, file in files.items()
    ]
    return (
        "\n## Files\n\n| file | command | commit | jax | libtpu |\n|---|---|---|---|---|\n"
        + "".join(lines)
    )


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(ROOT)}: {len(cells(recorded(RECORDED).values()))} cells")


if __name__ == "__main__":
    tyro.cli(main)
