import json
from dataclasses import replace

import pytest

from benchmarks import cases, rooflines
from jaxrl.agents import sac
from jaxrl.errors import UserError


@pytest.fixture
def tiny(monkeypatch):
    """One agent, small enough to compile in a moment, on a small machine."""
    case = replace(cases.CASES["sac"], config=sac.Config(hidden=(8,)), length=2)
    monkeypatch.setitem(cases.CASES, "sac", case)
    monkeypatch.setattr(cases, "HELD", 512)
    monkeypatch.setattr(rooflines, "SIZES", {"cpu": (64, 2**16)})
    return case


def test_an_update_takes_the_longer_of_its_products_and_its_traffic():
    peaks = {"products": 100.0, "memory": 10.0}
    assert rooflines.limits(50.0, 20.0, peaks) == {"products": 0.5, "memory": 2.0}


def test_traffic_is_the_state_twice_and_a_batch_for_every_seed(tiny):
    one, three = rooflines.traffic(tiny, 1), rooflines.traffic(tiny, 3)
    shared = 2 * 4  # `step`, which all seeds share, in and out
    assert three - shared == 3 * (one - shared)
    row = 4 * (17 + 6 + 1 + 1 + 17) + 1  # a transition; the rest is the state
    assert one > cases.BATCH * row


def test_measures_all_numbers_of_seeds_and_keeps_a_trace(tiny, tmp_path, capsys):
    path, profile = tmp_path / "rooflines.json", tmp_path / "profile"
    config = rooflines.Config(("sac",), (1, 3), seconds=0.01, json=path, profile=profile)
    rooflines.main(config)
    found = json.loads(path.read_text())
    assert [row["seeds"] for row in found["rows"]] == [1, 3]
    one, three = found["rows"]
    assert three["flops"] == 3 * one["flops"]
    for row in found["rows"]:
        rate = row["updates_per_second"] / row["seeds"]
        least = rooflines.limits(
            row["flops"], rooflines.traffic(tiny, row["seeds"]), found["peaks"]
        )
        assert row["share"] == pytest.approx(rate * max(least.values()))
    assert list(profile.rglob("*.xplane.pb"))
    assert "3 seeds" in capsys.readouterr().out


@pytest.mark.parametrize("config", [{"agents": ("sacc",)}, {"seeds": (0,)}])
def test_bad_flags_are_refused_by_name(config):
    with pytest.raises(UserError, match=next(iter(config))):
        rooflines.main(rooflines.Config(**config))
