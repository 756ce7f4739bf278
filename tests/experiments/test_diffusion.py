"""The scripts of generative policies as a user meets them."""

import json

import numpy as np
import pytest

from jaxrl import checkpoint
from jaxrl.data.sources import rlds
from tests import scripts
from tests.data import synthetic

RUN = ("--steps", 4, "--loop.report-every", 2, "--loop.batch-size", 8, "--episodes", 2)
CHUNKS = (
    *(*RUN, "--cache", "None", "--agent.network", "mlp", "--agent.hidden", 8, 8),
    *("--agent.steps", 3, "--agent.embedding", 8, "--agent.warmup-steps", 0),
)
SMALL = {
    "diffusion_ql": ("--agent.hidden", 8, "--agent.embedding", 4, "--agent.candidates", 3),
    "idql": (
        *("--agent.hidden", 8, "--agent.width", 8, "--agent.blocks", 1, "--agent.embedding", 4),
        *("--agent.candidates", 3),
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Synthetic episodes with the shapes of Pendulum, as a name."""
    path = tmp_path_factory.mktemp("data") / "walk"
    episodes = synthetic.episodes(3, 1) * 2
    return f"local/{rlds.write(path, episodes, {'env': 'jaxrl/Pendulum-v1'})}"


def again(script, directory, capsys):
    """What `evaluate.py` prints of a run."""
    capsys.readouterr()
    script("evaluate", "--run", directory, "--episodes", 3, trains=False)
    return json.loads(capsys.readouterr().out)


def test_a_chunk_policy_knows_the_limits_of_its_data(script, tmp_path, capsys):
    flags = ("--dataset", "jaxrl/detour-v0", "--num-seeds", 2, "--out", tmp_path)
    script("diffusion_policy", *CHUNKS, *flags)
    rows = scripts.metrics(tmp_path)
    assert [row["step"] for row in rows] == [2, 4]
    assert all(len(row["return"]) == 2 for row in rows)
    _, state = checkpoint.load(tmp_path, 1)
    np.testing.assert_allclose(state.ranges.action.low, [0.9, -1], rtol=1e-6)
    assert np.shape(again(script, tmp_path, capsys)["episodes"]) == (2, 3)


def test_a_chunk_policy_heads_for_a_goal(script, tmp_path, capsys):
    goal = ("--agent.goal-size", 2, "--agent.goal", 1, -0.5, "--agent.guidance", 2)
    script("diffusion_policy", *CHUNKS, "--dataset", "jaxrl/detour-v0", *goal, "--out", tmp_path)
    agent, state = checkpoint.load(tmp_path, 0)
    np.testing.assert_array_equal(state.ranges.goal.low, state.ranges.obs.low)
    obs = np.zeros((1, 2, 2), np.float32)
    there, here = (agent.act(state, obs, goal=np.array([x])) for x in ([1, -0.5], [0, 0]))
    np.testing.assert_array_equal(agent.act(state, obs), there)
    assert (there != here).any()
    assert np.shape(again(script, tmp_path, capsys)["episodes"]) == (3, 3)


@pytest.mark.parametrize("name", SMALL)
def test_a_run_is_scored_by_picking_among_draws(name, script, tmp_path, data, capsys):
    flags = ("--dataset", data, "--normalize-obs", "--cache", "None", "--out", tmp_path)
    script(name, *RUN, *SMALL[name], *flags)
    assert [row["step"] for row in scripts.metrics(tmp_path)] == [2, 4]
    assert np.shape(again(script, tmp_path, capsys)["episodes"]) == (1, 3)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--normalize-obs",), "normalize_obs: found True, expected False"),
        (("--agent.horizon", 8), "horizon: found 8, expected at least"),
        (("--agent.horizon", 40), "length: found 40, expected at most 23"),
        (("--agent.steps", 0), "steps: found 0"),
        (("--agent.goal", 1, 0), "goal: found 2 numbers, expected 0"),
        (("--agent.goal-size", 2), "agent.goal: found 0 numbers and goal_size 2"),
        (("--agent.goal-size", 1, "--agent.goal", 1), "agent.goal_size: found 1, but a goal is"),
    ],
)
def test_bad_input(refused, tmp_path, flags, said):
    common = ("--dataset", "jaxrl/detour-v0", "--out", tmp_path / "run")
    assert said in refused("diffusion_policy", *CHUNKS, *common, *flags)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
