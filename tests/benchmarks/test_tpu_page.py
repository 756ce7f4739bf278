"""The page of slices says what the files say."""

import json
from copy import deepcopy

import pytest

from benchmarks import tpu_page
from benchmarks.results import RECORDED
from benchmarks.tpu_table import enough, judged

FILES = tpu_page.recorded(RECORDED)
ROWS = tpu_page.cells(FILES.values())


def test_the_page_is_that_of_the_files():
    assert tpu_page.PAGE.read_text() == tpu_page.page(), "run python -m benchmarks.tpu_page"


def test_what_was_predicted_follows_from_the_facts():
    for row in ROWS:
        again = json.loads(json.dumps(judged(deepcopy(dict(row)))))
        assert again.get("bound") == row.get("bound"), row["workload"]
        for name in ("replication", "samples_per_second", "efficiency", "seconds"):
            assert again.get(name) == pytest.approx(row.get(name)), (row["workload"], name)


def test_no_program_talks_to_the_host():
    assert not [row["workload"] for row in ROWS if row.get("host_transfers")]


def test_cells_are_ordered_by_workload_and_size():
    sizes = {"v5e:16x16": 0, "v5e:2x4": 0, "v5e:1x1": 0}
    rows = [{"workload": name, "topology": size} for name in ("iql", "sac") for size in sizes]
    found = [(row["workload"], row["topology"]) for row in tpu_page.cells([{"tpu": rows}])]
    assert found[:3] == [("sac", "v5e:1x1"), ("sac", "v5e:2x4"), ("sac", "v5e:16x16")]
    assert [name for name, _ in found[3:]] == ["iql"] * 3


def test_weak_scaling_is_the_ratio_of_times():
    seconds = {"compute": 2.0, "memory": 9.0, "interconnect": 0.0, "latency": 0.0}
    base = {"workload": "sac", "topology": "v5e:1x1", "mesh": [1, 1, 1], "per_chip": 256}
    base |= {"precision": "float32", "compiles": True, "seconds": seconds}
    row = base | {"topology": "v5e:2x4", "mesh": [8, 1, 1]}
    row["seconds"] = seconds | {"interconnect": 2.0, "latency": 1.0}
    expected = "| sac | v5e:1x1, 1x1x1 | v5e:2x4, 8x1x1 | 0.50 (0.40) | 1.00 (0.67) |\n"
    assert tpu_page.weak([base, row]) == expected


def test_the_batch_that_is_enough_makes_links_a_ninth_of_computing():
    row = {"workload": "sac", "mesh": [8, 1, 1], "per_chip": 256}
    row |= {"argument_bytes": 100, "peak_bytes": 150}
    row["seconds"] = {"compute": 3.0, "interconnect": 1.0}
    assert enough(row) == (768, pytest.approx(250))
    row["seconds"] = {"compute": 10.0, "interconnect": 1.0}
    assert enough(row) == (256, 150)
    assert enough(row | {"mesh": [4, 1, 2]}) is None
    assert enough(row | {"workload": "sac_seeds"}) is None
