"""The SAC script as a user meets it: what it writes, and what it says to bad input."""

import json
import shutil
import signal
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import checkpoint, envs, loops, paths, session
from jaxrl.loops import loop
from tests import scripts

TINY = (
    *("--steps", "40", "--loop.report-every", "20", "--loop.warmup", "16", "--loop.batch-size"),
    *("8", "--loop.capacity", "64", "--agent.hidden", "8", "--episodes", "2", "--cache", "None"),
)


@pytest.fixture
def sac(script):
    return partial(script, "sac")


def test_files_of_a_run(sac, tmp_path, capsys):
    sac(*TINY, "--out", tmp_path, "--num-seeds", 2, "--video", "--writers", "tensorboard")
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"config.json", "metrics.jsonl", "curve.png", "checkpoints", "rollout.gif"}
    rows = scripts.metrics(tmp_path)
    assert [row["step"] for row in rows] == [20, 40]
    assert all(len(row["return"]) == 2 for row in rows)
    assert {"td_error", "temperature", "updates_per_second", "seconds"} <= rows[-1].keys()
    assert any((tmp_path / "tensorboard").iterdir())
    settings = checkpoint.settings(tmp_path)
    assert settings["agent"]["gamma"] == 0.99 and settings["starts"][0]["versions"]["jax"]
    agent, state = checkpoint.load(tmp_path, seed=1)
    assert int(state.step) == 25 and agent.act(state, jnp.zeros((1, 3))).shape == (1, 1)
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2 and out[0].startswith("step 20/40")  # not a terminal: plain lines


def test_seed_i_is_the_run_of_that_seed(sac, tmp_path):
    sac(*TINY, "--out", tmp_path / "both", "--num-seeds", 2, "--seed", 3)
    sac(*TINY, "--out", tmp_path / "one", "--num-seeds", 1, "--seed", 4)
    both, one = scripts.metrics(tmp_path / "both"), scripts.metrics(tmp_path / "one")
    assert [row["return"][1] for row in both] == [row["return"][0] for row in one]


def test_a_sweep_trains_every_combination_with_all_seeds(sac, tmp_path, capsys):
    out = tmp_path / "run"
    swept = ("--sweep.agent.gamma", 0.9, 0.99, "--sweep.agent.tau", 0.01, 0.02)
    sac(*TINY, *swept, "--num-seeds", 2, "--out", out)
    assert all(len(row["return"]) == 8 for row in scripts.metrics(out))
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gamma")]
    assert len(told) == 4 and told[1].startswith("gamma 0.9 tau 0.02: return -")
    assert [m["agent"]["gamma"] for m in checkpoint.members(checkpoint.settings(out))] == [
        *(0.9, 0.9, 0.99, 0.99)
    ]
    sac(*TINY, "--agent.gamma", 0.99, "--agent.tau", 0.01, "--seed", 1, "--num-seeds", 1,
        "--out", tmp_path / "alone")  # fmt: skip
    _, member = checkpoint.load(out, seed=1, member=2)
    _, alone = checkpoint.load(tmp_path / "alone", seed=1)
    for x, y in zip(jax.tree.leaves(member), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-3)


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--sweep.agent.gamma", 0.9, 0.9), "sweep: gamma names a value twice"),
        (("--sweep.agent.gamma", 0.9, 1.5), "gamma"),
        (("--sweep.agent.gamma", 0.9, 0.99, "--env", "gymnasium/Pendulum-v1"), "take one setting"),
    ],
)
def test_sweeps_that_cannot_be(refused, flags, message, tmp_path):
    assert message in refused("sac", *TINY, *flags, "--out", tmp_path)


