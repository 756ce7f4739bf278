import json
import sys

from benchmarks import machine


def test_results_name_no_directory_of_this_machine(monkeypatch):
    flags = ["--agent", "sac", "--peers-dir", "/here", "--peers", "--json", "/there/x.json"]
    monkeypatch.setattr(sys, "argv", ["throughput.py", *flags])
    expected = "python -m benchmarks.throughput --agent sac --peers"
    assert machine.about("benchmarks.throughput")["command"] == expected


def test_a_measurement_says_where_it_was_made():
    found = machine.about("benchmarks.x")
    assert {"commit", "versions", "cores", "processor", "devices"} <= found.keys()
    assert len(found["load_average"]) == 3
    assert machine.peaks()["peak_rss_bytes"] > 2**20


def test_nothing_is_written_without_a_file(tmp_path):
    path = tmp_path / "new" / "x.json"
    machine.write(None, {})
    machine.write(path, {"a": 1.5})
    assert json.loads(path.read_text()) == {"a": 1.5}
    assert list(tmp_path.iterdir()) == [path.parent]
