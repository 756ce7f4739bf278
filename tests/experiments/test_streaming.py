"""`--stream`: a dataset read in pools, as a user meets it."""

import numpy as np
import pytest

from jaxrl import checkpoint
from jaxrl.data.sources import rlds
from tests import scripts
from tests.data import synthetic

TINY = (
    *("--steps", 20, "--loop.report-every", 10, "--loop.batch-size", 8, "--agent.hidden", 8, 8, 8),
    *("--cache", "None", "--num-seeds", 1, "--blocks", 2, "--stream", 30),
)
KILLED = ("--steps", 1500, "--loop.report-every", 100, "--checkpoint-every", 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Synthetic episodes of no task, as a name."""
    path = tmp_path_factory.mktemp("data") / "walk"
    return f"local/{rlds.write(path, synthetic.episodes(3, 1) * 4, {})}"


def test_more_steps_continue_bit_equal(script, tmp_path, data):
    flags = (*TINY, "--dataset", data, "--normalize-obs", "--reward", "locomotion")
    script("bc", *flags, "--out", tmp_path / "a")
    script("bc", *flags, "--out", tmp_path / "a", "--steps", 40)
    script("bc", *flags, "--out", tmp_path / "b", "--steps", 40)
    scripts.assert_same_run(tmp_path / "a", tmp_path / "b")
    assert checkpoint.settings(tmp_path / "a")["stream"] == 30


def test_the_scaling_is_that_of_the_dataset_in_memory(script, tmp_path, data):
    flags = (*TINY, "--dataset", data, "--normalize-obs", "--reward", "locomotion")
    flags = (*flags, "--top-fraction", 0.5, "--steps", 10)
    for stream in (0, 30):
        script("bc", *flags, "--stream", stream, "--out", tmp_path / str(stream))
    memory, stream = (checkpoint.settings(tmp_path / name)["scaling"] for name in ("0", "30"))
    np.testing.assert_allclose(memory["obs"]["mean"], stream["obs"]["mean"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(memory["obs"]["std"], stream["obs"]["std"], rtol=1e-4)
    np.testing.assert_allclose(memory["reward"]["scale"], stream["reward"]["scale"], rtol=1e-5)


@pytest.mark.slow
def test_killed_at_two_moments_ends_bit_equal(tmp_path, data):
    flags = (*TINY, *KILLED, "--dataset", data, "--agent.calibrated")
    scripts.run("cql", *flags, "--out", tmp_path / "whole")
    for reports in (2, 9):
        process = scripts.start("cql", *flags, "--out", tmp_path / "run")
        scripts.wait_for(process, tmp_path / "run", reports)
        scripts.kill(process)
    scripts.run("cql", *flags, "--out", tmp_path / "run")
    scripts.assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_pools_are_split_over_a_mesh(script, tmp_path, data):
    flags = (*TINY, "--dataset", data, "--seeds", "vmap", "--blocks", 4, "--stream", 60)
    script("bc", *flags, "--out", tmp_path / "one")
    script("bc", *flags, "--out", tmp_path / "four", "--mesh.data", 4)
    one, four = (scripts.metrics(tmp_path / name)[-1] for name in ("one", "four"))
    np.testing.assert_allclose(one["imitation_loss"], four["imitation_loss"], rtol=1e-4)


@pytest.mark.parametrize(
    ("script", "flags", "said"),
    [
        ("bc", ("--dataset", "jaxrl/pendulum-mixed-v0"), "cannot be read at random"),
        ("bc", ("--sampling", "return_weighted"), "sampling return_weighted"),
        ("bc", ("--stream", 3), "stream: found 3, expected at least 13 for 2 blocks"),
        ("bc", ("--stream", -1), "stream: found -1"),
        ("bc", ("--mesh.data", 4, "--seeds", "vmap"), "--blocks must be a multiple"),
        ("decision_transformer", ("--agent.context", 2), "stream: this agent draws windows"),
    ],
)
def test_bad_input(refused, tmp_path, data, script, flags, said):
    out = tmp_path / "run"
    if script == "decision_transformer":
        flags = (*("--steps", 20, "--num-seeds", 1, "--blocks", 2, "--stream", 30), *flags)
    else:
        flags = (*TINY, *flags)
    assert said in refused(script, "--out", out, "--dataset", data, *flags)
    assert not (out / "metrics.jsonl").exists()
