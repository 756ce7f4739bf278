import io
import json
import sys
from importlib import metadata

import pytest

from benchmarks.peers import serving


def test_the_first_line_says_what_it_is():
    answers = io.StringIO()
    serving.introduce(["numpy"], "cpu", answers)
    about = {"versions": {"numpy": metadata.version("numpy")}, "platform": "cpu"}
    assert json.loads(answers.getvalue()) == about


def test_a_rate_is_the_amount_over_the_time(monkeypatch):
    now = iter([0.0, 1.0, 2.0, 4.0])  # at the beginning, and after each call
    monkeypatch.setattr(serving.time, "perf_counter", lambda: next(now))
    assert serving.window(lambda: None, 8, 3.0) == pytest.approx(8 * 3 / 4)


def test_each_line_is_answered_and_a_measure_is_built_once(monkeypatch):
    built, calls, answers = [], [], io.StringIO()

    def measure():
        built.append(1)
        return lambda: calls.append(1), 1

    monkeypatch.setattr(sys, "stdin", io.StringIO("updates\nupdates\n"))
    monkeypatch.setattr(sys, "argv", ["peer.py", "0"])
    serving.serve({"updates": measure}, answers)
    rates = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert len(rates) == 2 and min(rates) > 0
    assert len(built) == 1 and len(calls) == 2
