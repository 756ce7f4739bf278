"""The page of results says what the recorded runs say."""

import json
import re

from benchmarks import results


def test_the_page_is_that_of_the_recorded_runs():
    assert results.PAGE.read_text() == results.page(), "run python -m benchmarks.results"


def test_every_recorded_run_names_its_commit_and_no_directory():
    for name, run in results.runs(results.RECORDED).items():
        assert all(start["commit"] and start["versions"]["jax"] for start in run["starts"]), name
        assert "out" not in run["settings"] and len(run["final_return"]) == len(run["seeds"]), name


def test_no_result_holds_a_directory_of_a_machine():
    for path in results.RECORDED.glob("*.json"):
        text = path.read_text()
        assert json.loads(text) and not re.search(r'[" =]/(tmp|home|root|work)/', text), path.name


def test_a_row_has_a_number_for_each_seed():
    run = next(iter(results.runs(results.RECORDED).values()))
    cells = results.row("file.json", run).split(" | ")
    assert len(cells) == 8 and len(cells[3].split(", ")) == len(run["seeds"])
