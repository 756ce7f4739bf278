"""Published rates of TPU chips, and what they allow a compiled program: arithmetic, no measurement.

A collective of V bytes takes V (n - 1) / n over the width of its group's links, twice that where
it reduces and then spreads; every hop on its longest way may add `HOP`. Products at the published
peak take the least time that computing can, so its share is a lower bound; traffic of memory, which
is only estimated, names a bound and enters no rate. A link's rate is the published interconnect
bandwidth of a chip by its links and both directions; the JAX scaling book
(jax-ml.github.io/scaling-book/tpus) has a tenth less.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxrl.errors import unknown_name

HOP = 1e-6  # seconds; an assumption, there is no published number


@dataclass(frozen=True)
class Chip:
    """Rates of one chip."""

    products: float  # bfloat16 operations per second
    memory: float  # bytes of HBM
    bandwidth: float  # of HBM, bytes per second
    link: float  # bytes per second and direction of one link to a neighbour
    ring: int  # an axis of a multiple of as many chips is closed to a ring
    source: str


DOCS = "https://docs.cloud.google.com/tpu/docs/"
CHIPS = {
    "v5e": Chip(197e12, 16e9, 819e9, 5e10, 16, DOCS + "v5e"),
    "v6e": Chip(918e12, 32e9, 1638e9, 1e11, 16, DOCS + "v6e"),
    "v5p": Chip(459e12, 95e9, 2765e9, 1e11, 4, DOCS + "v5p"),
}


def of_topology(topology: str) -> Chip:
    """The chip of a slice such as `v5e:2x4`.

    Raises:
      UserError: its rates are not listed here.
    """
    name = topology.partition(":")[0]
    if name not in CHIPS:
        raise unknown_name("topology", name, CHIPS)
    return CHIPS[name]


class Slice(NamedTuple):
    """Chips that are linked to their neighbours along each axis."""

    chip: Chip
    sizes: Sequence[int]

    def rings(self, extents: Sequence[int]) -> list[bool]:
        """Whether a group of these extents goes all the way round, axis by axis."""
        pairs = zip(extents, self.sizes, strict=True)
        return [n == size and size % self.chip.ring == 0 for n, size in pairs]

    def width(self, extents: Sequence[int]) -> float:
        """Bytes per second that leave a chip of a group: both ways round a ring, else one."""
        pairs = zip(extents, self.rings(extents), strict=True)
        return sum(self.chip.link * (2 if ring else 1) for n, ring in pairs if n > 1)

    def hops(self, extents: Sequence[int]) -> int:
        """Links on the longest way through a group."""
        pairs = zip(extents, self.rings(extents), strict=True)
        return sum(n // 2 if ring else n - 1 for n, ring in pairs)


class Exchange(NamedTuple):
    """A kind of collective as the links see it."""

    kind: str
    extents: Sequence[int]  # chips that its groups span along each axis of the slice
    bytes: float  # of the full arrays, of all runs together
    count: float = 1  # runs


def seconds(slice: Slice, exchange: Exchange) -> tuple[float, float]:
    """Time on the links, and of the hops, of all runs of a collective."""
    kind, extents, size, count = exchange
    n, rounds = math.prod(extents), 2 if kind == "all-reduce" else 1
    if n == 1:
        return 0.0, 0.0
    if kind == "collective-permute":
        time = size / slice.chip.link
    elif "all-to-all" in kind:
        time = size / (4 * slice.width(extents))
    else:
        time = rounds * size * (n - 1) / n / slice.width(extents)
    return time, count * rounds * slice.hops(extents) * HOP


class Bounds(NamedTuple):
    """Seconds of a program by what it waits for."""

    compute: float  # products at the peak rate
    memory: float  # traffic of HBM, an estimate
    interconnect: float  # collectives by bandwidth
    latency: float  # their hops

    @property
    def name(self) -> str:
        """Which of the three is the longest."""
        return max(self._fields[:3], key=lambda name: getattr(self, name))

    @property
    def least(self) -> float:
        """No program is faster: where all overlaps, and neither hops nor memory cost anything."""
        return max(self.compute, self.interconnect)

    def efficiency(self, overlapped: bool, latency: bool) -> float:
        """Share of computing in the time that it and the links need."""
        return self.compute / self.time(overlapped, latency)

    def time(self, overlapped: bool, latency: bool) -> float:
        """Seconds of computing and links, one after the other or both at once."""
        links = self.interconnect + (self.latency if latency else 0)
        return max(self.compute, links) if overlapped else self.compute + links


def bounds(
    slice: Slice, products: float, hbm_bytes: float, exchanges: Sequence[Exchange]
) -> Bounds:
    """What a program of this work per chip is bound by."""
    times = [seconds(slice, exchange) for exchange in exchanges]
    links, latency = (sum(column) for column in zip(*times, strict=True)) if times else (0.0, 0.0)
    chip = slice.chip
    return Bounds(products / chip.products, hbm_bytes / chip.bandwidth, links, latency)