@pytest.mark.slow
def test_more_steps_continue(sac, tmp_path):
    sac(*TINY, "--out", tmp_path / "a", "--num-seeds", 1)
    sac(*TINY, "--out", tmp_path / "a", "--num-seeds", 1, "--steps", 80)
    sac(*TINY, "--out", tmp_path / "b", "--num-seeds", 1, "--steps", 80)
    scripts.assert_same_run(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_a_run_stopped_between_reports_reports_the_same(sac, tmp_path, monkeypatch):
    flags = (*TINY, "--num-seeds", 2)
    monkeypatch.setattr(loop, "STRETCH", 8)
    sac(*flags, "--out", tmp_path / "b")
    train = loops.train
    monkeypatch.setattr(session.loops, "train", terminated(at=4, train=train))
    with pytest.raises(SystemExit) as exit:
        sac(*flags, "--out", tmp_path / "c")
    assert exit.value.code == 143
    monkeypatch.setattr(session.loops, "train", train)
    assert [row["step"] for row in scripts.metrics(tmp_path / "c")] == [20]
    sac(*flags, "--out", tmp_path / "c")
    scripts.assert_same_run(tmp_path / "b", tmp_path / "c")


def test_a_long_way_to_a_report_has_checkpoints_too(sac, tmp_path, monkeypatch):
    flags = (*TINY, "--num-seeds", 2)
    monkeypatch.setattr(loop, "STRETCH", 8)
    sac(*flags, "--out", tmp_path / "a")
    sac(*flags, "--out", tmp_path / "b", "--checkpoint-every", 0)
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "40")
    assert [path.name for path in (tmp_path / "b").glob("report-*")] == ["report-35.npz"]
    sac(*flags, "--out", tmp_path / "b")
    scripts.assert_same_run(tmp_path / "a", tmp_path / "b")


def terminated(at, train):
    """`loops.train` that receives SIGTERM when it asks the `at`-th time whether to pause."""
    asked = []

    def with_signal(*args):
        *args, pause, parts = args

        def asking():
            asked.append(True)
            if len(asked) == at:
                signal.raise_signal(signal.SIGTERM)
            return pause()

        return train(*args, asking, parts)

    return with_signal


def test_discrete_actions_choose_discrete_sac(sac, tmp_path):
    sac("--env", "gymnax/CartPole-v1", *TINY, "--num-seeds", 1, "--out", tmp_path)
    settings = checkpoint.settings(tmp_path)
    assert settings["algorithm"] == "sac_discrete" and settings["agent"]["target_entropy"] == 0.98
    agent, state = checkpoint.load(tmp_path)
    assert agent.act(state, jnp.zeros((2, 4))).dtype == jnp.int32


def test_a_complete_run_is_left_as_it_is(sac, tmp_path, capsys):
    sac(*TINY, "--out", tmp_path, "--num-seeds", 1)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.json*")}
    sac(*TINY, "--out", tmp_path, "--num-seeds", 1, "--steps", 20)
    assert before == {path: path.read_bytes() for path in tmp_path.glob("*.json*")}
    assert "is complete: it has 40 steps" in capsys.readouterr().err


def test_stops_at_a_return_and_stays_there(sac, tmp_path):
    for _ in range(2):
        sac(*TINY, "--out", tmp_path, "--num-seeds", 2, "--stop-at-return", -1e9)
        assert [row["step"] for row in scripts.metrics(tmp_path)] == [20]


def test_a_directory_has_one_run_at_a_time(refused, tmp_path):
    with paths.held(tmp_path):
        error = refused("sac", *TINY, "--num-seeds", 1, "--out", tmp_path)
    assert "another run is writing" in error and not (tmp_path / "metrics.jsonl").exists()


def test_devices_that_a_run_cannot_use_are_left_alone(sac, tmp_path, capsys):
    """Eight are there; two seeds can be spread over two."""
    sac(*TINY, "--out", tmp_path, "--num-seeds", 2, trains=False)
    assert "mesh: 2 of 8 devices" in capsys.readouterr().err
    assert len(scripts.metrics(tmp_path)) == 2


