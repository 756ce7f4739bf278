"""The page of results says what the recorded runs say."""

import json

from benchmarks import results


def test_the_page_is_that_of_the_recorded_runs():
    assert results.PAGE.read_text() == results.page(), "run python -m benchmarks.results"


def test_every_recorded_run_names_its_commit_and_no_directory():
    for name, run in results.runs(results.RECORDED).items():
        assert all(start["commit"] and start["versions"]["jax"] for start in run["starts"]), name
        assert "out" not in run["settings"] and len(run["final_return"]) == len(run["seeds"]), name
        assert "/tmp" not in json.dumps(run) and "/home" not in json.dumps(run), name


def test_a_row_has_a_number_for_each_seed():
    run = next(iter(results.runs(results.RECORDED).values()))
    cells = results.row("file.json", run).split(" | ")
    assert len(cells) == 8 and len(cells[3].split(", ")) == len(run["seeds"])
