"""The offline scripts as a user meets them: what they write, and what they say to bad input."""

import json
import runpy

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import checkpoint, envs, experiment
from jaxrl.data import sources
from jaxrl.data.sources import rlds
from jaxrl.types import Spec
from tests import scripts
from tests.data import synthetic

LENGTH = (*("--steps", "20", "--loop.report-every", "10", "--loop.batch-size", "8"), "--episodes")
TINY = (*LENGTH, "2", "--agent.hidden", "8", "--cache", "None")
SCRIPTS = ("bc", "td3_bc", "cql", "iql")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("td3_bc", "cql")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Synthetic episodes with the shapes of Pendulum, as a name."""
    path = tmp_path_factory.mktemp("data") / "walk"
    episodes = synthetic.episodes(3, 1) * 2
    return f"local/{rlds.write(path, episodes, {'env': 'jaxrl/Pendulum-v1'})}"


@pytest.mark.parametrize("name", ["bc", "iql", *SLOW])
def test_files_of_a_run(script, tmp_path, name, data):
    more = ("--normalize-obs", "--reward", "locomotion", "--sampling", "return_weighted")
    script(name, *TINY, *more, "--dataset", data, "--num-seeds", 2, "--out", tmp_path)
    rows = scripts.metrics(tmp_path)
    assert [row["step"] for row in rows] == [10, 20]
    assert all(len(row["return"]) == 2 for row in rows)
    settings = checkpoint.settings(tmp_path)
    assert settings["algorithm"] == name and settings["env"] == "jaxrl/Pendulum-v1"
    agent, state = checkpoint.load(tmp_path, seed=1)
    assert int(state.step) == 20 and agent.act(state, jnp.ones((1, 3))).shape == (1, 1)


def test_evaluation_is_given_raw_observations(script, tmp_path, data, capsys):
    flags = ("--dataset", data, "--normalize-obs", "--num-seeds", 1, "--out", tmp_path)
    script("bc", *TINY, *flags)
    agent, state = checkpoint.load(tmp_path)
    obs = np.full((1, 3), 0.5, np.float32)
    found = checkpoint.settings(tmp_path)["scaling"]["obs"]
    inside = (obs - found["mean"]) / found["std"]
    settings = checkpoint.settings(tmp_path)
    bare = checkpoint.agent_of({name: x for name, x in settings.items() if name != "scaling"})
    np.testing.assert_allclose(agent.act(state, obs), bare.act(state, inside), rtol=1e-5)
    capsys.readouterr()
    script("evaluate", "--run", tmp_path, "--episodes", 3, trains=False)
    assert np.shape(json.loads(capsys.readouterr().out)["episodes"]) == (1, 3)


@pytest.mark.slow
def test_more_steps_continue(script, tmp_path, data):
    flags = (*TINY, "--dataset", data, "--normalize-obs", "--num-seeds", 1)
    script("td3_bc", *flags, "--out", tmp_path / "a")
    script("td3_bc", *flags, "--out", tmp_path / "a", "--steps", 40)
    script("td3_bc", *flags, "--out", tmp_path / "b", "--steps", 40)
    scripts.assert_same_run(tmp_path / "a", tmp_path / "b")


def test_a_run_without_a_task_is_not_scored(script, tmp_path):
    path = rlds.write(tmp_path / "data", synthetic.episodes(3, 1), {})
    script("bc", *TINY, "--dataset", f"local/{path}", "--num-seeds", 1, "--out", tmp_path / "run")
    assert all("return" not in row for row in scripts.metrics(tmp_path / "run"))


@pytest.mark.slow
def test_blocks_are_split_over_a_mesh(script, tmp_path, data):
    flags = (*TINY, "--dataset", data, "--num-seeds", 1, "--seeds", "vmap", "--blocks", 4)
    script("bc", *flags, "--out", tmp_path / "one")
    script("bc", *flags, "--out", tmp_path / "four", "--mesh.data", 4)
    one, four = (scripts.metrics(tmp_path / name)[-1] for name in ("one", "four"))
    np.testing.assert_allclose(one["imitation_loss"], four["imitation_loss"], rtol=1e-4)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--dataset", "jaxrl/pendulm"), "near names: pendulum-mixed-v0"),
        (("--dataset", "pendulum"), "expected SOURCE/NAME"),
        (("--dataset", "local/nowhere"), "nowhere"),
        (("--env", "jaxrl/CartPole-v1"), "observations and actions have shapes"),
        (("--top-fraction", 2), "top_fraction: found 2"),
        (("--sampling", "return_weighted", "--sampling-temperature", 0), "temperature: found 0"),
        (("--clip-actions", -1), "limit: found -1"),
        (("--blocks", 3), "does not split into 3 blocks"),
        (("--mesh.data", 3, "--seeds", "vmap"), "--blocks must be a multiple"),
        (("--agent.expectile", 1.5), "expectile: found 1.5"),
    ],
)
def test_bad_input(refused, tmp_path, data, flags, said):
    out = tmp_path / "run"
    flags = (*TINY, "--num-seeds", 1, "--out", out, "--dataset", data, *flags)
    assert said in refused("iql", *flags)
    assert not (out / "metrics.jsonl").exists()


@pytest.mark.parametrize("name", SCRIPTS)
def test_presets_follow_the_dataset(name):
    presets = runpy.run_path(str(scripts.ROOT / "experiments" / f"{name}.py"))["PRESETS"]
    datasets = {
        "jaxrl/pendulum-mixed-v0": 20,
        "tfds/d4rl_mujoco_halfcheetah/v2-medium": 10,
        "minari/D4RL/antmaze/umaze-v1": 100,
        "ogbench/cube-single-play-v0": 50,
        "local/data": 10,
    }
    for dataset, episodes in datasets.items():
        found = experiment.preset(presets, ["--dataset", dataset], by="dataset")
        assert (found.dataset, found.episodes) == (dataset, episodes)


def test_the_default_dataset_is_of_its_task():
    source, env = sources.find("jaxrl/pendulum-mixed-v0"), envs.make("jaxrl/Pendulum-v1")
    assert isinstance(env.spec, Spec) and source.spec.obs.shape == env.spec.obs.shape
