"""Every script, called with nothing at all, trains on an embedded task."""

import runpy
import sys

import pytest

from jaxrl import experiment
from jaxrl.errors import UserError
from tests import scripts

ONLINE = ("sac", "dsac", "ppo")
OFFLINE = (
    *("bc", "td3_bc", "cql", "iql", "diffusion_ql", "idql"),
    *("decision_transformer", "diffusion_policy"),
)


@pytest.mark.parametrize("script", ONLINE + OFFLINE)
def test_no_flags_mean_an_embedded_task(script, monkeypatch, capsys):
    def started(config):
        raise UserError(config.dataset if script in OFFLINE else config.env)

    monkeypatch.setattr(experiment, "prepare", started)
    monkeypatch.setattr(sys, "argv", [f"{script}.py"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(scripts.ROOT / "experiments" / f"{script}.py"), run_name="__main__")
    assert capsys.readouterr().err.startswith("error: jaxrl/")
