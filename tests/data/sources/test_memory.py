"""Loading takes little more than the arrays twice: on the host and on the device."""

import pytest

from benchmarks import loading

ROWS = 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", loading.KINDS)
def test_a_million_rows_take_less_than_2_3_times_their_arrays(kind):
    found = loading.measure(kind, ROWS)
    assert found["transitions"] == ROWS
    assert found["bytes"] > 4 * ROWS * (loading.OBS + loading.ACTION)
    print(f"{kind}: {found['ratio']:.2f} times {found['bytes']:,} bytes")
    assert 1 < found["ratio"] < 2.3
