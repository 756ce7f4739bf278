"""What a compiled program does on each device: operations, memory traffic and collectives.

Bodies of loops count as often as they run; of a `cond` the dearer branch counts. Of memory traffic
this is good to a factor of about two: enough to name a bound, not to predict a rate.
"""

import math
import re
from collections import Counter
from functools import partial
from typing import NamedTuple

from benchmarks import flops, hlo
from benchmarks.hlo import Computation, Instruction, Module

KINDS = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"),
    *("collective-broadcast", "ragged-all-to-all"),
)
PASSES = {"highest": 6, "high": 3}  # bfloat16 products in one of float32; otherwise one
FREE = {  # neither read nor write
    *("parameter", "tuple", "get-tuple-element", "constant", "bitcast", "while", "conditional"),
    *("call", "after-all", "partition-id", "iota", "copy-done", "slice-done", "async-done"),
    *("all-gather-done", "all-reduce-done", "collective-permute-done"),
}
FLOPS, PRODUCTS, HBM, UNKNOWN = "flops", "products", "hbm_bytes", "unknown_loops"
Work = Counter  # of the names above, and how often each Collective runs


class Collective(NamedTuple):
    """A kind of exchange within a group of devices."""

    kind: str
    group: tuple[int, ...]  # positions in the mesh
    bytes: int  # of the full array: what all members hold or get together
    channel: str  # that asynchronous parts of one exchange share


def of_module(module: Module) -> Work:
    """All work of one run of the program.

    `flops` are multiply-adds times two, `products` the same in bfloat16 passes of the chip's
    matrix unit, `unknown_loops` those that are counted as one iteration.
    """
    return _of_computation(module, {}, module.entry, False)


def _of_computation(module: Module, known: dict, name: str, fused: bool) -> Work:
    if (name, fused) not in known:
        known[name, fused] = work = Counter()
        computation, seen = module.computations[name], set()
        for instruction in computation.values():
            inner = _inside(module, known, instruction, fused)
            new = {key: n for key, n in inner.items() if _channel(key) not in seen}
            if instruction.op == "fusion":
                seen |= {_channel(key) for key in new} - {None}
            work.update(new)
            work.update(_own(module, computation, instruction, fused))
    return known[name, fused]


def _channel(key: str | Collective) -> tuple[str, str] | None:
    """What parts of one asynchronous exchange, printed as several fusions, have in common."""
    return (key.kind, key.channel) if isinstance(key, Collective) and key.channel else None


def _inside(module: Module, known: dict, instruction: Instruction, fused: bool) -> Work:
    """Work of the computations that an instruction calls."""
    of = partial(_of_computation, module, known)
    match instruction.op:
        case "while":
            times = hlo.trip_count(module, instruction)
            body = of(instruction.names("body")[0], fused)
            work = Counter({key: n * (times or 1) for key, n in body.items()})
            work[UNKNOWN] += times is None and body[FLOPS] > 0
            return work
        case "conditional":
            work = Counter()
            for branch in _branches(instruction):
                work |= of(branch, fused)
            return work
        case "fusion":
            return of(instruction.names("calls")[0], True)
        case "call" | "async-start":
            return of((instruction.names("calls") or instruction.names("to_apply"))[0], fused)
    return Counter()


def _branches(instruction: Instruction) -> list[str]:
    return instruction.names("branch_computations") or [
        *instruction.names("true_computation"),
        *instruction.names("false_computation"),
    ]


def _own(module: Module, computation: Computation, instruction: Instruction, fused: bool) -> Work:
    """Work of an instruction itself."""
    work: Work = Counter()
    if instruction.op in ("dot", "convolution"):
        operations = _dot if instruction.op == "dot" else _convolution
        work[FLOPS] = operations(computation, instruction)
        work[PRODUCTS] = work[FLOPS] * _passes(computation, instruction)
    kind = instruction.op.removesuffix("-start")
    if kind in KINDS:
        work[_collective(module, computation, instruction, kind)] = 1
    if not fused and instruction.op not in FREE:
        work[HBM] = _traffic(computation, instruction)
    return work


def _collective(
    module: Module, computation: Computation, instruction: Instruction, kind: str
) -> Collective:
    group = hlo.group(instruction, module.devices)
    size = sum(hlo.nbytes(computation[name].type) for name in instruction.operands)
    parts = len(group) if kind in ("all-gather", "all-to-all", "ragged-all-to-all") else 1
    return Collective(kind, group, size * parts, instruction.find(r"channel_id=(\d+)"))


def _passes(computation: Computation, instruction: Instruction) -> int:
    """bfloat16 products that one product takes: one, unless its operands hold more digits."""
    types = [computation[name].type for name in instruction.operands[:2]]
    if not any(type.startswith(("f32", "f64")) for type in types):
        return 1
    asked = re.findall(r"\w+", instruction.find(r"operand_precision=\{([^}]*)\}"))
    return max((PASSES.get(precision, 1) for precision in asked), default=1)


def _dot(computation: Computation, instruction: Instruction) -> float:
    left = hlo.shape(computation[instruction.operands[0]].type)
    contracted = hlo.integers(instruction.find(r"lhs_contracting_dims=\{([\d,]*)\}"))
    return 2.0 * math.prod(hlo.shape(instruction.type)) * math.prod(left[i] for i in contracted)


def _convolution(computation: Computation, instruction: Instruction) -> float:
    """TPUs print products of matrices as convolutions, batched ones as dilated ones.

    Of the latter's windows a single tap is real.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes).groups()
    types = [computation[name].type for name in instruction.operands[:2]] + [instruction.type]
    sizes = [
        dict(zip(label, hlo.shape(t), strict=True)) for label, t in zip(labels, types, strict=True)
    ]
    left, right, out = sizes
    window = instruction.find(r"window=\{([^}]*)\}")
    total = 2.0 * out["b"] * out["f"] * right["i"]
    for i, axis in enumerate(sorted(set(out) - {"b", "f"})):
        spread = (_field(window, name, i) for name in ("stride", "pad", "lhs_dilate", "rhs_dilate"))
        total *= flops.taps(left[axis], out[axis], right[axis], *spread)
    return total


def _field(window: str, name: str, axis: int) -> int:
    """A number of `window={size=3x3 pad=1_1x0_0}` for one axis; of a pair the first."""
    found = re.search(rf"\b{name}=([\d_x\-]+)", window)
    return int(found[1].split("x")[axis].split("_")[0]) if found else int(name != "pad")


def _traffic(computation: Computation, instruction: Instruction) -> int:
    """Bytes that an instruction reads from and writes to HBM."""
    operands = [computation[name].type for name in instruction.operands if name in computation]
    read = [hlo.nbytes(type, on_chip=False) for type in operands]
    written = hlo.nbytes(instruction.type, on_chip=False)
    if instruction.op in ("copy-start", "slice-start"):  # the result holds both ends
        return max([written, *read])
    if "dynamic-update-slice" in instruction.name:  # in place: only the slice moves
        return 2 * (sum(read) - max(read, default=0))
    if instruction.op in ("dynamic-slice", "gather") or "dynamic-slice" in instruction.name:
        return 2 * written
    return written + sum(read)
