import pytest

from benchmarks import cases, seeds


def test_costs_are_those_of_a_seed_alone():
    medians = {"iql": 100.0, "iql, map": 98.0, "iql, vmap": 80.0}  # of all seeds together
    found = seeds.costs(medians, ["iql"])
    assert found == {"iql, map": pytest.approx(100 / 98), "iql, vmap": pytest.approx(1.25)}


def test_contestants_play_the_seeds_they_are_named_for(monkeypatch):
    small = cases.Case(cases.bc, cases.bc.Config(hidden=(8,)), length=2)
    monkeypatch.setitem(seeds.CASES, "bc", small)
    config = seeds.Config(("bc",), seeds=3, seconds=0.01, episodes=8)
    found = seeds.measure(config)
    assert set(found["windows"]) == {"bc", "bc, map", "bc, vmap"} and found["seeds"] == 3
    assert all(rate > 0 for rates in found["windows"].values() for rate in rates)