def test_another_configuration_is_refused(sac, refused, tmp_path):
    sac(*TINY, "--out", tmp_path, "--num-seeds", 1)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.json*")}
    error = refused("sac", *TINY, "--out", tmp_path, "--num-seeds", 1, "--agent.gamma", 0.5)
    assert "agent.gamma: found 0.99" in error and "asked for 0.5" in error
    assert "another --out" in error
    assert before == {path: path.read_bytes() for path in tmp_path.glob("*.json*")}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--env", "jaxrl/Pendulm-v1"), "near names: Pendulum-v1"),
        (("--env", "jaxrl/CartPole-v1", "--agent.target-entropy", -1), "target_entropy: found -1"),
        (("--steps", 0), "steps: found 0"),
        (("--num-seeds", 0), "num_seeds: found 0"),
        (("--loop.envs", -1), "loop.envs: found -1"),
        (("--loop.capacity", 0), "capacity: found 0"),
        (("--loop.batch-size", 17), "at most 16, which replay holds when updates begin"),
        (("--blocks", 3), "does not split into 3 blocks"),
        (("--agent.gamma", 1.5), "gamma: found 1.5"),
        (("--loop.capacity", 10**13), "bytes"),
        (("--mesh.data", 99), "99 devices"),
        (("--video", "--env", f"{__name__}:undrawn"), "undrawn cannot be drawn"),
        (("--video", "--env", "gymnasium/Pendulum-v1"), "Pendulum-v1 cannot be drawn"),
    ],
)
def test_bad_input(refused, tmp_path, flags, said):
    out = tmp_path / "run"
    assert said in refused("sac", *TINY, "--num-seeds", 1, "--out", out, *flags)
    assert not (out / "metrics.jsonl").exists()


def undrawn():
    """A pendulum without pictures."""
    return envs.make("jaxrl/Pendulum-v1")._replace(render=None)


def broken():
    """A pendulum whose reward is not a number from the tenth step of an episode on."""
    env = envs.make("jaxrl/Pendulum-v1")

    def step(state, action, key):
        now = env.step(state, action, key)
        return now._replace(reward=jnp.where(state.time >= 10, jnp.nan, now.reward))

    return env._replace(step=step)


def test_non_finite_environment(refused, tmp_path):
    flags = ("--env", f"{__name__}:broken", *TINY, "--out", tmp_path, "--num-seeds", 1)
    error = refused("sac", *flags)
    assert "non-finite observation or reward at step 10" in error and "broken" in error
    saved = scripts.arrays(tmp_path, "failed")
    assert all(np.isfinite(x).all() for name, x in saved.items() if "actor" in name)


def test_an_agent_that_diverges_is_named_and_not_its_environment(refused, tmp_path):
    flags = (*TINY, "--out", tmp_path, "--num-seeds", 2, "--agent.learning-rate", 1e30)
    error = refused("sac", *flags)
    assert error.startswith("error: agent: ") and "critic_loss" in error and "failed" in error


def test_a_member_that_diverges_does_not_end_the_others(sac, tmp_path, capsys):
    sac(*TINY, "--out", tmp_path, "--num-seeds", 1, "--sweep.agent.learning-rate", 1e-3, 1e30)
    rows = scripts.metrics(tmp_path)
    assert [row["step"] for row in rows] == [20, 40]
    assert np.isfinite([row["critic_loss"][0] for row in rows]).all()
    assert "in run 1 of 2" in capsys.readouterr().err


def test_a_directory_that_cannot_be_made_is_refused(refused, tmp_path):
    (tmp_path / "file").touch()
    error = refused("sac", *TINY, "--num-seeds", 1, "--out", tmp_path / "file")
    assert "cannot make the directory" in error


def test_another_task_of_other_shapes_is_refused(sac, refused, tmp_path):
    sac(*TINY, "--out", tmp_path, "--num-seeds", 1)
    flags = ("--run", tmp_path, "--env", "jaxrl/CartPole-v1")
    assert "have shapes" in refused("evaluate", *flags, trains=False)


def test_evaluate_script(sac, tmp_path):
    sac(*TINY, "--out", tmp_path, "--num-seeds", 2)
    out, _ = scripts.run("evaluate", "--run", tmp_path, "--episodes", 3)
    result = json.loads(out)
    assert np.shape(result["episodes"]) == (2, 3)
    np.testing.assert_allclose(result["return"], np.mean(result["episodes"], 1), rtol=1e-6)
    assert jax.local_device_count() == 8  # the script had a process of its own
