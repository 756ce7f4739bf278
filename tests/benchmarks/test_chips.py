"""Arithmetic of slices against numbers worked by hand."""

import pytest

from benchmarks import chips
from benchmarks.chips import Exchange, Slice
from jaxrl.errors import UserError

POD = Slice(chips.CHIPS["v5e"], (16, 16, 1))  # two rings of 5e10 bytes per second each way
HOST = Slice(chips.CHIPS["v5e"], (2, 4, 1))  # two lines
CUBES = Slice(chips.CHIPS["v5p"], (4, 8, 8))


def test_width_is_that_of_rings_and_lines():
    assert POD.width((16, 16, 1)) == 2e11  # the published 51.2 TB/s of a pod, by 256 chips
    assert POD.width((16, 1, 1)) == 1e11
    assert POD.width((8, 1, 1)) == 5e10  # half of a ring is a line
    assert HOST.width((2, 4, 1)) == 1e11
    assert CUBES.width((4, 8, 8)) == 6e11 and CUBES.width((1, 4, 1)) == 1e11


def test_hops_are_half_a_ring_or_a_whole_line():
    assert POD.hops((16, 16, 1)) == 16
    assert HOST.hops((2, 4, 1)) == 1 + 3


@pytest.mark.parametrize(
    ("kind", "seconds", "hops"),
    [
        ("all-reduce", 2 * 1e9 * 255 / 256 / 2e11, 32),
        ("all-gather", 1e9 * 255 / 256 / 2e11, 16),
        ("reduce-scatter", 1e9 * 255 / 256 / 2e11, 16),
        ("all-to-all", 1e9 / 4 / 2e11, 16),
        ("collective-permute", 1e9 / 5e10, 16),
    ],
)
def test_time_on_the_links(kind, seconds, hops):
    found = chips.seconds(POD, Exchange(kind, (16, 16, 1), 1e9))
    assert found == pytest.approx((seconds, hops * chips.HOP))


def test_a_group_of_one_takes_no_time():
    assert chips.seconds(POD, Exchange("all-reduce", (1, 1, 1), 1e9)) == (0, 0)


def test_bounds_and_efficiency():
    exchanges = [Exchange("all-gather", (16, 1, 1), 16e9 / 15, 2)]  # 10 ms, and 2 times 8 hops
    found = chips.bounds(POD, 197e12 / 100, 819e9 / 50, exchanges)
    assert found == pytest.approx((0.01, 0.02, 0.01, 16e-6))
    assert found.name == "memory" and found.least == pytest.approx(0.01)
    assert found.efficiency(overlapped=False, latency=False) == pytest.approx(1 / 2)
    assert found.efficiency(overlapped=True, latency=False) == 1
    assert found.efficiency(overlapped=False, latency=True) == pytest.approx(0.01 / 0.020016)


def test_small_minibatches_wait_for_the_links():
    """65,536 environments: 128 gradients of 0.53 MB an iteration, and 1.41e10 operations a chip."""
    exchanges = [Exchange("all-reduce", (16, 16, 1), 128 * 0.5367e6, 128)]
    found = chips.bounds(POD, 1.41e10, 0, exchanges)
    assert found.compute == pytest.approx(72e-6, rel=0.01)
    assert found.interconnect == pytest.approx(687e-6, rel=0.01)
    assert found.latency == pytest.approx(128 * 32e-6)
    assert found.efficiency(overlapped=False, latency=False) == pytest.approx(0.09, abs=0.005)


def test_unknown_chip():
    with pytest.raises(UserError, match="topology"):
        chips.of_topology("v9:2x2")
