import itertools
from types import SimpleNamespace

import pytest

from benchmarks import timing


def clock(monkeypatch, step):
    ticks = itertools.count(0.0, step)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))


def test_window_plays_until_the_time_is_up(monkeypatch):
    clock(monkeypatch, 0.25)
    calls = []
    assert timing.window(lambda: calls.append(0), 100, 1.0) == 400  # four calls in one second
    assert len(calls) == 4


def test_window_plays_once_at_least(monkeypatch):
    clock(monkeypatch, 3.0)
    assert timing.window(lambda: None, 6, 0.0) == 2


def test_contestants_take_turns():
    log = []
    windows = {name: lambda name=name: log.append(name) or 1.0 for name in "ab"}
    raw = timing.interleaved(windows, rounds=3)
    assert log == ["a", "b"] * 3
    assert raw == {"a": [1.0] * 3, "b": [1.0] * 3}


def test_the_first_window_is_discarded():
    assert timing.medians({"a": [1000.0, 1.0, 2.0, 3.0, 100.0]}) == {"a": 2.5}


def test_ceiling_is_a_rate_of_products():
    rate = timing.ceiling(0.05)()
    assert 1e8 < rate < 1e16


@pytest.mark.parametrize("seconds", [0.01, 0.05])
def test_window_measures_real_time(seconds):
    import time

    rate = timing.window(lambda: time.sleep(0.005), 1, seconds)
    assert 20 < rate <= 200
