"""A compiled program as the compiler prints it: instructions by computation, groups, trip counts.

Nothing of the text is kept: it holds paths of the machine that compiled it.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BITS = {"pred": 8, "bf16": 16} | {f"{kind}{n}": n for kind in "suf" for n in (4, 8, 16, 32, 64)}
ARRAY = re.compile(r"\b(pred|bf16|[suf]\d+)\[([\d,]*)\](\{[^}]*\})?")
COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
INSTRUCTION = re.compile(r"\s*(?:ROOT )?%([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
ON_CHIP = "S("  # of a layout in memory other than HBM


class Instruction(NamedTuple):
    """A line of a computation."""

    name: str
    type: str  # of the result, as text
    op: str
    operands: tuple[str, ...]  # names
    attributes: str  # what follows the operands

    def find(self, pattern: str) -> str:
        """The first group of `pattern` in the attributes, or nothing."""
        found = re.search(pattern, self.attributes)
        return found[1] if found else ""

    def names(self, key: str) -> list[str]:
        """Names given by the attribute `key`, one or several in braces."""
        return re.findall(r"[\w.\-]+", self.find(rf"\b{key}=(\{{[^}}]*\}}|%?[\w.\-]+)"))


Computation = dict[str, Instruction]


class Module(NamedTuple):
    """A program for one of `devices` that run it together."""

    computations: dict[str, Computation]
    entry: str
    devices: int
    host_transfers: int  # instructions that send to the host, or receive from it


def parse(text: str) -> Module:
    """Read the text of a compiled program.

    Raises:
      ValueError: it has no entry computation.
    """
    computations: dict[str, Computation] = {}
    current, entry = None, None
    for line in text.splitlines():
        if opened := COMPUTATION.match(line):
            current = computations.setdefault(opened[2], {})
            entry = opened[2] if opened[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (found := INSTRUCTION.match(line)):
            current[found[1]] = _instruction(*found.groups())
    if entry is None:
        raise ValueError("the text of the program has no entry computation")
    devices = re.search(r"(?:num_partitions|replica_count)=(\d+)", text)
    transfers = text.count("is_host_transfer=true")
    return Module(computations, entry, int(devices[1]) if devices else 1, transfers)


def _instruction(name: str, type: str, op: str, rest: str) -> Instruction:
    inside = re.split(r"\)(?:, |$)", rest, maxsplit=1)
    operands = tuple(re.findall(r"%([\w.\-]+)", inside[0]))
    constant = inside[0] if op == "constant" else ""  # its value stands where operands would
    return Instruction(name, type, op, operands, constant or "".join(inside[1:]))


def integers(text: str, separator: str = ",") -> list[int]:
    """Numbers of a list such as `3,4`."""
    return [int(x) for x in text.split(separator) if x]


def shape(type: str) -> list[int]:
    """Sizes of the first array of a type."""
    found = ARRAY.search(type)
    return integers(found[2]) if found else []


def nbytes(type: str, on_chip: bool = True) -> int:
    """Bytes of all arrays of a type; without `on_chip`, of those in HBM alone."""
    return sum(
        math.prod(integers(sizes)) * BITS[kind] // 8
        for kind, sizes, layout in ARRAY.findall(type)
        if on_chip or ON_CHIP not in layout
    )


def trip_count(module: Module, loop: Instruction) -> int | None:
    """How often the body of a `while` runs, if the text says so.

    Either the backend noted it, or the condition compares a counter that starts at 0 with it; where
    the compiler has unrolled the body, it adds more than one.
    """
    if known := loop.find(r'"known_trip_count":\{"n":"(\d+)"'):
        return int(known)
    condition = module.computations[loop.names("condition")[0]]
    for instruction in condition.values():
        if instruction.op == "compare" and "direction=LT" in instruction.attributes:
            counter, limit = (condition[name] for name in instruction.operands)
            if limit.op == "constant" and limit.attributes.isdigit():
                return -(-int(limit.attributes) // _step(module, loop, counter))
    return None


def _step(module: Module, loop: Instruction, counter: Instruction) -> int:
    """What the body of a loop adds to its counter; 1 where that is not plain."""
    body = module.computations[loop.names("body")[0]]
    *_, root = body.values()
    index = counter.find(r"\bindex=(\d+)")
    if root.op != "tuple" or not index:
        return 1
    following = body.get(root.operands[int(index)])
    if following is None or following.op != "add":
        return 1
    added = [body[name] for name in following.operands if body[name].op == "constant"]
    return int(added[0].attributes) if added else 1


def group(instruction: Instruction, devices: int) -> tuple[int, ...]:
    """The devices of the first group that a collective joins; of a permute, its longest pair."""
    if pairs := re.findall(
        r"\{(\d+),(\d+)\}", instruction.find(r"source_target_pairs=\{(.*?\})\}")
    ):
        return max(((int(a), int(b)) for a, b in pairs), key=lambda pair: abs(pair[0] - pair[1]))
    if "replica_groups=mesh[" in instruction.attributes:
        return _mesh_group(instruction)
    if iota := re.search(
        r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", instruction.attributes
    ):
        sizes, order = integers(iota[2]), integers(iota[3] or "")
        members = np.arange(math.prod(sizes)).reshape(sizes)
        members = members.transpose(order) if order else members
        return tuple(members.reshape(integers(iota[1]))[0].tolist())
    listed = instruction.find(r"replica_groups=\{\{([\d,]*)\}")
    return tuple(integers(listed)) if listed else tuple(range(devices))


def _mesh_group(instruction: Instruction) -> tuple[int, ...]:
    """The first group of `mesh['a'=64,'b'=4] {'b'}`; `'a':(2)8` is a part of an axis."""
    axes, chosen = re.search(r"mesh\[(.*?)\]\s*\{(.*?)\}", instruction.attributes).groups()
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", axes)}
    strides, stride = {}, math.prod(sizes.values())
    for name, size in sizes.items():
        stride //= size
        strides[name] = stride
    return tuple(sorted(_members(list(_factors(chosen, sizes, strides)))))


def _factors(chosen: str, sizes: dict, strides: dict) -> Iterator[tuple[int, int]]:
    """Size and stride of every axis of a group, or of the part of it that is meant."""
    for name, before, size in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", chosen):
        part = int(size) if size else sizes[name]
        inner = sizes[name] // (int(before) * part) if size else 1
        yield part, strides[name] * inner


def _members(factors: list[tuple[int, int]]) -> list[int]:
    if not factors:
        return [0]
    (size, stride), *rest = factors
    return [i * stride + member for i in range(size) for member in _members(rest)]
