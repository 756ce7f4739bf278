"""Demonstrations of Push-T as a dataset, and Diffusion Policy on them."""

import json

import pytest

from jaxrl.data import sources
from tests import scripts

pytest.importorskip("gym_pusht")

SMALL = (
    *("--steps", "2", "--loop.report-every", "2", "--loop.batch-size", "8", "--episodes", "2"),
    *("--agent.hidden", "8", "--agent.steps", "2", "--cache", "None", "--agent.embedding", "8"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "pusht"
    scripts.play("pusht", "--episodes", 2, "--seed", 4, "--out", out, trains=False)
    return out


def test_a_dataset_says_how_the_expert_did(data):
    source = sources.find(f"local/{data}")
    about = source.metadata
    assert about["tried"] == 2 and about["success"] == 1 and len(source.lengths) == 2
    assert about["score_mean"] == pytest.approx(1)
    assert about["env"].startswith("gymnasium/gym_pusht/PushT-v0?return=best")
    assert source.spec.obs.shape == (18,)


@pytest.mark.slow
def test_diffusion_policy_is_scored_on_push_t(data, script, tmp_path, capsys):
    out = tmp_path / "run"
    script("diffusion_policy", "--dataset", f"local/{data}", "--out", out, *SMALL)
    settings = json.loads((out / "config.json").read_text())
    assert settings["env"].startswith("gymnasium/gym_pusht/PushT-v0")
    assert settings["agent"]["network"] == "residual"  # the preset's
    (report,) = scripts.metrics(out)
    assert 0 <= report["return"][0] <= 1
    capsys.readouterr()
    script("evaluate", "--run", out, "--episodes", 2, trains=False)
    assert json.loads(capsys.readouterr().out)["success"] == [0]


def test_a_directory_that_exists_is_refused(data, refused):
    assert "exists, expected a new directory" in refused("pusht", "--out", data, trains=False)
