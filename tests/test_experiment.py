import os
from dataclasses import dataclass

import pytest

from jaxrl import envs, experiment
from jaxrl.agents import sac
from jaxrl.loops import off_policy

DEVICES = "--xla_force_host_platform_device_count=8"
THEIRS = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1024"


@pytest.mark.parametrize("flags", ["", DEVICES])
def test_small_loops_are_compiled_whole_beside_other_flags(flags, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    experiment.compile_small_loops()
    once = os.environ["XLA_FLAGS"]
    experiment.compile_small_loops()
    assert os.environ["XLA_FLAGS"] == once
    assert once.split()[:-1] == flags.split()
    assert once.endswith("xla_cpu_small_while_loop_byte_threshold=262144")


@pytest.mark.parametrize("flags", [THEIRS, "/etc/xla.flags"])
def test_extra_options_and_a_file_of_the_user_stay(flags, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    experiment.compile_small_loops()
    assert os.environ["XLA_FLAGS"] == flags


@dataclass(frozen=True)
class Config(experiment.Config):
    agent: sac.Config = sac.Config()
    loop: off_policy.Config = off_policy.Config()


@pytest.mark.parametrize(
    "steps, envs_, said", [(399, 1, True), (400, 1, False), (396, 4, True), (397, 4, False)]
)
def test_a_run_within_its_warm_up_says_that_it_learns_nothing(steps, envs_, said, capsys):
    env = envs.make("jaxrl/Pendulum-v1")
    config = Config(steps=steps, blocks=1, loop=off_policy.Config(warmup=400, envs=envs_))
    experiment.off_policy_loop(config, sac.make(env.spec, config.agent), env)
    words = f"nothing is learned in {steps} steps; updates begin at loop.warmup 400"
    assert (words in capsys.readouterr().err) == said
