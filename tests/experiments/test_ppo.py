"""The PPO script: its presets, its files, and what it says to bad input."""

import json
import math
import runpy

import numpy as np
import pytest

from jaxrl import checkpoint, experiment
from tests import scripts

TINY = (
    *("--steps", "64", "--loop.envs", "4", "--loop.steps", "8", "--loop.report-every", "32"),
    *("--agent.hidden", "8", "--agent.minibatches", "2", "--agent.epochs", "1", "--episodes", "2"),
    *("--num-seeds", "1", "--cache", "None"),
)


def test_a_run_and_its_schedule(script, tmp_path):
    script("ppo", *TINY, "--out", tmp_path)
    assert [row["step"] for row in scripts.metrics(tmp_path)] == [32, 64]
    settings = checkpoint.settings(tmp_path)
    assert settings["agent"]["total_updates"] == 2 and settings["agent"]["blocks"] == 4
    assert settings["env"] == "jaxrl/CartPole-v1"


def test_more_steps_than_the_schedule_knows_are_refused(script, refused, tmp_path):
    script("ppo", *TINY, "--out", tmp_path)
    said = refused("ppo", *TINY, "--out", tmp_path, "--steps", 128)
    assert "agent.total_updates: found 2" in said and "asked for 4" in said


def test_squashed_actions_are_squashed_at_evaluation_too(script, tmp_path):
    flags = ("--env", "jaxrl/Pendulum-v1", *TINY, "--agent.squash", "--out", tmp_path)
    script("ppo", *flags)
    out, _ = scripts.run("evaluate", "--run", tmp_path, "--episodes", 2)
    result = json.loads(out)
    assert np.shape(result["episodes"]) == (1, 2) and math.isfinite(result["return_mean"])


@pytest.mark.parametrize(
    "env, minibatch, actor",
    [
        ("brax/ant", 2048 * 5, (32,) * 4),  # brax's batch_size times unroll_length
        ("playground/CartpoleBalance", 1024 * 30, (32,) * 4),
        ("playground/BarkourJoystick", 256 * 20, (128,) * 4),
        ("playground/Go1JoystickFlatTerrain", 256 * 20, (512, 256, 128)),
        ("playground/G1JoystickRoughTerrain", 256 * 20, (512, 256, 128)),
        ("gymnasium/Hopper-v5", 64, (64, 64)),
        ("gymnasium/CartPole-v1", 256, (64, 64)),
    ],
)
def test_presets_take_minibatches_of_the_published_size(env, minibatch, actor):
    presets = runpy.run_path(str(scripts.ROOT / "experiments" / "ppo.py"))["PRESETS"]
    found = experiment.preset(presets, ["--env", env])
    assert found.loop.iteration_steps == minibatch * found.agent.minibatches
    assert found.loop.report_every % found.loop.iteration_steps == 0
    assert found.agent.hidden == actor


def test_bad_input(refused, tmp_path):
    for flags, said in [
        (("--agent.minibatches", 3), "minibatches: found 3, which does not divide 8 samples"),
        (("--agent.gae-lambda", 2), "gae_lambda: found 2"),
        (("--env", "gymnasium/HalfCheetah-v5", "--agent.squash"), "squash: found HostEnv"),
    ]:
        assert said in refused("ppo", *TINY, "--out", tmp_path / "run", *flags)
