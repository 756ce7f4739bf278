import json

import numpy as np
import pytest

from benchmarks import loading, results
from jaxrl.data import sources


@pytest.mark.parametrize("kind", loading.KINDS)
def test_every_format_holds_what_is_to_be_loaded(kind, tmp_path):
    source = sources.find(loading.write(kind, tmp_path / kind, 2))
    np.testing.assert_array_equal(source.lengths, [loading.LENGTH] * 2)
    assert source.spec.obs.shape == (loading.OBS,) and source.spec.action.shape == (loading.ACTION,)


def test_what_is_measured_is_consistent(tmp_path):
    found = loading.measure("local", 10 * loading.LENGTH)
    assert found["transitions"] == 10_000 and found["seconds"] > 0
    assert found["ratio"] == pytest.approx(found["peak_above"] / found["bytes"])


def test_recorded_loading_takes_less_than_2_3_times_the_arrays():
    found = json.loads((results.RECORDED / "loading.json").read_text())["formats"]
    assert set(found) == set(loading.KINDS)
    for kind, numbers in found.items():
        assert numbers["transitions"] == 10**6, kind
        assert 1 < numbers["ratio"] < 2.3, kind
