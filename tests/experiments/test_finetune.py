"""Going on online from an offline run, and SAC with demonstrations."""

import json

import jax
import numpy as np
import pytest

from jaxrl import checkpoint
from jaxrl.data.sources import rlds
from tests import scripts
from tests.data import synthetic

TINY = (
    *("--steps", "20", "--loop.report-every", "10", "--loop.batch-size", "8", "--episodes", "2"),
    *("--agent.hidden", "8", "--cache", "None", "--num-seeds", "2", "--normalize-obs"),
    *("--reward", "antmaze-iql"),
)
OFFLINE = {
    "iql": (*TINY, "--agent.decay-steps", "20"),
    "cql": (*TINY, "--agent.actions", "2"),
}
ONLINE = (
    *("--steps", "24", "--loop.report-every", "12", "--loop.warmup", "8", "--loop.batch-size", "8"),
    *("--loop.capacity", "64", "--episodes", "2", "--cache", "None"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "walk"
    episodes = synthetic.episodes(3, 1)
    return f"local/{rlds.write(path, episodes, {'env': 'jaxrl/Pendulum-v1'})}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data):
    """The directory of an offline run of an agent, made when it is first asked for."""
    root = tmp_path_factory.mktemp("runs")

    def made(name):
        if not (out := root / name).exists():
            scripts.play(name, *OFFLINE[name], "--dataset", data, "--out", out)
        return out

    return made


@pytest.mark.parametrize("name", ["iql", pytest.param("cql", marks=pytest.mark.slow)])
def test_a_run_goes_on_with_its_own_settings(script, runs, tmp_path, name):
    script("finetune", *ONLINE, "--run", runs(name), "--out", tmp_path)
    before, after = checkpoint.settings(runs(name)), checkpoint.settings(tmp_path)
    same = ("algorithm", "dataset", "normalize_obs", "reward", "scaling", "num_seeds")
    assert all(before[field] == after[field] for field in same)
    assert before["scaling"]["reward"]["shift"] == -1
    assert [row["step"] for row in scripts.metrics(tmp_path)] == [12, 24]
    for seed in range(2):
        states = [checkpoint.load(path, seed)[1] for path in (runs(name), tmp_path)]
        assert [int(state.step) for state in states] == [20, 20 + 17]


@pytest.mark.slow
def test_learning_begins_where_the_run_ended(script, runs, tmp_path):
    """No update is made before the warm-up ends: what is learned is the run's, seed by seed."""
    script("finetune", *ONLINE, "--run", runs("iql"), "--out", tmp_path, "--loop.warmup", 40)
    for seed in range(2):
        old, new = (checkpoint.load(path, seed)[1] for path in (runs("iql"), tmp_path))
        for a, b in [(old.actor.params, new.actor.params), (old.critic, new.critic)]:
            jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.slow
def test_a_calibrated_penalty_changes_the_run(script, runs, tmp_path):
    script("finetune", *ONLINE, "--run", runs("cql"), "--out", tmp_path / "a")
    flags = ("--out", tmp_path / "b", "--agent.calibrated")
    script("finetune", *ONLINE, "--run", runs("cql"), *flags)
    gaps = [scripts.metrics(tmp_path / name)[-1]["gap"] for name in "ab"]
    assert np.isfinite(gaps).all() and gaps[0] != gaps[1]


@pytest.mark.parametrize(
    "env", ["jaxrl/Pendulum-v1", pytest.param("gymnasium/Pendulum-v1", marks=pytest.mark.slow)]
)
def test_sac_with_demonstrations(script, tmp_path, data, env):
    flags = (*ONLINE, "--agent.hidden", 8, "--dataset", data, "--env", env, "--out", tmp_path)
    script("finetune", *flags, "--offline-share", 0.25)
    assert checkpoint.settings(tmp_path)["algorithm"] == "sac"
    script("finetune", *flags, "--offline-share", 0.25, "--steps", 36)
    assert [row["step"] for row in scripts.metrics(tmp_path)] == [12, 24, 36]


@pytest.mark.slow
def test_the_share_matters(script, tmp_path, data):
    flags = (*ONLINE, "--agent.hidden", 8, "--dataset", data)
    for share in (0, 1):
        script("finetune", *flags, "--offline-share", share, "--out", tmp_path / str(share))
    q = [scripts.metrics(tmp_path / name)[-1]["q"] for name in "01"]
    assert q[0] != q[1]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--run", "nowhere"), "nowhere"),
        (("--offline-share", 1.5), "offline_share: found 1.5"),
        (("--env", "jaxrl/CartPole-v1"), "have shapes"),
        (("--loop.n-step", 3), "loop.n_step"),
        (("--num-seeds", 5), "seed: found 2"),
        (("--agent.hidden", 9), "other sizes"),
    ],
)
def test_bad_input(refused, runs, tmp_path, flags, said):
    arguments = (*ONLINE, "--run", runs("iql"), "--out", tmp_path / "on", *flags)
    assert said in refused("finetune", *arguments)
    assert not (tmp_path / "on").exists()


def test_a_sweep_and_a_run_without_data_are_refused(refused, runs, tmp_path):
    settings = checkpoint.settings(runs("iql"))
    sweep = {"sweep": {"agent": {"gamma": [0.9, 0.99]}}}
    (tmp_path / "config.json").write_text(json.dumps(settings | sweep))
    assert "a sweep of 2 settings" in refused("finetune", *ONLINE, "--run", tmp_path)
    online = {name: x for name, x in settings.items() if name != "dataset"}
    (tmp_path / "config.json").write_text(json.dumps(online))
    assert "learned from none" in refused("finetune", *ONLINE, "--run", tmp_path)


def test_a_scaling_that_the_run_did_not_learn_with_is_refused(refused, runs, tmp_path):
    settings = checkpoint.settings(runs("iql")) | {"scaling": {}, "reward": "locomotion"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    error = refused("finetune", *ONLINE, "--run", tmp_path, "--reward", "raw")
    assert "reward: found raw, expected locomotion" in error


def test_an_agent_that_cannot_explore_is_refused(refused, runs, tmp_path):
    settings = checkpoint.settings(runs("iql")) | {"algorithm": "bc"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert "expected one of sac" in refused("finetune", *ONLINE, "--run", tmp_path)
