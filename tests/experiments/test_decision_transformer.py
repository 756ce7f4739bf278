"""The script of the Decision Transformer as a user meets it."""

import json

import numpy as np
import pytest

from jaxrl import checkpoint
from jaxrl.data.sources import rlds
from tests import scripts
from tests.data import synthetic

TINY = (
    *("--steps", "4", "--loop.report-every", "2", "--loop.batch-size", "8", "--episodes", "2"),
    *("--agent.width", "8", "--agent.layers", "1", "--agent.context", "3", "--cache", "None"),
    *("--agent.heads", "1"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Synthetic episodes with the shapes of Pendulum, as a name."""
    path = tmp_path_factory.mktemp("data") / "walk"
    episodes = synthetic.episodes(3, 1) * 2
    return f"local/{rlds.write(path, episodes, {'env': 'jaxrl/Pendulum-v1'})}"


def test_a_run_is_scored_by_its_target_and_again_by_others(script, tmp_path, data, capsys):
    flags = ("--dataset", data, "--num-seeds", 2, "--normalize-obs", "--out", tmp_path)
    script("decision_transformer", *TINY, *flags)
    rows = scripts.metrics(tmp_path)
    assert [row["step"] for row in rows] == [2, 4]
    assert all(len(row["return"]) == 2 for row in rows)
    best = max(episode.reward.sum() for episode in synthetic.episodes(3, 1))
    assert checkpoint.settings(tmp_path)["target"] == pytest.approx(best, rel=1e-5)
    capsys.readouterr()
    again = ("--run", tmp_path, "--episodes", 3, "--targets", -100, -500)
    script("evaluate", *again, trains=False)
    found = json.loads(capsys.readouterr().out)
    assert np.shape(found["episodes"]) == (2, 6)
    means = np.reshape(found["episodes"], (2, 3, 2)).mean((0, 1))
    np.testing.assert_allclose(found["return_of_target"], means, rtol=1e-5)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--reward", "locomotion"), "reward: found locomotion, expected raw"),
        (("--agent.context", 10), "context: found 10, expected at most 9, the longest episode"),
        (("--agent.heads", 3), "heads: found 3, which does not divide width 8"),
    ],
)
def test_bad_input(refused, tmp_path, data, flags, said):
    common = ("--dataset", data, "--out", tmp_path / "run")
    assert said in refused("decision_transformer", *TINY, *common, *flags)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_other_agents_take_no_targets():
    settings = {"algorithm": "iql"}
    with pytest.raises(ValueError, match="targets: iql is not conditioned on a return"):
        checkpoint.policy_of(settings, None, (1.0,))
