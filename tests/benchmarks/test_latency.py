import json
from dataclasses import replace

import pytest

from benchmarks import flops, latency

DT = replace(latency.DT, context=2, width=8, layers=1)
SMALL = {"network": "mlp", "hidden": (8,), "embedding": 8}


@pytest.fixture
def cases(monkeypatch):
    """The same policies, small enough to compile in a moment."""

    def shrunk(case):
        config = DT if case.config is latency.DT else replace(case.config, **SMALL)
        return case._replace(config=config)

    small = {name: shrunk(case) for name, case in latency.CASES.items()}
    monkeypatch.setattr(latency, "CASES", small)
    return small


@pytest.mark.slow
def test_measures_all_policies_and_writes_what_it_found(cases, tmp_path, capsys):
    path = tmp_path / "latency.json"
    latency.main(latency.Config(json=path, seconds=0.002))
    found = json.loads(path.read_text())
    assert found["milliseconds"].keys() == cases.keys()
    assert {"commit", "processor", "load_average", "peak_rss_bytes"} <= found.keys()
    one, many = "decision_transformer", "decision_transformer_1024"
    expected = found["milliseconds"][many] / found["milliseconds"][one]
    assert found["ratios"][f"{many} / {one}"] == pytest.approx(expected)
    assert "diffusion_flow_4 / diffusion_ddim_10" in capsys.readouterr().out


def work(case):
    step, args = latency.call(case)
    return flops.count(step, *args)


def test_every_call_draws_a_whole_chain(cases):
    """What a call costs goes with the number of its steps: none is spared, none computed twice."""
    flow, ddim = work(cases["diffusion_flow_4"]), work(cases["diffusion_ddim_10"])
    assert ddim / flow == pytest.approx(10 / 4, rel=0.01)


def test_a_call_acts_for_all_its_environments(cases):
    case = cases["decision_transformer"]
    one, four = (work(case._replace(envs=n)) for n in (1, 4))
    assert four == pytest.approx(4 * one)
